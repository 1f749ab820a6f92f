"""Photo -> identity vector at full size: InsightFace's detector and Arc2Face's recogniser, by ONNX Runtime.

Arc2Face was trained on vectors of its own arcface.onnx, from crops that antelopev2's detector (SCRFD) aligned by five points. The same is done here, inside
the FFHQ square in which MediaPipe has found the face: MediaPipe decides whose face it is, SCRFD's points how ArcFace sees it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import AssetError, ModelError, NoFaceError

DETECTION_SIZE = 640
"""Side at which SCRFD looks for the face, as Arc2Face has it."""

LARGEST_BATCH = 64

_log = logging.getLogger(__name__)


class ArcFaceEncoder:
    """The full family's encoder (faces.identity.IdentityEncoder).

    Args:
        detector: SCRFD, or an object with its `detect(picture BGR uint8, input_size)` -> (boxes [n, 5], points [n, 5, 2]).
        recogniser: ArcFaceONNX, or an object with its `get_feat(list of crops BGR uint8 [112, 112, 3])` -> [B, 512].
    """

    dim = 512
    crop_size = 512

    def __init__(self, detector: Any, recogniser: Any) -> None:
        self.detector, self.recogniser = detector, recogniser

    @classmethod
    def load(cls, device: str = "cpu", recogniser: Path | None = None) -> ArcFaceEncoder:
        """From the asset files (facecrafter_core.assets: antelopev2, arcface).

        Args:
            recogniser: another ONNX file in the place of Arc2Face's, for a method that was trained with it.

        Raises:
            AssetError: a file is missing or is another, or the packages are.
        """
        from ..search import find_asset

        detector, recogniser = find_asset("antelopev2"), recogniser or find_asset("arcface")
        try:
            from insightface.model_zoo.arcface_onnx import ArcFaceONNX
            from insightface.model_zoo.scrfd import SCRFD
        except ImportError as error:
            raise AssetError(f"Reading an identity at full size needs InsightFace and ONNX Runtime ({error}). Run `pip install insightface onnxruntime`.") from error
        found = SCRFD(model_file=str(detector), session=session(detector, device))
        found.prepare(0 if device.startswith("cuda") else -1, input_size=(DETECTION_SIZE, DETECTION_SIZE))
        return cls(found, ArcFaceONNX(model_file=str(recogniser), session=session(recogniser, device)))

    def encode(self, crops: Tensor) -> Tensor:
        """crops [B, 3, S, S] in [-1, 1], RGB, upright FFHQ squares -> unit vectors [B, 512], on the CPU.

        Raises:
            NoFaceError: the detector sees no face in a square. ModelError: the recogniser gives vectors of another length.
        """
        pictures = ((crops.detach().cpu().permute(0, 2, 3, 1).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        aligned = [self.align(np.ascontiguousarray(picture[:, :, ::-1])) for picture in pictures]
        parts = [self.recogniser.get_feat(aligned[i : i + LARGEST_BATCH]) for i in range(0, len(aligned), LARGEST_BATCH)]
        vectors = torch.from_numpy(np.concatenate(parts)).float()
        if vectors.shape[1] != self.dim:
            raise ModelError(f"Expected a recogniser with vectors of {self.dim} numbers, found {vectors.shape[1]}. Use Arc2Face's arcface.onnx.")
        return torch.nn.functional.normalize(vectors, dim=1)

    def align(self, picture: np.ndarray, size: int = 112) -> np.ndarray:
        """BGR uint8 [S, S, 3] -> ArcFace's crop [size, size, 3] of the face nearest to the middle; its recogniser reads 112.

        Raises:
            NoFaceError: the detector sees no face.
        """
        from insightface.utils.face_align import norm_crop

        boxes, points = self.detector.detect(picture, input_size=(DETECTION_SIZE, DETECTION_SIZE))
        if points is None or not len(points):
            raise NoFaceError("InsightFace's detector found no face where MediaPipe did. Use a photo in which the face is seen from the front or half turned.")
        middle = np.asarray(points).mean(1) - picture.shape[0] / 2
        return norm_crop(picture, np.asarray(points[int(np.square(middle).sum(1).argmin())], np.float32), image_size=size)


def session(path: Path, device: str) -> Any:
    """An ONNX Runtime session on the GPU where that is asked for and can be had, else on the CPU, which is then said in the log.

    Args:
        device: of torch's: "cpu", "cuda", or one of several, "cuda:1".

    Raises:
        AssetError: ONNX Runtime is not installed, or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise AssetError("Reading an identity at full size needs ONNX Runtime. Run `pip install onnxruntime` (or onnxruntime-gpu).") from error
    there, cuda = onnxruntime.get_available_providers(), "CUDAExecutionProvider"
    asked = device.startswith("cuda")
    wanted = [(cuda, {"device_id": torch.device(device).index or 0})] if asked and cuda in there else []
    try:
        found = onnxruntime.InferenceSession(str(path), providers=[*wanted, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no other base
        raise AssetError(f"{path} cannot be read by ONNX Runtime ({str(error).splitlines()[0]}). Run `facecrafter assets verify`.") from error
    if asked and cuda not in found.get_providers():
        why = "CUDA's or cuDNN's libraries are missing" if wanted else f"it has {', '.join(there)}; install onnxruntime-gpu"
        _log.warning("ONNX Runtime cannot use the GPU here (%s): %s runs on the CPU.", why, path.name)
    return found
