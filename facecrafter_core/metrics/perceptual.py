"""Features that compare pictures as a whole: Inception's for FID, AlexNet's for LPIPS, FaceNet's and ArcFace's for ID similarity (Sec. 4.2).

The networks are those of torch-fidelity, lpips and facenet-pytorch (the extra "metrics"); their weights are assets, never downloaded here.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AssetError, MetricError, NoFaceError
from ..faces.align import face_box
from ..faces.landmarker import Face
from .reading import ARCFACE, Reading

BATCH = 32


class Inception:
    """Inception v3's 2,048 pooled features of whole pictures, for FID (Heusel et al. 2017), resized as TensorFlow does.

    Args:
        path: pt_inception-2015-12-05-6726825d.pth. device: torch device. width: 64, 192 or 768 for the features of an earlier layer.

    Raises:
        MetricError: torch-fidelity is not installed, or the file holds other weights.
    """

    name, licence, reads = "Inception v3 (torch-fidelity)", "Apache-2.0", ("inception",)

    def __init__(self, path: Path, device: str = "cpu", width: int = 2048) -> None:
        import torch

        package = _package("torch_fidelity", "torch-fidelity")
        self.device = device

        def load() -> Any:
            torch.load(path, map_location="cpu", weights_only=True)  # the package reads it as torch's default has it, which before 2.6 executed it
            return package.FeatureExtractorInceptionV3("inception", [str(width)], feature_extractor_weights_path=str(path))

        self.network = _with_weights(path, load)
        self.network.to(device)

    def read(self, pictures: Sequence[np.ndarray], faces: Sequence[Face | None]) -> Reading:
        """[N, width]; a face is not needed."""
        import torch

        _one_size(pictures)
        out = []
        with torch.inference_mode():
            for i in range(0, len(pictures), BATCH):
                batch = torch.from_numpy(np.stack(pictures[i : i + BATCH])).permute(0, 3, 1, 2).contiguous()
                out.append(self.network(batch.to(self.device))[0].float().cpu().numpy())
        return {"inception": np.concatenate(out)}


class FaceNet:
    """FaceNet's 512 numbers (Inception-ResNet v1, VGGFace2) of face boxes: an identity that nothing here is conditioned on.

    Args:
        path: 20180402-114759-vggface2.pt. device: torch device.

    Raises:
        MetricError: facenet-pytorch is not installed, or the file holds other weights.
    """

    name, licence, reads = "FaceNet (facenet-pytorch, VGGFace2)", "MIT", ("identity",)

    def __init__(self, path: Path, device: str = "cpu") -> None:
        import torch

        package = _package("facenet_pytorch", "'facenet-pytorch<2.6'")
        self.device, self.network = device, package.InceptionResnetV1(pretrained=None)

        def load() -> None:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("logits.")})

        _with_weights(path, load)
        self.network.eval().requires_grad_(False).to(device)

    def read(self, pictures: Sequence[np.ndarray], faces: Sequence[Face | None]) -> Reading:
        """[N, 512] unit vectors, NaN without a face; boxes of 160 pixels, each number (x - 127.5) / 128 as facenet-pytorch does."""
        import torch

        out = np.full((len(faces), 512), np.nan, np.float32)
        seen = [i for i, face in enumerate(faces) if face is not None]
        if seen:
            crops = torch.from_numpy(np.stack([face_box(pictures[i], faces[i].landmarks, 160) for i in seen])).permute(0, 3, 1, 2).float()
            with torch.inference_mode():
                out[seen] = self.network(((crops - 127.5) / 128).to(self.device)).float().cpu().numpy()
        return {"identity": out}


class ArcFace:
    """The recogniser that conditions the full size, beside FaceNet: how much of what was asked for came through.

    Args:
        path: arcface.onnx, of which find_asset knows. device: torch device.

    Raises:
        MetricError: InsightFace, ONNX Runtime or the detector's file is missing.
    """

    name, licence, reads = ARCFACE, "non-commercial research (InsightFace)", ("arcface",)

    def __init__(self, path: Path, device: str = "cpu") -> None:
        from ..faces.arcface import ArcFaceEncoder

        try:
            self.encoder = ArcFaceEncoder.load(device)
        except AssetError as error:
            raise MetricError(str(error)) from error

    def read(self, pictures: Sequence[np.ndarray], faces: Sequence[Face | None]) -> Reading:
        """[N, 512] unit vectors; NaN without a face, MediaPipe's or InsightFace's."""
        from ..faces.identity import face_crop

        out = np.full((len(faces), self.encoder.dim), np.nan, np.float32)
        for i, face in enumerate(faces):
            if face is not None:
                try:
                    out[i] = self.encoder.encode(face_crop(pictures[i], face, self.encoder.crop_size)[None])[0].numpy()
                except NoFaceError:
                    continue
        return {"arcface": out}


class Perceptual:
    """LPIPS (Zhang et al. 2018) with AlexNet's features, the package's version 0.1.

    Args:
        path: alexnet-owt-7be5be79.pth. device: torch device.

    Raises:
        MetricError: lpips is not installed, or the file holds other weights.
    """

    name, licence = "LPIPS (AlexNet)", "BSD-2-Clause"

    def __init__(self, path: Path, device: str = "cpu") -> None:
        import torch

        package = _package("lpips", "lpips")
        self.device = device
        self.network = package.LPIPS(net="alex", pnet_rand=True, verbose=False)

        def load() -> None:
            features = torch.load(path, map_location="cpu", weights_only=True)
            there = self.network.net.state_dict()  # slice2.3.weight is features.3.weight
            self.network.net.load_state_dict({k: features[f"features.{k.split('.', 1)[1]}"] for k in there})

        _with_weights(path, load)
        self.network.eval().requires_grad_(False).to(device)

    def distances(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """Pictures uint8 [H, W, 3] of one size, pair by pair -> [N]."""
        import torch

        def batch(pictures: Sequence[np.ndarray]) -> Any:
            return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(self.device).float() / 127.5 - 1

        with torch.inference_mode():
            parts = [self.network(batch(a[i : i + BATCH]), batch(b[i : i + BATCH])).flatten().cpu().numpy() for i in range(0, len(a), BATCH)]
        return np.concatenate(parts)

    def among(self, pictures: Sequence[np.ndarray]) -> float:
        """The mean LPIPS between all pairs of at least two pictures.

        Raises:
            MetricError: mixed sizes.
        """
        _one_size(pictures)
        return float(self.distances(*zip(*itertools.combinations(pictures, 2), strict=True)).mean())


def _one_size(pictures: Sequence[np.ndarray]) -> None:
    sizes = {picture.shape for picture in pictures}
    if len(sizes) > 1:
        raise MetricError(f"Expected pictures of one size, found {' and '.join(f'{w} x {h}' for h, w, _ in sorted(sizes)[:3])}. Make them all the same size.")


def _package(module: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a torchvision of another torch fails in each of these ways
        needs = f"; it needs {error.name} too" if isinstance(error, ImportError) and error.name not in (None, module) else ""
        raise MetricError(f"package missing: pip install {install}{needs}") from error


def _with_weights(path: Path, load: Any) -> Any:
    """load(), with one sentence for whatever a wrong file makes torch say."""
    try:
        return load()
    except Exception as error:
        raise MetricError(f"{path} does not hold the weights that are expected of it ({type(error).__name__}). Download it again.") from error
