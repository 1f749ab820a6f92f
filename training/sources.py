"""Where training images come from: folders as their owners ship them, each listed as items in a stable order.

    people      one subfolder a person, any depth below it
    ffhq        images in numbered subfolders; each image is another person
    feed        FEED: one subfolder a subject, images or videos below it
    mead        MEAD: SUBJECT/video/VIEW/EMOTION/LEVEL/CLIP.mp4, one frame a second
    manifest    a CSV or Parquet file with the columns path and person, and perhaps emotion
    webdataset  tar shards whose members KEY.jpg and KEY.json (or .cls, .txt) name the picture and the person, such as Arc2Face's
    synthetic   shards of training/synthetic/generate.py, with everything known

An item is a place, not a picture: items are small, can be sent to other processes, and are read there.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from facecrafter_core.errors import PhotoError
from facecrafter_core.faces.photo import load_photo
from training.data import TEST, VALIDATION

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".mov", ".avi", ".mkv", ".webm"}


class SourceError(ValueError):
    """A source cannot be used; the message says what was expected, what was found and what to do."""


@dataclass(frozen=True)
class Item:
    """One image to come.

    Attributes:
        key: unique in the source. person: name within the source. path: file that holds it.
        place: frame of a video, row of a shard, or offset in a tar file; -1 for a picture file. size: bytes in a tar file.
        label: the owner's name for the emotion, or "". split: "train", "validation", "test", or "" (decided from the person).
    """

    key: str
    person: str
    path: str
    place: int = -1
    size: int = 0
    label: str = ""
    split: str = ""


def open_source(folder: str | Path, kind: str = "auto") -> tuple[str, list[Item]]:
    """Lists a source.

    Args:
        kind: a name above, or "auto".

    Returns:
        the kind, and its items in a stable order.

    Raises:
        SourceError: nothing there, nothing in it, or its files have moved.
    """
    path = Path(folder).expanduser()
    if not path.exists():
        raise SourceError(f"Expected images at {path}, found nothing there.")
    kind = guess(path) if kind == "auto" else kind
    if kind not in READERS:
        raise SourceError(f"Expected a kind of source out of {sorted(READERS)}, found {kind!r}.")
    items = list(READERS[kind](path))
    if not items:
        raise SourceError(f"Expected images in {path}, read as {kind!r}, found none. Name its kind with --kind ({', '.join(sorted(READERS))}).")
    return kind, items


def guess(path: Path) -> str:
    """The kind of a source, from what lies in it."""
    if path.is_file():
        return "webdataset" if path.suffix == ".tar" else "manifest"
    if (path / "columns.json").is_file():
        return "synthetic"
    if any(path.glob("*.tar")):
        return "webdataset"
    folders = sorted(p for p in path.iterdir() if p.is_dir())
    if any((f / "video").is_dir() for f in folders):
        return "mead"
    if any(p.suffix.lower() in PICTURES for p in path.iterdir()) or (folders and all(f.name.isdigit() and len(f.name) == 5 for f in folders)):
        return "ffhq"
    return "people"


def load(item: Item) -> np.ndarray:
    """The picture of an item, uint8 [H, W, 3], RGB.

    Raises:
        PhotoError: it cannot be read.
    """
    path = Path(item.path)
    if path.suffix.lower() in VIDEOS:
        return _frame(path, item.place)
    if path.suffix == ".tar":
        from PIL import Image, UnidentifiedImageError

        with open(path, "rb") as file:
            file.seek(item.place)
            data = file.read(item.size)
        try:
            return load_photo(Image.open(io.BytesIO(data)))
        except (UnidentifiedImageError, OSError) as error:
            raise PhotoError(f"{item.key} in {path.name} is no picture that can be read ({error}).") from error
    if path.suffix == ".npy":
        return np.asarray(shard(str(path))[item.place])
    return load_photo(path)


@lru_cache(maxsize=16)
def shard(path: str) -> np.ndarray:
    """A memory-mapped array of the generator."""
    return np.load(path, mmap_mode="r")


def _people(path: Path) -> Iterator[Item]:
    for person in sorted(p for p in path.iterdir() if p.is_dir()):
        for file in sorted(p for p in person.rglob("*") if p.is_file()):
            key = str(file.relative_to(path))
            if file.suffix.lower() in PICTURES:
                yield Item(key, person.name, str(file))
            elif file.suffix.lower() in VIDEOS:
                yield from _seconds(file, key, person.name)


def _ffhq(path: Path) -> Iterator[Item]:
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES):
        key = str(file.relative_to(path))
        yield Item(key, key, str(file))


def _mead(path: Path) -> Iterator[Item]:
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEOS):
        parts = file.relative_to(path).parts
        emotion = parts[-3] if len(parts) >= 5 else ""
        yield from _seconds(file, str(file.relative_to(path)), parts[0], emotion)


def _seconds(file: Path, key: str, person: str, label: str = "") -> Iterator[Item]:
    """One frame of each second, the first after half a second. A video that cannot be opened is listed too, so that it is reported."""
    import cv2

    video = cv2.VideoCapture(str(file))
    rate, frames = video.get(cv2.CAP_PROP_FPS) or 0, int(video.get(cv2.CAP_PROP_FRAME_COUNT) or 0)
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
    found, picture = video.read()
    video.release()
    if not found:
        raise PhotoError(f"Frame {frame} of the video {path.name} cannot be read; the file may be cut or in an unknown format.")
    return np.ascontiguousarray(picture[:, :, ::-1])


def _manifest(path: Path) -> Iterator[Item]:
    import pyarrow.csv
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    except pyarrow.ArrowException as error:
        raise SourceError(f"{path} is no CSV or Parquet table that can be read ({error}).") from error
    if missing := [name for name in ("path", "person") if name not in table.column_names]:
        raise SourceError(f"Expected the columns path and person in {path.name}, found {table.column_names}; {missing[0]} is missing.")
    rows = table.to_pylist()
    files = [p if (p := Path(str(row["path"]))).is_absolute() else path.parent / p for row in rows]
    gone = [f for f in files if not f.is_file()]
    if gone:
        raise SourceError(f"{len(gone)} of the {len(files)} files named in {path.name} are not there, such as {gone[0]}. Paths are relative to the manifest's folder.")
    for row, file in zip(rows, files, strict=True):
        yield Item(str(row["path"]), str(row["person"]), str(file), label=str(row.get("emotion") or ""))


def _webdataset(path: Path) -> Iterator[Item]:
    for tar in [path] if path.is_file() else sorted(path.glob("*.tar")):
        pictures: dict[str, tuple[int, int]] = {}
        people: dict[str, str] = {}
        try:
            with tarfile.open(tar) as archive:
                for member in archive:
                    stem, _, suffix = member.name.partition(".")
                    if f".{suffix.lower()}" in PICTURES:
                        pictures[stem] = (member.offset_data, member.size)
                    elif suffix in ("json", "cls", "txt"):
                        people[stem] = _person_of(archive.extractfile(member).read(), suffix)
        except tarfile.TarError as error:
            raise SourceError(f"{tar} is no whole tar file ({error}). Download it again.") from error
        for stem, (offset, size) in sorted(pictures.items()):
            yield Item(f"{tar.name}/{stem}", people.get(stem) or str(Path(stem).parent), str(tar), offset, size)


def _person_of(data: bytes, suffix: str) -> str:
    text = data.decode("utf-8", "replace").strip()
    if suffix != "json":
        return text
    values = json.loads(text)
    return next((str(values[name]) for name in ("person", "identity", "id", "class", "label") if name in values), "")


def _synthetic(path: Path) -> Iterator[Item]:
    column = json.loads((path / "columns.json").read_text()).index("person")
    for images in sorted(path.glob("images_*.npy")):
        people = shard(str(images.with_name(images.name.replace("images", "labels"))))[:, column].astype(int)
        for row, person in enumerate(people):
            split = "test" if person in TEST else "validation" if person in VALIDATION else "train"
            yield Item(f"{images.stem}#{row}", f"{person:06d}", str(images), row, split=split)


READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "people": _people, "feed": _people, "ffhq": _ffhq, "mead": _mead, "manifest": _manifest, "webdataset": _webdataset, "synthetic": _synthetic,
}  # fmt: skip
