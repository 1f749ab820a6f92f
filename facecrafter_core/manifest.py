"""manifest.csv of a balanced set: read as people and spreadsheets leave it, and gone on with.

Spreadsheets save with semicolons, decimal commas, a byte order mark or another encoding, and shorten numbers; a full disk cuts the last
row. All of these are read. The file is then written anew as it should be, with the columns that somebody added to it.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import OutputError
from .files import write_whole

SPREADSHEET_DIGITS, EXPONENT_DIGITS = 1e-14, 1e-5
"""How far a number may be off that a spreadsheet has saved: it keeps 15 digits, and shows six of those in 1.84467E+19."""


class Manifest:
    """The rows of a set that are written already.

    Args:
        path: of the file, which need not be there. wanted: path of a picture -> its row, of all pictures of the set.

    Raises:
        OutputError: it cannot be read or written, is no manifest, or lists pictures of another plan.
    """

    def __init__(self, path: Path, wanted: Mapping[str, Mapping[str, object]]) -> None:
        self.path, self.wanted = path, wanted
        columns = list(next(iter(wanted.values()), {}))
        before = _read(path)
        found, rows, ended = _parse(before, path)
        if rows and not ended and not _is(wanted.get(rows[-1]["path"]), rows[-1]):
            rows.pop()  # cut, as by a full disk
        self.columns = [*columns, *(name for name in found if name and name not in columns)]
        different = [row["path"] for row in rows if not _is(wanted.get(row["path"]), row)]
        if different:
            raise OutputError(f"{path.parent} holds pictures of another plan, such as {different[0][:80]}. Choose another folder, or remove it.")
        kept = {row["path"]: {**row, **wanted[row["path"]]} for row in rows}
        self.listed = set(kept)
        after = self._text([dict(zip(self.columns, self.columns, strict=True)), *kept.values()])
        if before and before != after:
            write_whole(path, lambda file: file.write(after))

    def append(self, name: str) -> None:
        """A row at the end, whole or not at all.

        Raises:
            OutputError: it cannot be written, as on a full disk.
        """
        try:
            size = self.path.stat().st_size if self.path.is_file() else 0
            header = [] if size else [dict(zip(self.columns, self.columns, strict=True))]
            with open(self.path, "ab", buffering=0) as file:
                try:
                    data = self._text([*header, self.wanted[name]])
                    if file.write(data) < len(data):
                        raise OSError("the disk is full")
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise OutputError(f"Could not write {self.path}: {error.strerror or error}. Finished pictures are kept; free some space and run again.") from error
        self.listed.add(name)

    def _text(self, rows: Sequence[Mapping[str, object]]) -> bytes:
        out = io.StringIO(newline="")
        csv.DictWriter(out, self.columns, extrasaction="ignore").writerows(rows)
        return out.getvalue().encode("utf-8")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise OutputError(f"Could not look into {path.parent.name[:80]}: {error.strerror or error}. Choose another folder.") from error


def _parse(data: bytes, path: Path) -> tuple[list[str], list[dict[str, str]], bool]:
    """-> (columns, rows, whether the last row has its end)."""
    text = _decode(data)
    if not any(end in text for end in "\r\n"):  # not even the header was written
        return [], [], True
    first = text.splitlines()[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [{name: value or "" for name, value in row.items() if name} for row in reader]
    except csv.Error as error:
        raise OutputError(f"{path} cannot be read as a table ({error}). Choose another folder, or remove it.") from error
    if "path" not in (reader.fieldnames or []):
        raise OutputError(f"{path} is no manifest of a balanced set: expected a column 'path', found {first[:80]!r}. Choose another folder, or remove it.")
    return list(reader.fieldnames), [row for row in rows if any(row.values())], text.endswith(("\n", "\r"))


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:  # what a manifest itself holds is ASCII; only added columns can differ
        return data.decode("cp1252", errors="replace")


def _is(wanted: Mapping[str, object] | None, row: Mapping[str, str]) -> bool:
    """Whether a row is the wanted one, as far as spreadsheets leave numbers alone."""
    return wanted is not None and all(_equal(str(value), row.get(name, "").strip()) for name, value in wanted.items())


def _equal(wanted: str, found: str) -> bool:
    if wanted == found:
        return True
    try:
        a, b = float(wanted), float(found.replace(",", "."))
    except ValueError:
        return False
    return math.isclose(a, b, rel_tol=EXPONENT_DIGITS if "e" in found.lower() else SPREADSHEET_DIGITS)
