"""Writing results: whole or not at all."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import OutputError

QUIET = 60
"""Seconds without a write after which a half-written file may be one that a killed process has left."""


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> Path:
    """Calls `write` with a temporary file beside `path`, which then takes the place of `path`; what was there stays until then.
    What killed processes have left of theirs is removed.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full. Nothing half-written is left.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; expected the name of a file to write.")
    temporary = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        with open(temporary, "wb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"Could not write {path}: {reason}. Nothing was changed there; free some space or choose another place.") from error
    finally:
        _remove(temporary)
    return path


def _remove_leftovers(path: Path) -> None:
    """Temporary files of `path` that nobody writes any more: their process does not run here, nor has one elsewhere written within QUIET."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.part*"):
        try:
            if time.time() - file.stat().st_mtime > QUIET and not _runs(int(file.name.rpartition(".part")[2])):
                _remove(file)
        except (OSError, ValueError):  # another process has removed it; or it is none of ours
            continue


def _runs(process: int) -> bool:
    if os.name == "nt":  # os.kill would end it; and Windows removes no file that is open
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder is not there or is a file: then neither is it
        return


def check_place(path: str | Path) -> None:
    """Before long work: can a picture be written to `path`? Writes nothing.

    Raises:
        OutputError: another ending than write_picture's, a folder, or a place in which nothing can be made.
    """
    _format(path)
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; expected the name of a file to write.")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise OutputError(f"Could not write {path}: {nearest} is no folder in which you may write. Choose another place.")


def write_picture(path: str | Path, picture: Any) -> Path:
    """A PIL image or uint8 [H, W, 3] -> PNG, JPEG or WebP, by the file's ending.

    Raises:
        OutputError: another ending, or see write_whole.
    """
    from PIL import Image

    kind = _format(path)
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    options = {"quality": 95} if kind != "PNG" else {}
    return write_whole(path, lambda file: image.save(file, format=kind, **options))


def _format(path: str | Path) -> str:
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    kind = formats.get(Path(path).suffix.lower())
    if kind is None:
        raise OutputError(f"Expected a picture file ending in {', '.join(formats)}, found {Path(path).name!r}.")
    return kind


def write_array(path: str | Path, array: np.ndarray) -> Path:
    """An array -> .npy.

    Raises:
        OutputError: see write_whole.
    """
    return write_whole(path, lambda file: np.save(file, array, allow_pickle=False))


def read_landmarks(path: str | Path) -> np.ndarray:
    """A .npy written by `facecrafter landmarks` -> float32 [478, 3] in units of the picture (0..1).

    Raises:
        LandmarkError: not there, not such a file, of another shape, or not finite.
    """
    from .errors import LandmarkError
    from .faces.landmarks import COUNT

    if not Path(path).is_file():
        raise LandmarkError(f"There is no landmark file at {path}.")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise LandmarkError(f"{path} is not a landmark file. Make one with `facecrafter landmarks PHOTO --out FILE.npy`.") from error
    if not isinstance(array, np.ndarray) or array.shape != (COUNT, 3) or not np.issubdtype(array.dtype, np.floating):
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise LandmarkError(f"Expected floats of shape [{COUNT}, 3] in {path}, found {found}.")
    if not np.isfinite(array).all():
        raise LandmarkError(f"The landmarks in {path} hold numbers that are not finite. Extract them again.")
    return array.astype(np.float32)
