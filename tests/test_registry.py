"""The pack meets the Comfy registry's rules."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from registry import ROOT, metadata, security  # noqa: E402


def copy(tmp_path: Path, **changes: str) -> Path:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    for name in ("LICENSE", "CHANGELOG.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_the_metadata_is_complete() -> None:
    assert list(metadata()) == []


def test_one_version_everywhere() -> None:
    from facecrafter_core import __version__

    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_no_forbidden_call_is_shipped() -> None:
    assert list(security()) == []


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    root = copy(tmp_path, name=('name = "facecrafter"', 'name = "ComfyUI--facecrafter"'), system=("Operating System :: OS Independent", "Operating System :: DOS"))
    wrong = "\n".join(metadata(root))
    assert "name: expected less than 100" in wrong and "classifiers: expected operating systems" in wrong


def test_forbidden_calls_are_found(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("import pickle\nexec('1')\n")
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes/a.py").write_text("import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])\n")
    assert len(list(security(tmp_path))) == 3
