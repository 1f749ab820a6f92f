"""MediaPipe's two networks of face_landmarker.task, one of each a process: the detector of faces, and the mesh of 478 points."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..errors import AssetError

MOST_MESHES = 10
"""Meshes that one look at a picture gives at most."""


class Seen(NamedTuple):
    """What MediaPipe finds in a picture of H x W pixels.

    points: float32, in its pixels: [478, 3] of a mesh, or [6, 2] of a detection (eyes, nose, mouth and ears; the person's right before the left).
    box: x0, y0, x1, y1 of a detection, in pixels; score: of a detection, 0..1. blendshapes [52], matrix [4, 4]: of a mesh.
    """

    points: np.ndarray
    box: tuple[float, float, float, float] | None = None
    score: float = 0.0
    blendshapes: np.ndarray | None = None
    matrix: np.ndarray | None = None


class Tasks:
    """Both networks; safe to share between threads.

    Args:
        model_path: face_landmarker.task.
        min_confidence: of detection and of presence, 0..1.

    Raises:
        AssetError: MediaPipe cannot be loaded, or the file is another.
    """

    def __init__(self, model_path: str, min_confidence: float) -> None:
        with _loading:
            self._mesh, self._detector = _load(model_path, min_confidence)

    def meshes(self, picture: np.ndarray) -> list[Seen]:
        """picture uint8 [H, W, 3], RGB -> the meshes of its faces, MOST_MESHES at most."""
        found, size = self._run(self._mesh, picture), np.array([picture.shape[1], picture.shape[0], picture.shape[1]], np.float32)
        return [
            Seen(
                np.array([(p.x, p.y, p.z) for p in points], np.float32) * size,
                blendshapes=np.array([s.score for s in scores], np.float32),
                matrix=np.asarray(matrix, np.float32),
            )
            for points, scores, matrix in zip(found.face_landmarks, found.face_blendshapes, found.facial_transformation_matrixes, strict=True)
        ]

    def detections(self, picture: np.ndarray) -> list[Seen]:
        """picture uint8 [H, W, 3], RGB -> what the detector takes for faces. Many times faster than the meshes: 2 ms on one core."""
        size, seen = np.array([picture.shape[1], picture.shape[0]], np.float32), []
        for one in self._run(self._detector, picture).detections:
            box = one.bounding_box
            points = np.array([(p.x, p.y) for p in one.keypoints], np.float32) * size
            seen.append(Seen(points, (box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height), one.categories[0].score))
        return seen

    @staticmethod
    def _run(task: Any, picture: np.ndarray) -> Any:
        import mediapipe as mp

        with _one_at_a_time:
            return task.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture)))


_one_at_a_time = threading.Lock()
_loading = threading.Lock()


@cache
def _load(model_path: str, min_confidence: float) -> tuple[Any, Any]:
    """MediaPipe's objects, one of each a process for the same arguments.

    They are never collected: their close() waits for a thread, which hangs in a garbage collection, and at the interpreter's end, where that
    thread is gone, prints a traceback.
    """
    try:
        with _quiet():
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision
    except (ImportError, OSError) as error:
        raise _cannot_load(error) from error
    try:
        with _quiet():
            mesh = vision.FaceLandmarker.create_from_options(
                vision.FaceLandmarkerOptions(
                    base_options=tasks.BaseOptions(model_asset_path=model_path),
                    output_face_blendshapes=True,
                    output_facial_transformation_matrixes=True,
                    num_faces=MOST_MESHES,
                    min_face_detection_confidence=min_confidence,
                    min_face_presence_confidence=min_confidence,
                )
            )
            with zipfile.ZipFile(model_path) as models:
                network = models.read("face_detector.tflite")
            detector = vision.FaceDetector.create_from_options(
                vision.FaceDetectorOptions(base_options=tasks.BaseOptions(model_asset_buffer=network), min_detection_confidence=min_confidence)
            )
            Tasks._run(detector, np.zeros((128, 128, 3), np.uint8))  # its first run writes a note
    except (RuntimeError, ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        if ".so" in str(error):
            raise _cannot_load(error) from error
        raise AssetError(f"MediaPipe cannot use {model_path} ({error}). Expected Google's face_landmarker.task; get it again.") from error
    for task in (mesh, detector):
        atexit.register(setattr, task, "close", _nothing)
    return mesh, detector


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
