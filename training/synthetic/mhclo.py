"""MakeHuman's text formats: Wavefront meshes, .target files and .mhclo proxies (read from their documented syntax)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh whose corners carry texture coordinates.

    Attributes:
        vertices: float32 [V, 3].  corner_vertex: int32 [C], the vertex of each corner.
        uv: float32 [C, 2].  triangles: int32 [T, 3], indices of corners.
    """

    vertices: np.ndarray
    corner_vertex: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray


def read_obj(path: str | Path, groups: tuple[str, ...] | None = None) -> Mesh:
    """Reads a Wavefront file; faces with more than three corners become fans.

    Args:
        groups: keep the faces of these groups only (all when None).
    """
    vertices: list[list[float]] = []
    texture: list[list[float]] = []
    corners: dict[tuple[int, int], int] = {}
    triangles: list[tuple[int, int, int]] = []
    group = ""
    for line in Path(path).read_text(errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(x) for x in words[1:4]])
        elif words[0] == "vt":
            texture.append([float(x) for x in words[1:3]])
        elif words[0] == "g":
            group = words[1] if len(words) > 1 else ""
        elif words[0] == "f" and (groups is None or group in groups):
            ids = []
            for word in words[1:]:
                numbers = [int(x) if x else 1 for x in word.split("/")] + [1]
                ids.append(corners.setdefault((numbers[0] - 1, numbers[1] - 1), len(corners)))
            triangles += [(ids[0], ids[i], ids[i + 1]) for i in range(1, len(ids) - 1)]
    pairs = np.array(list(corners), np.int64).reshape(-1, 2)
    uv = np.array(texture, np.float32)[pairs[:, 1]] if texture else np.zeros((len(pairs), 2), np.float32)
    return Mesh(
        np.array(vertices, np.float32), pairs[:, 0].astype(np.int32), uv, np.array(triangles, np.int32).reshape(-1, 3)
    )


def read_target(text: str) -> tuple[np.ndarray, np.ndarray]:
    """A shape target: (vertex numbers int32 [N], displacements float32 [N, 3])."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    rows = [row for row in rows if len(row) == 4]
    index = np.array([int(row[0]) for row in rows], np.int32)
    return index, np.array([[float(x) for x in row[1:]] for row in rows], np.float32).reshape(-1, 3)


@dataclass(frozen=True)
class Fitting:
    """How a proxy's vertices hang on the base mesh.

    Attributes:
        reference: int32 [N, 3] base vertices.  weight: float32 [N, 3] their barycentric weights.
        offset: float32 [N, 3] added after scaling.  scale: float32 [3, 3], one row an axis: two base vertices and
        the distance along that axis at which the scale is one; a row of zeros means no scaling.
    """

    reference: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    scale: np.ndarray

    def fit(self, base_V3: np.ndarray) -> np.ndarray:
        """The proxy's vertices on this base: float32 [N, 3]."""
        factor = np.ones(3, np.float32)
        for axis, (first, second, distance) in enumerate(self.scale):
            if distance:
                factor[axis] = abs(base_V3[int(first), axis] - base_V3[int(second), axis]) / distance
        return np.einsum("nkc,nk->nc", base_V3[self.reference], self.weight) + self.offset * factor


@dataclass(frozen=True)
class Proxy:
    """A .mhclo file: its mesh file, its material file (or None) and its fitting."""

    mesh: Path
    material: Path | None
    fitting: Fitting


def read_mhclo(path: str | Path) -> Proxy:
    """Reads a .mhclo proxy.

    Raises:
        ValueError: no obj_file or no vertices in it.
    """
    path = Path(path)
    scale = np.zeros((3, 3), np.float32)
    rows: list[list[float]] = []
    mesh: Path | None = None
    material: Path | None = None
    in_vertices = False
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = words[0]
        if key == "obj_file":
            mesh = path.parent / words[1]
        elif key == "material":
            material = path.parent / words[1]
        elif key in ("x_scale", "y_scale", "z_scale"):
            scale["xyz".index(key[0])] = [float(x) for x in words[1:4]]
        elif key == "verts":
            in_vertices = True
        elif in_vertices:
            try:
                numbers = [float(x) for x in words]
            except ValueError:
                in_vertices = False
                continue
            if len(numbers) == 1:
                numbers = [numbers[0]] * 3 + [1, 0, 0]
            rows.append((numbers + [0, 0, 0])[:9])
    if mesh is None or not rows:
        raise ValueError(f"Expected a .mhclo proxy with obj_file and verts, found neither in {path.name}.")
    table = np.array(rows, np.float32)
    return Proxy(mesh, material, Fitting(table[:, :3].astype(np.int32), table[:, 3:6], table[:, 6:9], scale))


def diffuse_texture(material: Path | None) -> Path | None:
    """The diffuse texture that a .mhmat file names, when it is there."""
    if material is None or not material.is_file():
        return None
    for line in material.read_text(errors="replace").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "diffuseTexture":
            texture = material.parent / words[1]
            return texture if texture.is_file() else None
    return None
