"""EmoNet (Toisoul et al., "Estimation of continuous valence and arousal levels from faces in naturalistic conditions", 2021).

A face-alignment network (two stacked hourglasses) finds heatmaps of 68 landmarks; their sum is an attention mask over its features, from which a few more
convolutions read eight classes, valence and arousal. Written from the paper, with the parts named as in the published file, so that it loads as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ModelError
from .align import face_box
from .emotion import EMOTIONS, Emotion

if TYPE_CHECKING:
    from .landmarker import Face

WIDTH, LANDMARKS, SIDE = 256, 68, 256


class MultiScaleBlock(nn.Module):
    """Three convolutions in a row whose outputs (1/2, 1/4 and 1/4 of the width) stand side by side, with a residual connection (Bulat 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = (inputs, outputs // 2, outputs // 4)
        for i, (a, b) in enumerate(zip(widths, (outputs // 2, outputs // 4, outputs // 4), strict=True), start=1):
            setattr(self, f"bn{i}", nn.BatchNorm2d(a))
            setattr(self, f"conv{i}", nn.Conv2d(a, b, 3, padding=1, bias=False))
        self.downsample = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False)) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(functional.relu(self.bn1(x)))
        second = self.conv2(functional.relu(self.bn2(first)))
        third = self.conv3(functional.relu(self.bn3(second)))
        return torch.cat([first, second, third], dim=1) + self.downsample(x)


class Hourglass(nn.Module):
    """Down and up again over `depth` halvings, with a branch at each resolution (Newell 2016)."""

    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.depth = depth
        for level in range(depth, 0, -1):
            for name in ("b1", "b2", "b3") if level > 1 else ("b1", "b2", "b2_plus", "b3"):
                self.add_module(f"{name}_{level}", MultiScaleBlock(WIDTH, WIDTH))

    def forward(self, x: Tensor, level: int | None = None) -> Tensor:
        level = level or self.depth
        low = self.get_submodule(f"b2_{level}")(functional.max_pool2d(x, 2))
        low = self.forward(low, level - 1) if level > 1 else self.get_submodule("b2_plus_1")(low)
        low = self.get_submodule(f"b3_{level}")(low)
        return self.get_submodule(f"b1_{level}")(x) + functional.interpolate(low, scale_factor=2, mode="nearest")


class EmoNet(nn.Module):
    """Pictures [B, 3, 256, 256] in 0..1 -> [B, 10]: logits of the eight classes, then valence and arousal."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.BatchNorm2d(64)
        self.conv2, self.conv3, self.conv4 = MultiScaleBlock(64, 128), MultiScaleBlock(128, 128), MultiScaleBlock(128, WIDTH)
        for i in (0, 1):
            self.add_module(f"m{i}", Hourglass())
            self.add_module(f"top_m_{i}", MultiScaleBlock(WIDTH, WIDTH))
            self.add_module(f"conv_last{i}", nn.Conv2d(WIDTH, WIDTH, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(WIDTH))
            self.add_module(f"l{i}", nn.Conv2d(WIDTH, LANDMARKS, 1))
        self.bl0, self.al0 = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(LANDMARKS, WIDTH, 1)
        self.conv1x1_input_emo_2 = nn.Conv2d(3 * WIDTH, WIDTH, 1)
        self.emo_net_2 = nn.Sequential(*(part for _ in range(4) for part in (MultiScaleBlock(WIDTH, WIDTH), nn.MaxPool2d(2))))
        self.emo_fc_2 = nn.Sequential(nn.Linear(WIDTH, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, len(EMOTIONS) + 2))

    def forward(self, pictures: Tensor) -> Tensor:
        x = functional.max_pool2d(self.conv2(functional.relu(self.bn1(self.conv1(pictures)))), 2)
        x = self.conv4(self.conv3(x))
        first, heatmaps = self._stack(0, x)
        first = self.bl0(first)
        second, heatmaps = self._stack(1, x + first + self.al0(heatmaps))
        mask = heatmaps.sum(1, keepdim=True)
        features = self.conv1x1_input_emo_2(torch.cat([x, first * mask, second * mask], dim=1))
        return self.emo_fc_2(self.emo_net_2(features).mean((2, 3)))

    def _stack(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """One hourglass: features [B, 256, 64, 64] and heatmaps [B, 68, 64, 64]."""
        part = self.get_submodule
        features = functional.relu(part(f"bn_end{i}")(part(f"conv_last{i}")(part(f"top_m_{i}")(part(f"m{i}")(x)))))
        return features, part(f"l{i}")(features)


class EmoNetEstimator:
    """Reads a face's pixels. EmoNet's order of classes is EMOTIONS.

    Args:
        path: emonet_8.pth, as published. device: torch device.

    Raises:
        ModelError: the file holds other weights.
    """

    name, licence = "EmoNet", "CC BY-NC-ND 4.0"

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.device, self.network = device, EmoNet()
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict({k.removeprefix("module."): w for k, w in weights.items()})
        except Exception as error:  # whatever a file that is none makes torch say
            raise ModelError(f"{path} does not hold EmoNet's weights for eight classes ({type(error).__name__}). Run facecrafter assets download emonet.") from error
        self.network.eval().requires_grad_(False).to(device)

    def estimate(self, face: Face, photo: np.ndarray) -> Emotion:
        """The box around the landmarks, resized to 256 pixels."""
        picture = torch.from_numpy(face_box(photo, face.landmarks, SIDE)).permute(2, 0, 1)[None].to(self.device).float() / 255
        with torch.inference_mode():
            out = self.network(picture)[0].float().cpu()
        return Emotion.from_vector(torch.cat([out[-2:].clamp(-1, 1), out[:-2].softmax(0)]).numpy())
