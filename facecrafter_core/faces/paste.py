"""Faces in whole pictures: a soft mask for each face, its square cut out, and a new face put back in its place.

Pictures here are float32 [H, W, 3] in 0..1, so that nothing is rounded on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import LandmarkError, PhotoError
from . import landmarks as groups
from .align import align_face, face_square, warp

SHAPES = ("oval", "square")
COLOURS = ("keep", "match")


@dataclass(frozen=True)
class FaceCrop:
    """The square of one face, and what is needed to put it back.

    Attributes:
        image: float32 [S, S, 3] in 0..1.
        landmarks: float32 [478, 3] in units of the square.
        mask: float32 [S, S] in 0..1: how much of a new face is pasted; 0 along the border.
        matrix: float64 [2, 3], pixels of the picture -> pixels of the square.
        picture: number of the picture in its batch.
    """

    image: np.ndarray
    landmarks: np.ndarray
    mask: np.ndarray
    matrix: np.ndarray
    picture: int = 0


def crop_face(
    picture: np.ndarray,
    landmarks: np.ndarray,
    size: int,
    upright: bool = False,
    margin: float = 0.0,
    shape: str = "oval",
    grow: float = 0.05,
    feather: float = 0.05,
    number: int = 0,
) -> FaceCrop:
    """Cuts the FFHQ-style square of a face out of a picture.

    Args:
        picture: float32 [H, W, 3] in 0..1.
        landmarks: [478, 3] in pixels of the picture.
        size: side of the square in pixels.
        upright: True takes the head's roll out.
        margin: widens the square on each side, in shares of half its side.
        shape, grow, feather: of the mask, see face_region.
        number: of the picture in its batch.
    """
    face = align_face(picture, landmarks, size, rotate=upright, margin=margin, interpolation="cubic")
    edge = np.minimum.outer(*[np.minimum(np.arange(size), np.arange(size)[::-1])] * 2).astype(np.float32)
    mask = _smooth((edge - 1) / max(feather * size, 1))
    if shape != "square":
        mask = mask * face_region(face.landmarks * size, (size, size), shape, grow, feather)
    return FaceCrop(face.image.clip(0, 1), face.landmarks, mask, face.matrix, number)


def face_region(landmarks: np.ndarray, size: tuple[int, int], shape: str = "oval", grow: float = 0.05, feather: float = 0.05) -> np.ndarray:
    """A soft mask of one face in a picture.

    Args:
        landmarks: [478, 3] in pixels of the picture.
        size: (height, width) of the picture.
        shape: "oval" (the face oval) or "square" (the upright FFHQ-style square).
        grow: how far the full mask reaches beyond the shape, in sides of the face's square; below 0 it shrinks.
        feather: width of the soft edge outside of that, in the same unit.

    Returns:
        float32 [H, W] in 0..1; exactly 1 inside and exactly 0 outside.

    Raises:
        LandmarkError: wrong shape, numbers that are not finite, or an unknown shape of mask.
    """
    import cv2

    points = np.asarray(landmarks, np.float64)
    if points.ndim != 2 or points.shape[0] != groups.COUNT or not np.isfinite(points).all():
        raise LandmarkError(f"Expected finite landmarks of shape [478, 3], found shape {list(points.shape)}.")
    if shape not in SHAPES:
        raise LandmarkError(f"Expected the mask's shape as one of {', '.join(SHAPES)}, found {shape!r}.")
    centre, half, _ = face_square(points, rotate=False)
    corners = centre + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    polygon = points[list(groups.FACE_OVAL), :2] if shape == "oval" else corners
    reach = int(np.ceil(2 * half * (abs(grow) + feather))) + 2
    low = np.floor(polygon.min(0)).astype(int) - reach  # distances are taken in the shape's own box, whatever the picture's size
    width, height = np.ceil(polygon.max(0)).astype(int) + reach - low
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [np.round((polygon - low - 0.5) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    outside = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5) - cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    soft = _smooth(1 - (outside - 2 * half * grow) / max(2 * half * feather, 1))
    mask = np.zeros(size, np.float32)
    first, last = np.maximum(low, 0), np.minimum(low + [width, height], size[::-1])
    if (last > first).all():
        mask[first[1] : last[1], first[0] : last[0]] = soft[first[1] - low[1] : last[1] - low[1], first[0] - low[0] : last[0] - low[0]]
    return mask


def paste_face(picture: np.ndarray, face: np.ndarray, crop: FaceCrop, mask: np.ndarray | None = None, colour: str = "keep") -> np.ndarray:
    """Puts a face in the place of a crop; where the mask is 0 the picture stays bit for bit.

    Args:
        picture: float32 [H, W, 3] in 0..1, of the size that the crop came from.
        face: float32 [T, T, 3] in 0..1; T need not be the crop's side.
        crop: from crop_face.
        mask: float32 [T', T'] in 0..1 over the square; None takes the crop's.
        colour: "match" gives the face the crop's colours, see match_colour; "keep" leaves them.

    Returns:
        float32 [H, W, 3].

    Raises:
        PhotoError: a face or mask that is not square, numbers that are not finite, or an unknown choice of colours.
    """
    if colour not in COLOURS:
        raise PhotoError(f"Expected the colours as one of {', '.join(COLOURS)}, found {colour!r}.")
    mask = crop.mask if mask is None else np.asarray(mask, np.float32)
    face = np.asarray(face, np.float32)
    for name, array in (("face", face), ("mask", mask)):
        if array.shape[0] != array.shape[1]:
            raise PhotoError(f"Expected the {name} as a square, as Face Crop gives it, found {array.shape[1]} x {array.shape[0]} pixels.")
        if not np.isfinite(array).all():
            raise PhotoError(f"The {name} holds numbers that are not finite (NaN or infinity). Make it again.")
    if colour == "match":
        face = match_colour(face, crop.image, mask)
    height, width = picture.shape[:2]
    side = len(crop.image)
    back = np.linalg.inv(np.vstack([crop.matrix, [0, 0, 1]]))[:2]  # pixels of the square -> pixels of the picture
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]]) @ back[:, :2].T + back[:, 2]
    first = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    last = np.minimum(np.ceil(corners.max(0)).astype(int), [width, height])
    out = picture.copy()
    if (last <= first).any():
        return out
    box = tuple(int(n) for n in last - first)

    def placed(array: np.ndarray, interpolation: str) -> np.ndarray:
        """The square's content in the box of the picture that holds it."""
        matrix = np.concatenate([back[:, :2] * (side / len(array)), (back[:, 2] - first)[:, None]], axis=1)
        return warp(array, matrix, box, interpolation).clip(0, 1)

    inside = np.ones((side, side), np.float32)
    share = (placed(mask, "linear") * _covered(inside, back, first, box))[..., None]
    part = out[first[1] : last[1], first[0] : last[0]]
    part[:] = np.where(share > 0, part + share * (placed(face, "cubic") - part), part)
    return out


def match_colour(face: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Reinhard's colour transfer: mean and spread of each channel in CIELAB become the reference's (Reinhard et al. 2001, Sec. 2).

    Args:
        face: float32 [T, T, 3] in 0..1. reference: float32 [S, S, 3]. mask: [M, M]; only what it marks is measured.

    Returns:
        float32 [T, T, 3] in 0..1.
    """
    import cv2

    statistics = []
    for image in (face, reference):
        lab = cv2.cvtColor(np.ascontiguousarray(image, np.float32), cv2.COLOR_RGB2LAB).reshape(-1, 3)
        weight = cv2.resize(np.ascontiguousarray(mask, np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(-1, 1)
        if weight.sum() < 1:
            return face
        mean = (lab * weight).sum(0) / weight.sum()
        statistics.append((mean, np.sqrt(((lab - mean) ** 2 * weight).sum(0) / weight.sum())))
    (mean, spread), (wanted_mean, wanted_spread) = statistics
    lab = cv2.cvtColor(np.ascontiguousarray(face, np.float32), cv2.COLOR_RGB2LAB)
    moved = (lab - mean) * (wanted_spread / np.maximum(spread, 1e-3)) + wanted_mean
    return cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB).clip(0, 1)


def _covered(inside: np.ndarray, back: np.ndarray, first: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    """1 where a pixel of the box lies in the square; a warp alone would mirror the square beyond its border."""
    import cv2

    matrix = np.concatenate([back[:, :2], (back[:, 2] - first)[:, None]], axis=1)
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(inside, matrix, box, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _smooth(x: np.ndarray) -> np.ndarray:
    """The smoothstep curve of x clipped to 0..1, float32."""
    x = np.clip(x, 0, 1)
    return (x * x * (3 - 2 * x)).astype(np.float32)
