"""Getting an asset: from its publisher, a mirror or a folder, through a file beside its place that takes its name only when it is right.

What has arrived stays in NAME.part when a connection breaks for good, and the next run goes on from there.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from . import __version__
from .assets import HUGGING_FACE, Archive, Asset
from .errors import AssetError, OutputError
from .files import check_room
from .search import files_under, search_folders, sha256, what_is_wrong

if TYPE_CHECKING:
    from tqdm import tqdm

TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as broken."""
TRIES = 5
"""How often in a row a source may break off without having sent anything more."""
PAUSE = 1.0
"""Seconds before the second try; doubles with each."""

_BLOCK = 1 << 20
_PASSING = (408, 425, 429)
_REFUSALS = {
    401: "asks for a login",
    403: "refuses access",
    404: "has no such file",
    407: "is behind a proxy that asks for a login (https_proxy=http://USER:PASSWORD@HOST:PORT)",
    410: "has no such file any more",
}


class _Refused(Exception):
    """A source is of no use; the reason goes on from its address. Another source may do."""


Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and, where it is known, their number in the end; what it raises stops the download, to be gone on with."""


@dataclass(frozen=True)
class _Wanted:
    """What is fetched: an asset's own file, or the archive that holds it. Without a hash, halves are not put together."""

    name: str
    size: int | None
    sha256: str | None
    progress: Progress | None = None


def download(
    asset: Asset, target: Path, mirror: str | None = None, offline: Path | None = None, progress: Progress | None = None, here: Path | None = None
) -> Path:
    """Puts an asset at `target`, whole and checked, or leaves `target` as it is.

    Args:
        mirror: address in place of https://huggingface.co; without it, HF_ENDPOINT's. Proxies are read from the environment.
        offline: a folder that holds the file or its zip, under any name where the hash is known; then nothing is fetched.
        progress: beside the bar on the terminal.
        here: where the asset lies on this machine already, to be copied from there.

    Raises:
        AssetError: it is not published, or no source gives it, or what they give is another file.
        OutputError: `target` cannot be written, or the disk is full.
    """
    if not asset.urls:
        raise AssetError(f"{asset.name} is not published yet, so there is nothing to download: {asset.purpose}.")
    if target.is_dir():
        raise OutputError(f"{target} is a folder; expected the place of a file. Move it away.")
    part = target.with_name(f"{target.name}.part")
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if target.is_file() and asset.sha256 and what_is_wrong(asset, target) is None:  # another process was first
                return target
            if offline is not None:
                _take(asset, Path(offline), part)
            elif here is not None:
                _copy(here, part, asset)
            elif asset.archive:
                _fetch_and_unpack(asset, asset.archive, part, mirror, progress)
            else:
                _fetch(asset, _Wanted(target.name, asset.size, asset.sha256, progress), part, mirror)
            os.replace(part, target)
    return target


def _take(asset: Asset, folder: Path, part: Path) -> None:
    """From the file, or the zip, among what lies in `folder`."""
    if not folder.is_dir():
        raise AssetError(f"Expected a folder with the files at {folder}, found none.")
    files = [path for path in files_under([folder]) if path.suffix not in (".part", ".lock")]
    source = _right(files, asset.size, asset.sha256, asset.file)
    zipped = _right(files, asset.archive.size, asset.archive.sha256, asset.archive.file) if asset.archive else None
    if source is not None:
        _copy(source, part, asset)
    elif asset.archive and zipped is not None:
        _unpack(asset, asset.archive, zipped, part)
    else:
        for path in files:
            if path.as_posix().endswith(f"/{asset.file}") and (trouble := what_is_wrong(asset, path)):
                raise AssetError(trouble)
        either = f"{asset.file} or {asset.archive.file}" if asset.archive else asset.file
        raise AssetError(f"Expected {either} in {folder}, found no file with its content. Put it there, from {asset.urls[0]}.")


def _fetch_and_unpack(asset: Asset, archive: Archive, part: Path, mirror: str | None, progress: Progress | None) -> None:
    """From a zip that is here already, or else by way of one beside `part`."""
    zipped = _right(files_under(search_folders()), archive.size, archive.sha256, archive.file)
    if zipped is not None:
        _unpack(asset, archive, zipped, part)
        return
    zipped = part.with_name(f"{archive.file}.part")
    _fetch(asset, _Wanted(archive.file, archive.size, archive.sha256, progress), zipped, mirror)
    try:
        _unpack(asset, archive, zipped, part)
    finally:
        zipped.unlink()


def _unpack(asset: Asset, archive: Archive, zipped: Path, part: Path) -> None:
    try:
        with zipfile.ZipFile(zipped) as opened, opened.open(archive.member) as source:
            _fill(part, source, asset)
    except (zipfile.BadZipFile, KeyError) as error:
        raise AssetError(f"Expected a zip with {archive.member}, found another file at {zipped}. Delete it and try again.") from error


def _copy(source: Path, part: Path, asset: Asset) -> None:
    with open(source, "rb") as opened:
        _fill(part, opened, asset)


def _fill(part: Path, source: IO[bytes], asset: Asset) -> None:
    """Copies a file that is on this machine and checks the copy; a wrong or incomplete one is not left."""
    try:
        with open(part, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
        if trouble := what_is_wrong(asset, part):
            raise AssetError(trouble)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _right(files: Iterable[Path], size: int | None, digest: str | None, name: str) -> Path | None:
    """The first file of that content; where the hash is not known, of that name."""
    for path in files:
        if digest is None and path.as_posix().endswith(f"/{name}"):
            return path
        if digest and path.is_file() and path.stat().st_size == size and sha256(path) == digest:
            return path
    return None


def _fetch(asset: Asset, wanted: _Wanted, part: Path, mirror: str | None) -> None:
    """Fills `part` from the first of the asset's sources that gives the right file."""
    reasons = []
    for url in asset.urls:
        url = _mirrored(url, mirror)
        try:
            return _fetch_from(url, wanted, part)
        except _Refused as reason:
            reasons.append(f"{url} {reason}")
    raise AssetError(
        f"Could not download {asset.name}: {'; '.join(reasons)}. "
        "Try again later, or get the file elsewhere and give its folder with --offline-folder."
    )


def _mirrored(url: str, mirror: str | None) -> str:
    endpoint = mirror or os.environ.get("HF_ENDPOINT") or HUGGING_FACE
    try:
        parts = urllib.parse.urlsplit(endpoint)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # such as half an IPv6 address
        fits = False
    if not fits:
        raise AssetError(f"Expected a mirror's address such as https://hf-mirror.com, found {endpoint!r}.")
    return endpoint.rstrip("/") + url.removeprefix(HUGGING_FACE) if url.startswith(f"{HUGGING_FACE}/") else url


def _fetch_from(url: str, wanted: _Wanted, part: Path) -> None:
    """Fills `part`, going on from what it holds, and checks it."""
    resumed = True
    while resumed:
        resumed = _fill_up(url, wanted, part)
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if wanted.sha256 in (None, found):
            return
        part.unlink()  # if what was here was of something else, it is fetched once more, from the start
    raise _Refused(f"gave another file than expected (sha256 {found[:12]}..., expected {str(wanted.sha256)[:12]}...)")


def _fill_up(url: str, wanted: _Wanted, part: Path) -> bool:
    """Makes `part` as long as it must be, over as many connections as it takes. True: it held something before."""
    from tqdm import tqdm

    try:
        with open(part, "ab") as file, tqdm(desc=wanted.name, total=wanted.size, unit="B", unit_scale=True, disable=None) as bar:
            if _length(file) > (wanted.size or 0):
                file.truncate(0)
            longest = before = _length(file)
            check_room(part.parent, (wanted.size or 0) - before, wanted.name)
            tries = 0
            while wanted.size is None or _length(file) < wanted.size:
                reason = _receive(url, wanted, file, bar)
                if reason is None:
                    break
                tries = 1 if _length(file) > longest else tries + 1
                longest = max(longest, _length(file))
                if tries >= TRIES:
                    raise _Refused(reason)
                time.sleep(min(PAUSE * 2 ** (tries - 1), 30))
            os.fsync(file.fileno())
    except BaseException:
        if part.is_file() and (wanted.sha256 is None or part.stat().st_size == 0):
            part.unlink()
        raise
    return before > 0


def _receive(url: str, wanted: _Wanted, file: BinaryIO, bar: tqdm) -> str | None:
    """Adds to `file` what one connection gives, or begins it anew where the server does not go on. None: the file is complete."""
    if wanted.sha256 is None:
        file.truncate(0)
    have = _length(file)
    headers = {"User-Agent": f"facecrafter/{__version__}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    announced = ""
    try:
        with urllib.request.build_opener().open(request, timeout=TIMEOUT) as response:
            if response.headers.get_content_type() == "text/html":
                raise _Refused("gave a web page in place of the file (a login, or a proxy's message)")
            if not (response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
                file.truncate(0)
            start, announced = _length(file), response.headers.get("Content-Length", "")
            while block := response.read1(_BLOCK):
                _write(file, block)
                bar.update(_length(file) - bar.n)
                if wanted.progress:
                    wanted.progress(_length(file), wanted.size)
                if wanted.size and _length(file) > wanted.size:
                    file.truncate(0)
                    raise _Refused(f"gave more than the {wanted.size:,} bytes that were expected")
    except urllib.error.HTTPError as error:
        if error.code == 416:  # it has no more than is here
            file.truncate(0)
        elif error.code < 500 and error.code not in _PASSING:
            reason = "redirects in circles" if error.code < 400 else _REFUSALS.get(error.code, "refuses the request")
            raise _Refused(f"{reason} (HTTP {error.code})") from error
        return f"answers HTTP {error.code}"
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        return f"broke off ({' '.join(reason.split())})"
    expected = wanted.size or (start + int(announced) if announced.isdecimal() else None)
    if expected in (None, _length(file)):
        return None
    return f"broke off after {_length(file):,} of {expected:,} bytes"


def _write(file: BinaryIO, block: bytes) -> None:
    """Keeps the disk's errors apart from the network's."""
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"Could not write {file.name}: {reason}. Free some space and run again; it goes on from there.") from error


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    """What the disk refuses becomes one sentence."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"Could not write {target}: {error.strerror or error}. Free some space or choose another folder.") from error


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Waits until no other process or thread fetches the same file. The system frees the lock of one that dies."""
    path = target.with_name(f".{target.name}.lock")
    while True:
        file = open(path, "ab")  # noqa: SIM115
        _lock(file, f"Another download of {target.name} is under way; waiting for it.")
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # the one before removed this one
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file: an empty one stays
            path.unlink()
        file.close()


def _lock(file: BinaryIO, message: str) -> None:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        while True:
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            except OSError as error:
                if error.errno != errno.EDEADLK:  # which is how msvcrt says that ten seconds were not enough
                    return
                print(message)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(message)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a file system without locks, such as some network drives
        return
