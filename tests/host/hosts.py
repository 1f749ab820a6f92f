"""ComfyUI installations that the host tests run on.

COMFYUI_PATH    one or several checkouts (separated as in PATH); without it ~/comfy/ComfyUI, if there is one
COMFYUI_PYTHON  the interpreter to run them with; without it the checkout's own .venv, venv or python_embeded, else this one

An interpreter counts if it can import what ComfyUI and FaceCrafter need; nothing is installed by the tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    *(
        "torch",
        "torchsde",
        "torchvision",
        "aiohttp",
        "yarl",
        "einops",
        "transformers",
        "safetensors",
        "sentencepiece",
        "alembic",
        "av",
    ),
    *("diffusers", "mediapipe", "cv2"),
)


@dataclass(frozen=True)
class Host:
    """A ComfyUI checkout, its version, and the interpreter for it (None: none found)."""

    path: Path
    version: str
    python: str | None
    why_not: str = ""

    def environment(self) -> dict[str, str]:
        return {**os.environ, "COMFYUI_PATH": str(self.path), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def hosts() -> list[Host]:
    """The installations to test, maybe none.

    Raises:
        FileNotFoundError: COMFYUI_PATH names a folder that is no checkout.
    """
    given = os.environ.get("COMFYUI_PATH")
    if not given:
        path = Path.home() / "comfy" / "ComfyUI"
        return [_host(path.resolve())] if (path / "main.py").is_file() else []
    paths = [Path(p).expanduser() for p in given.split(os.pathsep) if p]
    wrong = [str(path) for path in paths if not (path / "main.py").is_file()]
    if wrong:
        raise FileNotFoundError(f"COMFYUI_PATH names {', '.join(wrong)}: expected ComfyUI checkouts, found no main.py there.")
    return [_host(path.resolve()) for path in paths]


def any_host() -> Host:
    """An installation for the scripts beside the tests.

    Raises:
        SystemExit: there is none that can run.
    """
    host = next((h for h in hosts() if h.python), None)
    if host is None:
        raise SystemExit("There is no ComfyUI installation that can run: set COMFYUI_PATH (see tests/host/hosts.py).")
    return host


@lru_cache
def _host(path: Path) -> Host:
    text = (path / "comfyui_version.py").read_text() if (path / "comfyui_version.py").is_file() else ""
    found = re.search(r'__version__ = "([^"]+)"', text)
    candidates = [
        os.environ.get("COMFYUI_PYTHON"),
        path / ".venv" / "bin" / "python",
        path / "venv" / "bin" / "python",
        path / ".venv" / "Scripts" / "python.exe",
        path / "venv" / "Scripts" / "python.exe",
        path.parent / "python_embeded" / "python.exe",
        sys.executable,
    ]
    reasons = []
    for python in (str(c) for c in candidates if c and Path(c).is_file()):
        probe = f"import importlib.util as u; print(' '.join(m for m in {NEEDED} if u.find_spec(m) is None))"
        result = subprocess.run([python, "-c", probe], capture_output=True, text=True)
        if result.returncode == 0 and not result.stdout.strip():
            return Host(path, found.group(1) if found else "unknown", python)
        reasons.append(f"{python} lacks {result.stdout.strip() or result.stderr.strip()[-200:]}")
    return Host(path, found.group(1) if found else "unknown", None, "; ".join(reasons))
