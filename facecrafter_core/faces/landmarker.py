"""Photo -> faces: MediaPipe's face landmarker (478 points, blendshape scores, head matrix)."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import AssetError, FaceChoiceError, NoFaceError, PhotoError

MIN_FACE = 32
"""Smallest face, in pixels of its longer side, whose landmarks are worth using."""

MIN_TILE = 192
"""Smallest tile, in pixels, in which faces are looked for once more."""

LONGEST_SIDE = 1920
"""Larger photos are reduced to this before detection."""


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


class FaceLandmarker:
    """MediaPipe's face landmarker, created at the first use; safe to share between threads.

    Args:
        model_path: face_landmarker.task; None finds it (facecrafter_core.search).
        max_faces: most faces found in a photo.
        min_confidence: of detection and of presence, 0..1.
    """

    def __init__(self, model_path: str | Path | None = None, max_faces: int = 10, min_confidence: float = 0.5) -> None:
        self._arguments = (model_path, max_faces, min_confidence)
        self._task: Any = None

    def detect(self, photo: np.ndarray) -> list[Face]:
        """photo uint8 [H, W, 3], RGB -> its faces, the largest first; an empty list where there is none.

        MediaPipe's detector misses faces that fill the picture and faces below about a tenth of it. So a photo without a face found is
        tried again with a border around it, and then in overlapping tiles of a half, a quarter and an eighth of its sides.
        """
        if not isinstance(photo, np.ndarray) or photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
            found = f"{photo.dtype} {list(photo.shape)}" if isinstance(photo, np.ndarray) else type(photo).__name__
            raise PhotoError(f"Expected a photo as uint8 [H, W, 3], found {found}. Use facecrafter_core.faces.photo.load_photo.")
        self._start()
        reduced, scale = _reduce(photo)
        faces = self._run(reduced, scale, photo.shape[:2])
        if not faces:
            border = max(reduced.shape[:2]) // 2
            padded = np.pad(reduced, ((border, border), (border, border), (0, 0)), mode="edge")
            faces = self._run(padded, scale, photo.shape[:2], (-border, -border))
        for parts in (2, 4, 8):
            if not faces and max(reduced.shape[:2]) >= parts * MIN_TILE:
                faces = self._run_tiles(reduced, parts, scale, photo.shape[:2])
        return sorted(faces, key=lambda face: face.size, reverse=True)

    def find_face(self, photo: np.ndarray, choose: str | int = "largest") -> Face:
        """One face of a photo.

        Args:
            choose: "largest", "only" (an error when there are several), or a number from 0, from left to right.

        Raises:
            NoFaceError: none found, or the chosen one is smaller than MIN_FACE pixels.
            FaceChoiceError: no such face.
        """
        faces = self.detect(photo)
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

    def _start(self) -> None:
        from ..search import find_asset

        with _one_at_a_time:
            if self._task is None:
                model_path, max_faces, min_confidence = self._arguments
                self._task = _task(str(model_path or find_asset("face_landmarker")), max_faces, min_confidence)

    def _run_tiles(self, photo: np.ndarray, parts: int, scale: float, photo_size: tuple[int, int]) -> list[Face]:
        """Square tiles, half overlapping, with a side of the photo's longer one by `parts`; a face seen in several is kept once."""
        height, width = photo.shape[:2]
        side = -(-max(height, width) // parts)
        tops, lefts = (np.linspace(0, max(n - side, 0), max(1, -(-2 * n // side) - 1)).astype(int) for n in (height, width))
        found: list[tuple[float, Face]] = []
        for top in tops:
            for left in lefts:
                tile = photo[top : top + side, left : left + side]
                for face in self._run(tile, scale, photo_size, (left, top)):
                    middle = face.landmarks[:, :2].mean(0) * scale - [left, top]
                    found.append((float(np.abs(middle / [tile.shape[1], tile.shape[0]] - 0.5).max()), face))
        kept: list[Face] = []
        for _, face in sorted(found, key=lambda item: item[0]):  # the most central sight of each face wins
            if all(_overlap(face, other) < 0.3 for other in kept):
                kept.append(face)
        return kept

    def _run(self, photo: np.ndarray, scale: float, photo_size: tuple[int, int], offset: tuple[int, int] = (0, 0)) -> list[Face]:
        """MediaPipe on a piece of the reduced photo whose upper left corner is at `offset` (x, y) of it."""
        import mediapipe as mp

        height, width = photo.shape[:2]
        with _one_at_a_time:
            found = self._task.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(photo)))
        faces = []
        for points, scores, matrix in zip(found.face_landmarks, found.face_blendshapes, found.facial_transformation_matrixes, strict=True):
            xyz = np.array([(p.x, p.y, p.z) for p in points], np.float32) * np.array([width, height, width], np.float32)
            xyz[:, :2] += np.array(offset, np.float32)
            blendshapes = np.array([s.score for s in scores], np.float32)
            faces.append(Face(xyz / scale, blendshapes, np.asarray(matrix, np.float32), tuple(photo_size)))
        return faces


_one_at_a_time = threading.Lock()


@cache
def _task(model_path: str, max_faces: int, min_confidence: float) -> Any:
    """MediaPipe's object, one a process for the same arguments.

    It is never collected: its close() waits for a thread, which hangs in a garbage collection, and at the interpreter's end, where that
    thread is gone, prints a traceback.
    """
    try:
        with _quiet():
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision
    except (ImportError, OSError) as error:
        raise _cannot_load(error) from error
    options = vision.FaceLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=model_path),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        num_faces=max_faces,
        min_face_detection_confidence=min_confidence,
        min_face_presence_confidence=min_confidence,
    )
    try:
        with _quiet():
            task = vision.FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError, OSError) as error:
        if ".so" in str(error):
            raise _cannot_load(error) from error
        raise AssetError(f"MediaPipe cannot use {model_path} ({error}). Expected Google's face_landmarker.task; get it again.") from error

    atexit.register(setattr, task, "close", _nothing)
    return task


def _nothing() -> None:
    """The process frees what is left."""


def _cannot_load(error: Exception) -> AssetError:
    """The package, or a system library that MediaPipe or OpenCV needs, is not there."""
    return AssetError(
        f"MediaPipe cannot be loaded ({error}). Run `pip install -r requirements.txt`; on a Linux server without a desktop also "
        "`sudo apt install libgl1 libegl1 libgles2 libglib2.0-0`."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops what native code writes to the process's standard error: MediaPipe has no switch for its start-up notes."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _overlap(a: Face, b: Face) -> float:
    """Shared area of two faces' boxes by the smaller one's area."""
    low, high = np.maximum(a.box[:2], b.box[:2]), np.minimum(a.box[2:], b.box[2:])
    areas = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in (a, b)]
    return float(np.prod(np.maximum(high - low, 0)) / max(min(areas), 1e-6))


def _reduce(photo: np.ndarray) -> tuple[np.ndarray, float]:
    """The photo with its longer side at most LONGEST_SIDE, and by how much it was scaled."""
    import cv2

    scale = LONGEST_SIDE / max(photo.shape[:2])
    if scale >= 1:
        return photo, 1.0
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA), scale
