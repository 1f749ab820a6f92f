"""The FFHQ-style square around a face (Karras et al. 2018, the rule of the FFHQ data set)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import LandmarkError
from . import landmarks as groups


@dataclass(frozen=True)
class AlignedFace:
    """A square cut from a photo.

    Attributes:
        image: uint8 [S, S, 3].
        landmarks: float32 [478, 3] in units of the square: 0..1 inside; z in the same unit.
        matrix: float64 [2, 3], photo pixels -> pixels of the square.
    """

    image: np.ndarray
    landmarks: np.ndarray
    matrix: np.ndarray


def square_from_points(
    right_eye: np.ndarray, left_eye: np.ndarray, right_mouth: np.ndarray, left_mouth: np.ndarray, rotate: bool = True
) -> tuple[np.ndarray, float, np.ndarray]:
    """The square of FFHQ's rule from four points (x, y); y points down, left and right are the person's own.

    Args:
        rotate: True turns the square with the head (the roll is taken out); False keeps it upright.

    Returns:
        centre (x, y), half of the side, and the unit vector along its upper edge, all in the points' unit.
    """
    right_eye, left_eye, right_mouth, left_mouth = (np.asarray(p, np.float64)[:2] for p in (right_eye, left_eye, right_mouth, left_mouth))
    eyes = (right_eye + left_eye) / 2
    eye_to_eye = left_eye - right_eye
    eye_to_mouth = (right_mouth + left_mouth) / 2 - eyes
    half = max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth))
    axis = eye_to_eye + np.array([eye_to_mouth[1], -eye_to_mouth[0]])
    length = np.hypot(*axis)
    axis = axis / length if rotate and length > 0 else np.array([1.0, 0.0])
    return eyes + 0.1 * eye_to_mouth, float(half), axis


def face_square(landmarks: np.ndarray, rotate: bool = True) -> tuple[np.ndarray, float, np.ndarray]:
    """square_from_points for 478 landmarks: eye centres are the means of the eye contours."""
    p = np.asarray(landmarks)[:, :2]
    corners = (p[groups.MOUTH_CORNERS[0]], p[groups.MOUTH_CORNERS[1]])
    return square_from_points(p[list(groups.RIGHT_EYE)].mean(0), p[list(groups.LEFT_EYE)].mean(0), *corners, rotate=rotate)


def align_face(
    photo: np.ndarray, landmarks: np.ndarray, size: int = 512, rotate: bool = True, margin: float = 0.0, interpolation: str = "linear"
) -> AlignedFace:
    """Cuts the FFHQ-style square around a face; what lies outside the photo is filled by reflection.

    Args:
        photo: uint8 (or float32) [H, W, 3].
        landmarks: [478, 3] in pixels of the photo.
        size: side of the result in pixels.
        rotate: True takes the head's roll out (for the identity); False keeps it (for pose and expression).
        margin: widens the square on each side, in shares of half its side.
        interpolation: see warp.

    Raises:
        LandmarkError: wrong shape, or points that all coincide.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (groups.COUNT, 3):
        raise LandmarkError(f"Expected landmarks of shape [478, 3], found {list(points.shape)}.")
    centre, half, axis = face_square(points, rotate)
    if not np.isfinite(half) or half <= 0:
        raise LandmarkError("The landmarks span no area, so no square can be cut around them. Extract them again.")
    scale = size / (2 * half * (1 + margin))
    turn = scale * np.array([[axis[0], axis[1]], [-axis[1], axis[0]]])
    matrix = np.concatenate([turn, (size / 2 - turn @ centre)[:, None]], axis=1)
    moved = np.concatenate([points[:, :2] @ matrix[:, :2].T + matrix[:, 2], points[:, 2:] * scale], axis=1) / size
    return AlignedFace(warp(photo, matrix, (size, size), interpolation), moved.astype(np.float32), matrix)


def face_box(photo: np.ndarray, landmarks: np.ndarray, size: int) -> np.ndarray:
    """The upright square around the landmarks, a tenth wider on each side, as detectors' boxes are, for networks of other people that read those.

    Args:
        photo: [H, W, 3] uint8. landmarks: [478, 3] in its pixels. size: of the result.

    Returns:
        [size, size, 3] uint8; what lies outside of the photo is filled by reflection.
    """
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    scale = size / (1.2 * float((high - low).max()))
    matrix = np.array([[scale, 0, size / 2], [0, scale, size / 2]])
    matrix[:, 2] -= scale * (low + high) / 2
    return warp(photo, matrix, (size, size))


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], interpolation: str = "linear", outside: str = "reflect") -> np.ndarray:
    """An affine warp that neither skips pixels when it reduces nor leaves gaps.

    Args:
        image: [H, W] or [H, W, 3], uint8 or float32.
        matrix: [2, 3], pixels of the image -> pixels of the result, with pixel centres at half-integers.
        size: (width, height) of the result.
        interpolation: "linear", or "cubic", which loses less but may pass the range of the values by a little.
        outside: what lies outside the image is filled by reflection ("reflect") or is 0 ("black").
    """
    import cv2

    source, pixels, scale = image, matrix.copy(), float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    while scale < 0.5 and min(source.shape[:2]) > 64:  # halve first: warpAffine alone would skip pixels
        source = cv2.resize(source, (source.shape[1] // 2, source.shape[0] // 2), interpolation=cv2.INTER_AREA)
        factor = np.array([image.shape[1] / source.shape[1], image.shape[0] / source.shape[0]])
        pixels, scale = np.concatenate([matrix[:, :2] * factor, matrix[:, 2:]], axis=1), scale * 2
    centred = pixels.copy()  # OpenCV has pixel centres at integers
    centred[:, 2] += pixels[:, :2] @ [0.5, 0.5] - 0.5
    flags = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}[interpolation]
    return cv2.warpAffine(source, centred, size, flags=flags, borderMode={"reflect": cv2.BORDER_REFLECT_101, "black": cv2.BORDER_CONSTANT}[outside])
