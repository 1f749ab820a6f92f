"""The generator's assets folder: one base head, its shapes and actions, what is worn on it, and textures.

`pack.py` makes the folder from MakeHuman's CC0 asset files:

    head.npz        vertices [V, 3] (decimetres, y up, z out of the face, x to the person's left), corner_vertex,
                    uv, triangles, and two sparse tables "target" and "unit" (names, start, index, delta)
    proxies.npz     for each of hair, brows, lashes, eyes, teeth, tongue: mesh and fitting
    textures/       skins, irises and the proxies' textures
    assets.json     what there is
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .mhclo import Fitting

FORMAT = 1


@dataclass(frozen=True)
class Piece:
    """One proxy: triangles over corners, and how its vertices follow the base mesh.

    Attributes:
        corner_vertex: int32 [C].  uv: float32 [C, 2].  triangles: int32 [T, 3] of corners.
        texture: path under the assets folder.  brightness: mean linear grey level of its opaque texels.
    """

    name: str
    fitting: Fitting
    corner_vertex: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray
    texture: str
    brightness: float


@dataclass(frozen=True)
class Skin:
    """A skin texture: who it was made for, and its mean colour over the face (linear RGB)."""

    name: str
    texture: str
    sex: str
    age: str
    ancestry: str
    mean: tuple[float, float, float]


class Assets:
    """Everything in an assets folder except the pixels of the textures.

    Args:
        folder: an assets folder made by pack.py.

    Raises:
        ValueError: the folder is no assets folder of this format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        table = self.folder / "assets.json"
        if not table.is_file():
            raise ValueError(
                f"Expected an assets folder with assets.json, found none in {self.folder}. Make it with pack.py."
            )
        self.table = json.loads(table.read_text())
        if self.table.get("format") != FORMAT:
            raise ValueError(
                f"Expected assets format {FORMAT}, found {self.table.get('format')}. Make the folder again with pack.py."
            )
        with np.load(self.folder / "head.npz") as head:
            self.vertices: np.ndarray = head["vertices"].astype(np.float32)
            self.corner_vertex: np.ndarray = head["corner_vertex"]
            self.uv: np.ndarray = head["uv"]
            self.triangles: np.ndarray = head["triangles"]
            self.targets = _sparse(head, "target")
            self.actions = _sparse(head, "unit")
        with np.load(self.folder / "proxies.npz") as arrays:
            self.pieces = {name: _piece(name, row, arrays) for name, row in self.table["pieces"].items()}
        self.skins = {name: Skin(name=name, **row) for name, row in self.table["skins"].items()}
        self.iris: str = self.table["iris"]
        self.points: dict[str, list[int]] = self.table["points"]

    def names(self, kind: str) -> list[str]:
        """The pieces of one kind ("hair", "eyebrows", "eyelashes", "teeth"), sorted."""
        return sorted(name for name in self.pieces if name.startswith(kind + "/"))

    @cached_property
    def catalogue(self) -> Catalogue:
        """The names that people are made of."""
        kinds = ("hair", "eyebrows", "eyelashes", "teeth")
        skins = {s.name: (s.sex, s.age, s.ancestry) for s in self.skins.values()}
        return Catalogue(tuple(sorted(self.targets)), skins, {k: self.names(k) for k in kinds})


@dataclass(frozen=True)
class Catalogue:
    """Names only, so that people can be drawn without reading any mesh.

    Attributes:
        targets: all shape targets.  skins: name -> (sex, age, ancestry).
        pieces: kind -> names.
    """

    targets: tuple[str, ...]
    skins: dict[str, tuple[str, str, str]]
    pieces: dict[str, list[str]]


def _sparse(file: np.lib.npyio.NpzFile, kind: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names, start, index, delta = (file[f"{kind}_{part}"] for part in ("names", "start", "index", "delta"))
    delta = delta.astype(np.float32)
    return {
        str(name): (index[start[i] : start[i + 1]].astype(np.int64), delta[start[i] : start[i + 1]])
        for i, name in enumerate(names)
    }


def _piece(name: str, row: dict, arrays: np.lib.npyio.NpzFile) -> Piece:
    get = {
        key: arrays[f"{name}|{key}"]
        for key in ("reference", "weight", "offset", "scale", "corner_vertex", "uv", "triangles")
    }
    fitting = Fitting(
        *(
            get[key] if key == "reference" else get[key].astype(np.float32)
            for key in ("reference", "weight", "offset", "scale")
        )
    )
    return Piece(
        name,
        fitting,
        get["corner_vertex"],
        get["uv"].astype(np.float32),
        get["triangles"],
        row["texture"],
        row["brightness"],
    )
