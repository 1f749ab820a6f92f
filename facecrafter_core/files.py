"""Writing results: whole or not at all."""

from __future__ import annotations

import csv
import errno
import glob
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import OutputError

QUIET = 60
"""Seconds without a write after which a half-written file may be one that a killed process has left."""


@contextmanager
def writing(place: str | Path, advice: str = "Nothing was changed there; free some space or choose another place.") -> Iterator[None]:
    """What any library raises because the operating system refuses a write becomes one sentence.

    Raises:
        OutputError: it names the place, and the operating system's reason.
    """
    try:
        yield
    except Exception as error:
        if (refused := _refused(error)) is None:
            raise
        raise OutputError(f"Could not write {place}: {refused.strerror or refused}. {advice}") from error


def _refused(error: BaseException | None) -> OSError | None:
    """The operating system's error behind an error: torch raises its own after it, safetensors gives its number in the text alone."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            return OSError(int(number[1]), os.strerror(int(number[1])))
        error = error.__cause__ or error.__context__
    return None


def check_room(folder: Path, needed: int, what: str, advice: str = "Free some space or choose another place.") -> None:
    """Before long work.

    Args:
        folder: which there is. needed: bytes. what: they are for.

    Raises:
        OutputError: the disk has less room than that.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(f"Expected {needed:,} free bytes in {folder} for {what}, found {free:,}. {advice}")


def append_line(path: Path, line: str) -> None:
    """A line at the end of a text file, whole or not at all. Half a line, which an older process has left, is ended first.

    Raises:
        OutputError: the disk is full, or the file cannot be written.
    """
    with writing(path, "What it held is kept; free some space."), open(path, "a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        data = (b"" if file.read(1) in (b"", b"\n") else b"\n") + line.encode() + b"\n"
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(end)
            raise


def write_folder(folder: str | Path, write: Callable[[Path], Any]) -> Path:
    """Calls `write` with a temporary folder; when it is done, its files take their places in `folder`, where other files stay.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full. Nothing half-written is left.
    """
    folder = Path(folder)
    temporary, new = folder / f".part{os.getpid()}", not folder.exists()
    try:
        with writing(folder):
            temporary.mkdir(parents=True, exist_ok=True)
            write(temporary)
            for file in sorted(p for p in temporary.rglob("*") if p.is_file()):
                place = folder / file.relative_to(temporary)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if new:
            with suppress(OSError):  # it is not empty, or was never made
                folder.rmdir()
    return folder


class _OwnFile(io.BufferedWriter):
    """A file that no library writes to past Python: Pillow does so where it gets the descriptor, and takes a part for the whole on a full disk."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("the descriptor is not given away")


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
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path)
            with _OwnFile(io.FileIO(temporary, "wb")) as file:
                write(file)
            os.replace(temporary, path)
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


def write_csv(path: str | Path, rows: Iterable[Iterable[Any]]) -> Path:
    """A table in UTF-8; what of a file's name is no text is escaped.

    Raises:
        OutputError: see write_whole.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return write_whole(path, lambda file: file.write(text.getvalue().encode(errors="backslashreplace")))


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
