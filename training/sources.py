"""Where training images come from: folders as their owners ship them, each listed as items in a stable order.

    people      one subfolder a person, any depth below it
    ffhq        images in numbered subfolders, or FFHQ's root with images1024x1024; each image is another person
    feed        FEED: one subfolder a subject, images or videos below it; the folder that holds a file names the expression
    mead        MEAD: SUBJECT/video/VIEW/EMOTION/LEVEL/CLIP.mp4, one frame a second
    manifest    a CSV or Parquet file with the columns path (of a picture or a video) and person, perhaps emotion (a name), perhaps valence
                and arousal (-1..1)
    webdataset  tar shards whose members KEY.jpg and KEY.json (or .cls, .txt) name the picture and the person, such as Arc2Face's
    synthetic   shards of training/synthetic/generate.py, with everything known

FEED's layout is not described in public, so "feed" assumes no more than subject folders. Linked folders are entered. Files and folders whose
names begin with a dot are left out everywhere; left_out says which other files are.

An item is a place, not a picture: items are small, can be sent to other processes, and are read there.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from facecrafter_core.errors import FaceCrafterError, PhotoError
from facecrafter_core.faces.photo import HEIF, load_photo, photo_from_bytes
from facecrafter_core.search import files_under
from training.data import TEST, VALIDATION

PICTURES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", *HEIF}
VIDEOS = {".mp4", ".mov", ".avi", ".mkv", ".webm"}
FFHQ_IMAGES = "images1024x1024"  # beside thumbnails and in-the-wild photos of the same people


class SourceError(FaceCrafterError):
    """A source cannot be used; the message says what was expected, what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image to come.

    Attributes:
        key: unique in the source. person: name within the source. path: file that holds it.
        place: frame of a video, row of a shard, or offset in a tar file; -1 for a picture file. size: bytes in a tar file.
        label: the owner's name for the emotion, or "". split: "train", "validation", "test", or "" (decided from the person).
        affect: the owner's valence and arousal, which replace the estimator's; None where the owner gives none.
    """

    key: str
    person: str
    path: str
    place: int = -1
    size: int = 0
    label: str = ""
    split: str = ""
    affect: tuple[float, float] | None = None


def open_source(folder: str | Path, kind: str = "auto") -> tuple[str, list[Item]]:
    """Lists a source.

    Args:
        kind: a name above, or "auto".

    Returns:
        the kind, and its items in a stable order.

    Raises:
        SourceError: nothing there, nothing in it, or its files have moved.
    """
    path = Path(os.path.expanduser(folder))
    if not is_text(str(path)):
        raise SourceError(f"Expected a path in UTF-8, found {readable(str(path))}. Rename it.")
    if not path.exists():
        raise SourceError(f"Expected images at {path}, found nothing there.")
    kind = guess(path) if kind == "auto" else kind
    if kind not in READERS:
        raise SourceError(f"Expected a kind of source out of {sorted(READERS)}, found {kind!r}.")
    if path.is_file() != (kind == "manifest") and not (kind == "webdataset" and path.suffix == ".tar"):
        expected = "a CSV or Parquet file" if kind == "manifest" else "a folder"
        raise SourceError(f"Expected {expected} for the kind {kind!r}, found {path}. Name another kind with --kind ({', '.join(sorted(READERS))}).")
    try:
        items = list(READERS[kind](path))
    except OSError as error:
        raise SourceError(f"{path} cannot be read as {kind!r}: {error.strerror or error}: {error.filename or path}.") from error
    if not items:
        raise SourceError(f"Expected images in {path}, read as {kind!r}, found none. Name its kind with --kind ({', '.join(sorted(READERS))}).")
    return kind, items


def guess(path: Path) -> str:
    """The kind of a source, from what lies in it.

    Raises:
        SourceError: it is a single picture or video.
    """
    if path.is_file():
        if _is(path, PICTURES | VIDEOS):
            raise SourceError(f"Expected a folder, a CSV or Parquet list or a tar file, found the single file {path}. Give its folder.")
        return "webdataset" if path.suffix == ".tar" else "manifest"
    if (path / "columns.json").is_file():
        return "synthetic"
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if any((f / "video").is_dir() for f in folders):  # before tar files: MEAD and FFHQ are downloaded as such, and some are left beside what was in them
        return "mead"
    if (path / FFHQ_IMAGES).is_dir() or (folders and all(_is_thousand(f) for f in folders)):
        return "ffhq"
    if _files(path, {".tar"}):
        return "webdataset"
    if not folders and any(_is(p, PICTURES) for p in path.iterdir()):
        return "ffhq"
    return "people"


def _is_thousand(folder: Path) -> bool:
    """FFHQ's folders are 00000, 01000, 02000, and so on, with pictures in them."""
    return folder.name.isdigit() and len(folder.name) == 5 and folder.name.endswith("000") and any(_is(p, PICTURES) for p in folder.iterdir())


def _is(path: Path, suffixes: set[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    """Files below a folder and its linked folders, in a stable order. Those in hidden folders are left out, and those whose names are no text."""
    return [p for p in _visible(folder) if _is(p, suffixes) and is_text(str(p)) and p.is_file()]


def _visible(folder: Path) -> list[Path]:
    """All files below a folder but hidden ones and those in hidden folders, in a stable order."""
    return sorted(p for p in files_under([folder]) if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def is_text(name: str) -> bool:
    """Whether a name is UTF-8, as manifests have to be; other bytes come from file systems of other times."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(name: str) -> str:
    """A name as it can be printed: bytes that are no UTF-8 are written as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def loose_files(path: Path, kind: str) -> list[Path]:
    """Pictures and videos beside the folders of people, of whom nobody knows whose they are: they are no items."""
    return sorted(p for p in path.iterdir() if _is(p, PICTURES | VIDEOS)) if kind in ("people", "feed") else []


def left_out(path: Path, kind: str, items: Sequence[Item]) -> list[Path]:
    """All files below a source's folder of which no item came, hidden ones aside; none where the source is a list or has a form of its own."""
    if kind not in ("people", "feed", "ffhq", "mead", "webdataset") or not path.is_dir():
        return []
    taken = {item.path for item in items}
    return [file for file in _visible(path) if str(file) not in taken]


def load(item: Item) -> np.ndarray:
    """The picture of an item, uint8 [H, W, 3], RGB.

    Raises:
        PhotoError: it cannot be read.
    """
    path = Path(item.path)
    if path.suffix.lower() in VIDEOS:
        return _frame(path, item.place)
    if path.suffix.lower() == ".tar":
        return _member(item)
    if path.suffix == ".npy":
        return np.asarray(shard(str(path))[item.place])
    return load_photo(path)


@lru_cache(maxsize=16)
def shard(path: str) -> np.ndarray:
    """A memory-mapped array of the generator."""
    return np.load(path, mmap_mode="r")


def _member(item: Item) -> np.ndarray:
    """A picture inside a tar file."""
    try:
        with open(item.path, "rb") as file:
            file.seek(item.place)
            data = file.read(item.size)
    except OSError as error:
        raise PhotoError(f"{item.key} cannot be read: {error.strerror or error}.") from error
    return photo_from_bytes(data, item.key)


def _people(path: Path) -> Iterator[Item]:
    for person in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        for file in _files(person, PICTURES | VIDEOS):
            key = str(file.relative_to(path))
            if _is(file, PICTURES):
                yield Item(key, person.name, str(file))
            else:
                yield from _seconds(file, key, person.name)


def _feed(path: Path) -> Iterator[Item]:
    for item in _people(path):
        folder = Path(item.path).parent.name
        yield replace(item, label=folder) if folder != item.person else item


def _ffhq(path: Path) -> Iterator[Item]:
    path = path / FFHQ_IMAGES if (path / FFHQ_IMAGES).is_dir() else path
    for file in _files(path, PICTURES):
        key = str(file.relative_to(path))
        yield Item(key, key, str(file))


def _mead(path: Path) -> Iterator[Item]:
    for file in _files(path, VIDEOS):
        parts = file.relative_to(path).parts
        emotion = parts[-3] if len(parts) >= 5 else ""
        yield from _seconds(file, str(file.relative_to(path)), parts[0], emotion)


def _seconds(file: Path, key: str, person: str, label: str = "") -> Iterator[Item]:
    """One frame of each second, the first after half a second. A video that cannot be opened is listed too, so that it is reported."""
    import cv2

    video = cv2.VideoCapture(str(file))
    rate, frames = video.get(cv2.CAP_PROP_FPS) or 0, int(video.get(cv2.CAP_PROP_FRAME_COUNT) or 0)
    if frames <= 0:  # browsers record WebM without its length
        frames = sum(1 for _ in iter(video.grab, False))
    video.release()
    if rate <= 0 or frames <= 0:
        yield Item(f"{key}#?", person, str(file), 0, label=label)
        return
    for frame in np.arange(rate / 2, frames, rate).astype(int) if frames > rate / 2 else [0]:
        yield Item(f"{key}#{frame}", person, str(file), int(frame), label=label)


def _frame(path: Path, frame: int) -> np.ndarray:
    import cv2

    video = cv2.VideoCapture(str(path))
    video.set(cv2.CAP_PROP_POS_FRAMES, frame)
    if round(video.get(cv2.CAP_PROP_POS_FRAMES)) != frame:  # a file without an index, in which nothing can be looked up
        video.release()
        video = cv2.VideoCapture(str(path))
        for _ in range(frame):
            video.grab()
    found, picture = video.read()
    video.release()
    if not found:
        raise PhotoError(f"Frame {frame} of the video {path.name} cannot be read; the file may be cut or in an unknown format.")
    return np.ascontiguousarray(picture[:, :, ::-1])


def _manifest(path: Path) -> Iterator[Item]:
    names, found = _table(path)
    if missing := [name for name in ("path", "person") if name not in names]:
        raise SourceError(f"Expected the columns path and person in {path.name}, found {names}; {missing[0]} is missing.")
    rows = [{name: "" if value is None else str(value).strip() for name, value in row.items()} for row in found]
    if empty := [i for i, row in enumerate(rows) if not row["path"] or not row["person"]]:
        raise SourceError(f"Expected a path and a person in every row of {path.name}, found {len(empty)} rows without, the first is row {empty[0] + 1}.")
    if twice := [name for name, count in Counter(row["path"] for row in rows).items() if count > 1]:
        raise SourceError(f"Expected each path once in {path.name}, found {len(twice)} several times, such as {twice[0]}. Keep one row of each.")
    files = [path.parent / row["path"] for row in rows]
    gone = [f for f in files if not f.is_file()]
    if gone:
        raise SourceError(f"{len(gone)} of the {len(files)} files named in {path.name} are not there, such as {gone[0]}. Paths are relative to the manifest's folder.")
    for row, file in zip(rows, files, strict=True):
        label, affect = row.get("emotion", ""), _affect(row, path)
        if _is(file, VIDEOS):
            yield from (replace(item, affect=affect) for item in _seconds(file, row["path"], row["person"], label))
        else:
            yield Item(row["path"], row["person"], str(file), label=label, affect=affect)


def _affect(row: dict[str, str], path: Path) -> tuple[float, float] | None:
    """Valence and arousal of a manifest's row; None where both are empty."""
    given = (row.get("valence", ""), row.get("arousal", ""))
    if given == ("", ""):
        return None
    try:
        valence, arousal = float(given[0]), float(given[1])
    except ValueError:
        valence = arousal = float("nan")
    if not (abs(valence) <= 1 and abs(arousal) <= 1):
        raise SourceError(f"Expected valence and arousal from -1 to 1, or both empty, for {row['path']} in {path.name}, found {given[0]!r} and {given[1]!r}.")
    return valence, arousal


def _table(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a CSV or Parquet file; people's names stay text, so that 007 is not 7."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
        else:
            text = dict.fromkeys(("path", "person", "emotion"), pyarrow.string())
            table = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=text))
        return table.column_names, table.to_pylist()  # names are decoded here: UnicodeDecodeError
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        found = ascii(str(error)[:200])  # which may quote the file, whatever is in it
        raise SourceError(f"{path} is no CSV or Parquet table that can be read ({found}).") from error


def _webdataset(path: Path) -> Iterator[Item]:
    for tar in [path] if path.is_file() else _files(path, {".tar"}):
        name = tar.name if path.is_file() else str(tar.relative_to(path))
        pictures, people, others = _members(tar)
        if others:
            print(f"{tar}: left out, no pictures: {len(others)} members, the first is {readable(others[0])}", flush=True)
        if pictures and not any(people.get(stem) or _folder(stem) for stem in pictures):
            raise SourceError(f"Expected a KEY.json, KEY.cls or KEY.txt beside each picture in {tar}, or a folder a person, found neither.")
        place = str(tar)
        for stem, (offset, size) in sorted(pictures.items()):
            key = f"{name}/{stem}"
            yield Item(key, people.get(stem) or _folder(stem) or key, place, offset, size)


def _folder(stem: str) -> str:
    """The folder of a tar member; "" at the root."""
    return Path(stem).parent.name


def _members(tar: Path) -> tuple[dict[str, tuple[int, int]], dict[str, str], list[str]]:
    """Offset and size of each picture, and each person's name, by the members' common stem: the path up to the file name's first dot. And the
    names of members that are neither, or no text."""
    pictures: dict[str, tuple[int, int]] = {}
    others: list[str] = []
    names: dict[str, dict[str, str]] = {}
    try:
        with tarfile.open(tar, "r:") as archive:  # uncompressed, so that pictures can be read by their offset
            for member in archive:
                path = Path(member.name)
                base, _, suffix = path.name.partition(".")
                stem, suffix = str(path.parent / base), suffix.lower()
                if not member.isfile() or not base:
                    continue
                if not is_text(member.name):
                    others.append(member.name)
                elif f".{suffix}" in PICTURES:
                    pictures[stem] = (member.offset_data, member.size)
                elif suffix in ("json", "cls", "txt"):
                    names.setdefault(stem, {})[suffix] = _person_of(archive.extractfile(member).read(), suffix)
                else:
                    others.append(member.name)
    except tarfile.TarError as error:
        raise SourceError(f"{tar} is no whole tar file ({error}). Download it again; compressed shards have to be decompressed first.") from error
    best = {stem: next((n[s] for s in ("json", "cls", "txt") if n.get(s)), "") for stem, n in names.items()}
    return pictures, best, others


def _person_of(data: bytes, suffix: str) -> str:
    """The person that a member names; "" where it names none."""
    text = data.decode("utf-8", "replace").strip()
    if suffix != "json":
        return text
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, lists in lists without end
        return ""
    if not isinstance(values, dict):
        return str(values) if isinstance(values, (str, int)) else ""
    return next((str(values[name]) for name in ("person", "identity", "id", "class", "label") if values.get(name) is not None), "")


def _synthetic(path: Path) -> Iterator[Item]:
    column = json.loads((path / "columns.json").read_text(encoding="utf-8")).index("person")
    for images in sorted(path.glob("images_*.npy")):
        people = shard(str(images.with_name(images.name.replace("images", "labels"))))[:, column].astype(int)
        for row, person in enumerate(people):
            split = "test" if person in TEST else "validation" if person in VALIDATION else "train"
            yield Item(f"{images.stem}#{row}", f"{person:06d}", str(images), row, split=split)


READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "people": _people, "feed": _feed, "ffhq": _ffhq, "mead": _mead, "manifest": _manifest, "webdataset": _webdataset, "synthetic": _synthetic,
}  # fmt: skip
