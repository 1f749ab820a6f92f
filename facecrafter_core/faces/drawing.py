"""Landmark coordinates -> the picture that the landmark module reads. One function; its style has a version."""

from __future__ import annotations

import numpy as np

from ..errors import LandmarkError
from . import landmarks as groups

LANDMARK_STYLE = 1

_SHIFT = 4  # OpenCV draws at 1/16 of a pixel

# Filled polygons, from the back to the front: (points, colour). Left and right differ, so that a profile is told from its mirror image.
_AREAS = (
    (groups.FACE_OVAL, (40, 40, 60)),
    (groups.RIGHT_BROW, (255, 128, 0)),
    (groups.LEFT_BROW, (255, 255, 0)),
    (groups.OUTER_LIPS, (230, 30, 60)),
    (groups.INNER_LIPS, (90, 0, 160)),
    (groups.RIGHT_EYE, (0, 255, 0)),
    (groups.LEFT_EYE, (0, 220, 255)),
)
_OUTLINES = (
    (groups.FACE_OVAL, True, (150, 150, 170)),
    (groups.OUTER_LIPS, True, (255, 120, 140)),
    (groups.RIGHT_EYE, True, (0, 150, 60)),
    (groups.LEFT_EYE, True, (0, 120, 200)),
    (groups.NOSE_RIDGE, False, (255, 255, 255)),
    (groups.NOSE_BASE, False, (200, 120, 255)),
)
_IRISES = ((groups.RIGHT_IRIS, groups.RIGHT_EYE, (0, 70, 0)), (groups.LEFT_IRIS, groups.LEFT_EYE, (0, 40, 120)))


def edges() -> list[tuple[int, int]]:
    """Pairs of neighbouring points of the drawing's lines, for those who draw it themselves."""
    lines = [*((points, True) for points, _ in _AREAS), *((points, closed) for points, closed, _ in _OUTLINES)]
    pairs = {tuple(sorted(pair)) for points, closed in lines for pair in zip(points, (*points[1:], *points[: int(closed)]), strict=False)}
    pairs |= {tuple(sorted(pair)) for points, *_ in _IRISES for pair in zip(points, (*points[1:], points[0]), strict=True)}
    return sorted(pairs)


def draw_landmarks(landmarks: np.ndarray, size: int, style: int = LANDMARK_STYLE) -> np.ndarray:
    """Draws one face on black.

    Eye openings and the mouth's inside are filled areas, so that a blink and an open jaw show; the drawing is antialiased at
    sub-pixel positions. Points may lie outside the picture.

    Args:
        landmarks: [478, 3] (or [478, 2]) in units of the picture: 0..1 from left to right and from top to bottom.
        size: side of the picture in pixels.
        style: version of the drawing; 1 is the only one.

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        LandmarkError: wrong shape, numbers that are not finite, unknown style.
    """
    import cv2

    points = np.asarray(landmarks, dtype=np.float32)
    if points.ndim != 2 or points.shape[0] != groups.COUNT or points.shape[1] not in (2, 3):
        raise LandmarkError(f"Expected landmarks of shape [478, 3], found {list(points.shape)}.")
    if not np.isfinite(points).all():
        raise LandmarkError("The landmarks hold numbers that are not finite. Extract them again.")
    if style != LANDMARK_STYLE:
        raise LandmarkError(f"Expected drawing style {LANDMARK_STYLE}, found {style}.")
    fixed = np.round((points[:, :2].clip(-4, 5) * size - 0.5) * (1 << _SHIFT)).astype(np.int32)
    picture = np.zeros((size, size, 3), np.uint8)
    width = max(1, round(size / 170))
    for indices, colour in _AREAS:
        cv2.fillPoly(picture, [fixed[list(indices)]], colour, cv2.LINE_AA, _SHIFT)
    for iris, eye, colour in _IRISES:
        _fill_inside(picture, fixed[list(iris)], fixed[list(eye)], colour)
    for indices, closed, colour in _OUTLINES:
        cv2.polylines(picture, [fixed[list(indices)]], closed, colour, width, cv2.LINE_AA, _SHIFT)
    return picture


def _fill_inside(picture: np.ndarray, iris: np.ndarray, eye: np.ndarray, colour: tuple[int, int, int]) -> None:
    """The part of the iris that the lids leave free."""
    import cv2

    unit = 1 << _SHIFT
    low = np.maximum(eye.min(0) // unit - 2, 0)
    high = np.minimum(eye.max(0) // unit + 3, picture.shape[1::-1])
    if (high <= low).any():
        return
    patch = picture[low[1] : high[1], low[0] : high[0]]
    opening, disc = np.zeros(patch.shape[:2], np.uint8), np.zeros(patch.shape[:2], np.uint8)
    cv2.fillPoly(opening, [eye - low * unit], 255, cv2.LINE_AA, _SHIFT)
    centre = iris.mean(0)
    radius = np.linalg.norm(iris - centre, axis=1).mean()
    cv2.circle(disc, np.round(centre - low * unit).astype(int).tolist(), max(1, round(float(radius))), 255, -1, cv2.LINE_AA, _SHIFT)
    share = (opening.astype(np.float32) * disc / 255**2)[..., None]
    patch[:] = np.round(patch * (1 - share) + np.array(colour, np.float32) * share)
