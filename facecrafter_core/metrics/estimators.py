"""The estimators of each family, and those of them that need no other package: MediaPipe's, the demo's evaluators, and emotions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AssetError, MetricError, ModelError
from ..faces.landmarker import Face, FaceLandmarker
from ..faces.landmarks import COUNT
from .reading import ARCFACE, MEDIAPIPE, Estimator, Missing, Reading

if TYPE_CHECKING:
    from ..faces.emotion_estimators import EmotionEstimator


class Landmarks:
    """MediaPipe's own numbers: nothing is computed again."""

    name, licence = MEDIAPIPE, "Apache-2.0"
    reads = ("pose", "expression", "landmarks")

    def read(self, pictures: Sequence[np.ndarray], faces: Sequence[Face | None]) -> Reading:
        out = {"pose": _empty(faces, 3), "expression": _empty(faces, 52), "landmarks": _empty(faces, COUNT, 3)}
        for i, face in enumerate(faces):
            if face is not None:
                out["pose"][i], out["expression"][i] = face.pose, face.blendshapes
                out["landmarks"][i] = face.landmarks / face.photo_size[1]
        return out


class FaceReader:
    """A FaceNetwork on upright crops.

    Args:
        what: "identity" or "emotion". path: its weights. device: torch device.

    Raises:
        ModelError: no such file, or other weights.
    """

    licence = "Apache-2.0"

    def __init__(self, name: str, what: str, path: Path, device: str = "cpu") -> None:
        from ..faces.identity import load_face_network

        self.name, self.reads, self.device = name, (what,), device
        self.width = {"identity": 128, "emotion": 10}[what]
        self.network = load_face_network(path, self.width).to(device)

    def read(self, pictures: Sequence[np.ndarray], faces: Sequence[Face | None]) -> Reading:
        import torch

        from ..faces.identity import face_crop

        out = _empty(faces, self.width)
        seen = [i for i, face in enumerate(faces) if face is not None]
        if seen:
            crops = torch.stack([face_crop(pictures[i], faces[i], 112) for i in seen]).to(self.device)
            with torch.inference_mode():
                found = self.network(crops)
                if self.reads == ("identity",):
                    found = torch.nn.functional.normalize(found, dim=1)
                else:
                    found = torch.cat([found[:, :2].tanh(), found[:, 2:].softmax(1)], dim=1)
            out[seen] = found.cpu().numpy()
        return {self.reads[0]: out}


class EmotionReader:
    """An EmotionEstimator on whole pictures."""

    reads = ("emotion",)

    def __init__(self, estimator: EmotionEstimator) -> None:
        self.name, self.licence, self.estimator = estimator.name, estimator.licence, estimator

    @classmethod
    def hsemotion(cls, path: Path, device: str = "cpu") -> EmotionReader:
        """
        Args:
            path: HSEmotion's weights. device: not asked; HSEmotion runs on the CPU.

        Raises:
            AssetError: its package is missing. ModelError: other weights.
        """
        from ..faces.emotion_estimators import HSEmotionEstimator

        return cls(HSEmotionEstimator(path))

    def read(self, pictures: Sequence[np.ndarray], faces: Sequence[Face | None]) -> Reading:
        out, seen = _empty(faces, 10), [i for i, face in enumerate(faces) if face is not None]
        out[seen] = self.estimator.estimate([self.estimator.look(pictures[i], faces[i]) for i in seen])
        return {"emotion": out}


def estimators_of(family: str, models: Path, device: str = "cpu") -> tuple[list[Estimator], list[Missing]]:
    """Those that measure a family's pictures, and those that are missing.

    Args:
        models: the family's base; the demo's holds evaluators that took no part in its training.
    """
    from .perceptual import ArcFace, FaceNet, Inception

    wanted: list[tuple[str, str, tuple[str, ...], Callable[[Path, str], Estimator]]] = [("inception", "Inception v3", ("FID",), Inception)]
    found: list[Estimator | Missing] = [Landmarks()]
    if family == "demo":
        for what in ("identity", "emotion"):
            reader = partial(FaceReader, f"demo {what} evaluator", what, models / "evaluators" / f"{what}.safetensors", device)
            found.append(_made_or_missing(f"demo {what} evaluator", (what,), reader))
    else:
        wanted += [("facenet", "FaceNet", ("identity",), FaceNet), ("arcface", ARCFACE, ("arcface",), ArcFace)]
        wanted += [("hsemotion", "HSEmotion", ("emotion",), EmotionReader.hsemotion)]  # EmoNet conditions
    found += [load_or_missing(*one, device) for one in wanted]
    return [e for e in found if not isinstance(e, Missing)], [e for e in found if isinstance(e, Missing)]


def load_or_missing(asset: str, name: str, reads: tuple[str, ...], make: Callable[[Path, str], Any], device: str) -> Any:
    """make(weights, device), or a Missing that says what to do where its weights or its package are not there."""
    from ..search import find_asset

    try:
        path = find_asset(asset)
    except AssetError:
        return Missing(name, reads, f"weights missing: facecrafter assets download {asset}")
    return _made_or_missing(name, reads, partial(make, path, device))


def _made_or_missing(name: str, reads: tuple[str, ...], make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (AssetError, MetricError, ModelError) as error:
        return Missing(name, reads, str(error))


def find_faces(pictures: Sequence[np.ndarray], landmarker: FaceLandmarker) -> list[Face | None]:
    """The largest face of each picture uint8 [H, W, 3], or None."""
    return [landmarker.largest(picture) for picture in pictures]


def read_all(estimators: Sequence[Estimator], pictures: Sequence[np.ndarray], faces: Sequence[Face | None]) -> Reading:
    """What all estimators find in pictures and their faces (find_faces); where two read the same, the later one counts."""
    out: dict[str, np.ndarray] = {}
    for estimator in estimators:
        out |= estimator.read(pictures, faces)
    return out


def _empty(faces: Sequence[Face | None], *shape: int) -> np.ndarray:
    return np.full((len(faces), *shape), np.nan, np.float32)
