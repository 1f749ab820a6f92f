"""Photo -> identity vector.

An identity encoder turns aligned crops into unit vectors. Any object with the protocol's three members will do; the demo's is a
small residual network trained with an additive angular margin (ArcFace, Deng et al. 2019) by training/train_identity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..batch import picture_names
from ..errors import ModelError, PhotoError, about
from .align import align_face
from .landmarker import Face, FaceLandmarker


class IdentityEncoder(Protocol):
    """dim: length of the vectors. crop_size: side of the crops that it reads, in pixels."""

    dim: int
    crop_size: int

    def encode(self, crops: Tensor) -> Tensor:
        """crops [B, 3, S, S] in [-1, 1], RGB, upright FFHQ squares -> unit vectors [B, dim]."""
        ...


class FaceNetwork(nn.Module):
    """A small residual network on face crops: [B, 3, S, S] in [-1, 1] -> [B, outputs].

    Args:
        outputs: length of the result.
        widths: channels of the stem and of the three stages; each halves the resolution.
    """

    def __init__(self, outputs: int, widths: Sequence[int] = (32, 48, 96, 128)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.SiLU())
        blocks: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            blocks += [_Block(a, b, 2), _Block(b, b, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, crops: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(crops)).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.SiLU(), nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        )
        self.skip = nn.Identity() if stride == 1 else nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.main(x) + self.skip(x))


class DemoIdentityEncoder:
    """The demo family's encoder.

    Args:
        path: its weights.

    Raises:
        ModelError: the file is not there or does not fit.
    """

    dim = 128
    crop_size = 112

    def __init__(self, path: str | Path) -> None:
        self.network = load_face_network(path, self.dim)

    @torch.inference_mode()
    def encode(self, crops: Tensor) -> Tensor:
        return nn.functional.normalize(self.network(crops), dim=1)


def load_identity_encoder(family: str, folder: str | Path | None, device: str = "cpu") -> IdentityEncoder:
    """The encoder that a family's base was trained with: the demo's from the base's folder, ArcFace's from there or where assets are found.

    Raises:
        ModelError, AssetError: its weights are not there, or are others.
    """
    if family == "demo":
        return DemoIdentityEncoder(Path(folder) / "identity" / "model.safetensors")
    from ..search import add_search_folder
    from .arcface import ArcFaceEncoder

    if folder:
        add_search_folder(folder)
    return ArcFaceEncoder.load(device)


def load_face_network(path: str | Path, outputs: int) -> FaceNetwork:
    """Reads a FaceNetwork; its widths are found from the shapes in the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise ModelError(f"There are no network weights at {path}. Reinstall FaceCrafter or run training/recipes/demo.sh.")
    try:
        weights = load_file(str(path))
        widths = [len(weights["stem.0.weight"])] + [len(weights[f"blocks.{i}.main.0.weight"]) for i in (0, 2, 4)]
        network = FaceNetwork(outputs, widths)
        network.load_state_dict(weights)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path} does not hold the weights of a face network with {outputs} outputs: {error}") from error
    return network.float().eval().requires_grad_(False)


def face_crop(photo: np.ndarray, face: Face, size: int) -> Tensor:
    """photo [H, W, 3] uint8 and a face in it -> upright FFHQ square, [3, size, size] in [-1, 1]."""
    aligned = align_face(photo, face.landmarks, size=size, rotate=True)
    return torch.from_numpy(np.ascontiguousarray(aligned.image)).permute(2, 0, 1).float() / 127.5 - 1


def encode_identity(
    photos: Sequence[np.ndarray],
    landmarker: FaceLandmarker,
    encoder: IdentityEncoder,
    choose: str | int = "largest",
    names: Sequence[str] | None = None,
) -> Tensor:
    """Photos of one person, each [H, W, 3] uint8 -> the mean of their identity vectors, of unit length: [dim].

    Args:
        names: what errors call each photo, such as its file; None numbers them.

    Raises:
        PhotoError: no photos. NoFaceError, FaceChoiceError: see FaceLandmarker.find_face; the sentence begins with the photo's name.
    """
    if not len(photos):
        raise PhotoError("Expected at least one photo to take the identity from, found none.")
    vectors = []
    for photo, name in zip(photos, names or picture_names("", len(photos)), strict=True):
        with about(name):
            crop = face_crop(photo, landmarker.find_face(photo, choose), encoder.crop_size)
            vectors.append(encoder.encode(crop[None])[0])
    return nn.functional.normalize(torch.stack(vectors).mean(0), dim=0)
