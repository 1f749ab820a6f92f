"""Photo -> faces: MediaPipe's face landmarker (478 points, blendshape scores, head matrix)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FaceChoiceError, NoFaceError, PhotoError
from .face import Face

if TYPE_CHECKING:
    from .looking import Search
    from .mediapipe_tasks import Tasks

MIN_FACE = 32
"""Smallest face, in pixels of its longer side, whose landmarks are worth using."""


class FaceLandmarker:
    """Finds faces, whichever way up they are (looking.py). MediaPipe is loaded at the first use; safe to share between threads.

    Args:
        model_path: face_landmarker.task; None finds it (facecrafter_core.search).
        min_confidence: of detection and of presence, 0..1.
    """

    def __init__(self, model_path: str | Path | None = None, min_confidence: float = 0.5) -> None:
        self._arguments = (model_path, min_confidence)
        self._tasks: Tasks | None = None

    def detect(self, photo: np.ndarray) -> list[Face]:
        """photo uint8 [H, W, 3], RGB -> all its faces, the largest first; an empty list where there is none.

        Small ones are looked for in tiles, which takes up to a second on one core for a large photo.
        """
        return self.search(photo).every()

    def largest(self, photo: np.ndarray) -> Face | None:
        """photo uint8 [H, W, 3], RGB -> its largest face; None where there is none. Tiles are looked at only if the whole photo shows no face."""
        faces = self.search(photo).largest()
        return faces[0] if faces else None

    def find_face(self, photo: np.ndarray, choose: str | int = "largest") -> Face:
        """One face of a photo.

        Args:
            choose: "largest", "only" (an error when there are several), or a number from 0, from left to right. Faces smaller than MIN_FACE do
                not count.

        Raises:
            NoFaceError: none found, or the chosen one is smaller than MIN_FACE pixels.
            FaceChoiceError: no such face.
        """
        if choose == "largest":
            faces = [face] if (face := self.largest(photo)) is not None else []
        else:
            found = self.detect(photo)
            faces = [face for face in found if face.size >= MIN_FACE] or found
        height, width = photo.shape[:2]
        if not faces:
            raise NoFaceError(f"No face was found in the photo ({width} x {height} pixels). Use one in which a face is seen from the front or half turned.")
        if choose == "largest":
            face = faces[0]
        elif choose == "only":
            if len(faces) > 1:
                raise FaceChoiceError(f"Expected one face in the photo, found {len(faces)}. Choose one by its number from the left, 0 to {len(faces) - 1}.")
            face = faces[0]
        elif isinstance(choose, int):
            ordered = sorted(faces, key=lambda f: f.box[0] + f.box[2])
            if not 0 <= choose < len(ordered):
                raise FaceChoiceError(f"Face number {choose} was asked for, but the photo has {len(ordered)} (numbers 0 to {len(ordered) - 1}, from the left).")
            face = ordered[choose]
        else:
            raise FaceChoiceError(f'Expected "largest", "only" or a number from 0, found {choose!r}.')
        if face.size < MIN_FACE:
            raise NoFaceError(f"The face is only {face.size:.0f} pixels large, at least {MIN_FACE} are needed. Use a photo with more detail.")
        return face

    def find_faces(self, photo: np.ndarray, smallest: float = MIN_FACE) -> list[Face]:
        """All faces of a photo of at least `smallest` pixels, from left to right.

        Raises:
            NoFaceError: there is none.
        """
        faces = self.detect(photo)
        large = [face for face in faces if face.size >= smallest]
        if not large:
            found = f"{len(faces)} smaller, the largest of {faces[0].size:.0f}" if faces else "none"
            raise NoFaceError(f"Expected a face of at least {smallest:g} pixels in the photo, found {found}. Use a photo with more detail.")
        return sorted(large, key=lambda face: face.box[0] + face.box[2])

    def search(self, photo: np.ndarray) -> Search:
        """The search behind all others.

        Raises:
            PhotoError: not a photo. AssetError: MediaPipe or its file is missing.
        """
        from ..search import find_asset
        from .looking import Search
        from .mediapipe_tasks import Tasks

        if not isinstance(photo, np.ndarray) or photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
            found = f"{photo.dtype} {list(photo.shape)}" if isinstance(photo, np.ndarray) else type(photo).__name__
            raise PhotoError(f"Expected a photo as uint8 [H, W, 3], found {found}. Use facecrafter_core.faces.photo.load_photo.")
        if self._tasks is None:
            model_path, min_confidence = self._arguments
            self._tasks = Tasks(str(model_path or find_asset("face_landmarker")), min_confidence)
        return Search(self._tasks, photo)
