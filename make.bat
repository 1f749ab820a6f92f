@echo off
rem make demo [photo.jpg] [second.jpg]   or   make test
setlocal
cd /d "%~dp0"
if not exist .venv\Scripts\python.exe (
  py -3 -c "import sys; sys.exit(sys.version_info < (3, 11))" || (echo FaceCrafter needs Python 3.11 or newer. & exit /b 1)
  py -3 -m venv .venv || exit /b 1
)
.venv\Scripts\python -c "import torch" 2>nul || .venv\Scripts\python -m pip install --quiet "torch>=2.4,<2.14" || exit /b 1
if "%1"=="test" (
  .venv\Scripts\python -m pip install --quiet --editable ".[demo,test]" || exit /b 1
  .venv\Scripts\python -m pytest --numprocesses 2
  exit /b
)
if "%1"=="demo" (
  .venv\Scripts\python -m pip install --quiet --editable ".[demo]" || exit /b 1
  if "%~3" neq "" (.venv\Scripts\facecrafter demo --out output --photo "%~2" --driving "%~3" & exit /b)
  if "%~2" neq "" (.venv\Scripts\facecrafter demo --out output --photo "%~2" & exit /b)
  .venv\Scripts\facecrafter demo --out output
  exit /b
)
echo Usage: make demo [photo.jpg] [second.jpg]   or   make test
exit /b 2
