"""Meshes on the graphics card, normals, and the shadow light's matrices."""

from __future__ import annotations

import moderngl
import numpy as np


class MeshBuffers:
    """Buffers of one mesh: surface (position, normal) written often, rest positions once a person, uv and triangles once."""

    def __init__(
        self,
        context: moderngl.Context,
        count: int,
        uv: np.ndarray,
        triangles: np.ndarray,
        program: moderngl.Program,
        shadow_program: moderngl.Program,
    ) -> None:
        self.surface = context.buffer(reserve=count * 24, dynamic=True)
        self.rest = context.buffer(reserve=count * 12, dynamic=True)
        uv_buffer = context.buffer(np.ascontiguousarray(uv, np.float32).tobytes())
        index = context.buffer(np.ascontiguousarray(triangles, np.int32).tobytes())
        content = [(self.surface, "3f 3f", "position", "normal"), (uv_buffer, "2f", "uv"), (self.rest, "3f", "rest")]
        self.draw = context.vertex_array(program, content, index, skip_errors=True)
        self.shadow = context.vertex_array(shadow_program, content, index, skip_errors=True)

    def set_surface(self, position: np.ndarray, normal: np.ndarray) -> None:
        self.surface.write(np.concatenate([position, normal], 1, dtype=np.float32))

    def set_rest(self, rest: np.ndarray) -> None:
        self.rest.write(np.ascontiguousarray(rest, np.float32))


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals: float32 [V, 3]."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    u, v = b - a, c - a
    cross = [(1, 2), (2, 0), (0, 1)]  # written out: several times faster here than np.cross
    face = np.stack([u[:, i] * v[:, j] - u[:, j] * v[:, i] for i, j in cross], 1)
    corner = triangles.ravel(order="F")
    sums = np.stack([np.bincount(corner, np.tile(face[:, k], 3), len(vertices)) for k in range(3)], 1).astype(
        np.float32
    )
    return sums / (np.sqrt((sums * sums).sum(1, keepdims=True)) + 1e-9)


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length one."""
    return vector / np.linalg.norm(vector)


def look(eye: np.ndarray, at: np.ndarray) -> np.ndarray:
    """World -> view from `eye` towards `at`: float32 [4, 4]."""
    forward = unit(at - eye)
    right = unit(np.cross(forward, np.array([0.0, 1.0, 0.02])))
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = np.stack([right, np.cross(right, forward), -forward])
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


def orthographic(half: float, near: float, far: float) -> np.ndarray:
    """View -> clip for a square window of this half width: float32 [4, 4]."""
    matrix = np.diag([1 / half, 1 / half, -2 / (far - near), 1.0]).astype(np.float32)
    matrix[2, 3] = -(far + near) / (far - near)
    return matrix
