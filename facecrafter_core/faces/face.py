"""One face in a photo: its landmarks, its expression and its pose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Pose(NamedTuple):
    """Head angles in degrees. yaw > 0: the face turns to the picture's right. pitch > 0: it looks up. roll > 0: it tilts clockwise."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class Face:
    """One face in a photo.

    Attributes:
        landmarks: float32 [478, 3]; x and y in pixels of the photo, z in pixels too (smaller is nearer).
        blendshapes: float32 [52] scores from 0 to 1, in MediaPipe's order: "_neutral" first, then ARKit's names from browDownLeft on.
        head_matrix: float32 [4, 4], canonical face -> camera.
        photo_size: (height, width) of the photo.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray
    head_matrix: np.ndarray
    photo_size: tuple[int, int]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the landmarks, in pixels."""
        low, high = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return (*low.tolist(), *high.tolist())

    @property
    def size(self) -> float:
        """Longer side of the box, in pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)

    @property
    def pose(self) -> Pose:
        """Head angles from the head matrix."""
        return pose_of_rotation(self.head_matrix[:3, :3] / np.linalg.norm(self.head_matrix[:3, :3], axis=0))


def pose_of_rotation(rotation: np.ndarray) -> Pose:
    """Head -> camera rotation [3, 3] (y up, z towards the viewer) -> head angles."""
    r = rotation
    yaw = np.degrees(np.arctan2(r[0, 2], r[2, 2]))
    pitch = np.degrees(np.arcsin(np.clip(r[1, 2], -1, 1)))
    roll = -np.degrees(np.arctan2(r[1, 0], r[1, 1]))
    return Pose(float(yaw), float(pitch), float(roll))


def rotation_of_pose(pose: Pose) -> np.ndarray:
    """Head angles -> head -> camera rotation [3, 3]: yaw after pitch after roll."""
    (sy, sp, sr), (cy, cp, cr) = (f(np.radians([pose.yaw, -pose.pitch, -pose.roll])) for f in (np.sin, np.cos))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z
