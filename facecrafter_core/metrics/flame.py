"""FLAME parameters that EMOCA v2 or SMIRK found in pictures, as Table 1 compares them: read from the user's files, never estimated here.

Both are for research only (FLAME's licence), so they run outside, on the plan's targets and on a row's pictures.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import MetricError
from .reading import Reading

NAMES = {
    "flame_expression": ("expression", "exp", "expcode", "expression_params"),
    "flame_pose": ("pose", "posecode", "pose_params"),
}
"""Reading -> what it is called in a file: here, by EMOCA v2 (50 expression numbers; 6 of pose: head and jaw, axis-angle), by SMIRK (50; 3)."""


def read_flame(path: Path, pictures: Sequence[str]) -> Reading:
    """FLAME parameters of pictures.

    Args:
        path: one of
            a .npz file with name [N], expression [N, E] and pose [N, P];
            a .csv file with columns name, expression_0 ..., pose_0 ..., in any order;
            a folder with NAME.npz for each picture (expression [E], pose [P]), or NAME/exp.npy and NAME/pose.npy as EMOCA's save_codes writes them.
        pictures: names without ending, in order.

    Returns:
        flame_expression [N, E] and flame_pose [N, P]; NaN for a picture that is not there (EMOCA found no face).

    Raises:
        MetricError: no such file, one that cannot be read, another layout, mixed lengths, or none of the pictures is in it.
    """
    if path.is_dir():
        one = {name: values for name in pictures if (values := _in_folder(path, name)) is not None}
    elif path.is_file() and path.suffix in (".npz", ".csv"):
        one = (_from_npz if path.suffix == ".npz" else _from_csv)(path)
    else:
        raise MetricError(f"Expected FLAME parameters in a folder, a .npz or a .csv file at {path}, found none.")
    there = [name for name in pictures if name in one]
    if not there:
        raise MetricError(f"Expected FLAME parameters for pictures such as {pictures[0]} in {path}, found none of the {len(pictures)}. The names must be those of the pictures.")
    out = {}
    for reading in NAMES:
        lengths = {one[name][reading].size for name in there}
        if len(lengths) > 1:
            raise MetricError(f"Expected as many {reading.removeprefix('flame_')} numbers for each picture in {path}, found {sorted(lengths)}.")
        out[reading] = np.full((len(pictures), lengths.pop()), np.nan, np.float32)
        for i, name in enumerate(pictures):
            if name in one:
                out[reading][i] = one[name][reading].ravel()
    return out


def _from_npz(path: Path) -> dict[str, Reading]:
    arrays = _load(path)
    found = _named(path, arrays.get)
    if "name" not in arrays or any(len(values) != len(arrays["name"]) for values in found.values()):
        raise MetricError(f"Expected as many names as parameters in {path}: name [N], expression [N, E], pose [N, P].")
    return {Path(str(name)).stem: {k: v[i] for k, v in found.items()} for i, name in enumerate(arrays["name"])}


def _from_csv(path: Path) -> dict[str, Reading]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MetricError(f"{path} is no .csv file that can be read ({error}). Write it again.") from error
    columns = list(rows[0]) if rows else []

    def numbers(row: dict[str, str], name: str) -> np.ndarray | None:
        own = [c for c in columns if c and c.rpartition("_")[0] == name and c.rpartition("_")[2].isdigit()]
        own.sort(key=lambda c: int(c.rpartition("_")[2]))  # a writer may sort by name, where expression_10 comes before expression_2
        try:
            return np.array([float(row[c]) for c in own], np.float32) if own else None
        except (ValueError, TypeError) as error:
            raise MetricError(f"Expected numbers in {path}, found a cell that is none ({error}).") from error

    if "name" not in columns:
        raise MetricError(f"Expected columns name, expression_0 ... and pose_0 ... in {path}, found {', '.join(map(str, columns[:4])) or 'no rows'}.")
    return {Path(row["name"]).stem: _named(path, lambda name, row=row: numbers(row, name)) for row in rows}


def _in_folder(folder: Path, name: str) -> Reading | None:
    if (folder / f"{name}.npz").is_file():
        return _named(folder / f"{name}.npz", _load(folder / f"{name}.npz").get)
    for own in (folder / name, folder / f"{name}00"):  # EMOCA counts the faces that it finds in a picture
        if own.is_dir():
            return _named(own, lambda key, own=own: _load(own / f"{key}.npy")[key] if (own / f"{key}.npy").is_file() else None)
    return None


def _load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name; the one of a .npy file by the file's."""
    try:
        found = np.load(path)
        if isinstance(found, np.ndarray):
            return {path.stem: found}
        with found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise MetricError(f"{path} is no file of numpy's arrays that can be read ({type(error).__name__}). Write it again.") from error


def _named(path: Path, get: Callable[[str], np.ndarray | None]) -> dict[str, np.ndarray]:
    """Each reading by the first of its names that is there."""
    out = {reading: next((found for name in names if (found := get(name)) is not None), None) for reading, names in NAMES.items()}
    if lacking := [names[0] for reading, names in NAMES.items() if out[reading] is None]:
        raise MetricError(f"Expected FLAME's expression and pose in {path}, found no {' and no '.join(lacking)}.")
    return out
