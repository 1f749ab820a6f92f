"""Face mask from landmarks: the filled face oval."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..errors import LandmarkError
from . import landmarks as groups


class FaceMasker(Protocol):
    """Anything that marks the face's pixels, such as a parsing model."""

    def __call__(self, landmarks: np.ndarray, size: int) -> np.ndarray: ...


def face_mask(landmarks: np.ndarray, size: int) -> np.ndarray:
    """landmarks [478, 3] in units of the picture (0..1) -> float32 [size, size], 1 inside the face oval, 0 outside."""
    import cv2

    points = np.asarray(landmarks, np.float32)
    if points.ndim != 2 or points.shape[0] != groups.COUNT or points.shape[1] not in (2, 3) or not np.isfinite(points).all():
        raise LandmarkError(f"Expected finite landmarks of shape [478, 3], found shape {list(points.shape)}.")
    oval = np.round((points[list(groups.FACE_OVAL), :2].clip(-4, 5) * size - 0.5) * 16).astype(np.int32)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [oval], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255
