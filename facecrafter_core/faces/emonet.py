"""EmoNet (Toisoul et al. 2021, Nature Machine Intelligence 3, 42-50): a face -> eight classes, valence and arousal.

A face alignment network (FAN, Bulat and Tzimiropoulos 2017: two stacked hourglasses over 68 heatmaps) looks first. Its features, weighted by
where its landmarks are, go through four further blocks to ten numbers. Parts are named as in the published emonet_8.pth, so that it loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from . import landmarks as groups
from .align import warp
from .emotion import EMOTIONS
from .landmarker import Face

SIZE = 256
"""Side of the crop, in pixels."""

POINTS = 68
WIDTH = 256
HOURGLASSES = 2
DEPTH = 4
"""How often an hourglass halves the resolution."""

LARGEST_BATCH = 16

OUTLINE = (*groups.FACE_OVAL[7:30], *groups.RIGHT_BROW, *groups.LEFT_BROW, *groups.NOSE_RIDGE)
"""MediaPipe's points on the edge of the 68: the jaw from ear to ear, the brows, the nose; no forehead."""


class ConvBlock(nn.Module):
    """FAN's multi-scale block: three convolutions of half, a quarter and a quarter of the channels, side by side, and a shortcut."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        widths = (channels, out // 2, out // 4, out // 4)
        for i in range(3):
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i]))
            self.add_module(f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False))
        same = channels == out
        self.downsample = None if same else nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv1(F.relu(self.bn1(x)))
        b = self.conv2(F.relu(self.bn2(a)))
        c = self.conv3(F.relu(self.bn3(b)))
        return torch.cat([a, b, c], dim=1) + (x if self.downsample is None else self.downsample(x))


class Hourglass(nn.Module):
    """Down by 2 at each level and up again, with a skip at each. [B, 256, h, w] -> the same shape; h and w divide by 16."""

    def __init__(self) -> None:
        super().__init__()
        for level in range(DEPTH, 0, -1):
            for name in ("b1", "b2", "b3"):
                self.add_module(f"{name}_{level}", ConvBlock(WIDTH, WIDTH))
        self.b2_plus_1 = ConvBlock(WIDTH, WIDTH)

    def forward(self, x: Tensor, level: int = DEPTH) -> Tensor:
        part = {name: getattr(self, f"{name}_{level}") for name in ("b1", "b2", "b3")}
        low = part["b2"](F.max_pool2d(x, 2))
        low = self.forward(low, level - 1) if level > 1 else self.b2_plus_1(low)
        return part["b1"](x) + F.interpolate(part["b3"](low), scale_factor=2, mode="nearest")


class EmoNet(nn.Module):
    """The network. crops [B, 3, 256, 256] in [0, 1], RGB -> [B, 10]: scores of EMOTIONS before softmax, then valence and arousal, not limited."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64)
        self.conv2, self.conv3, self.conv4 = ConvBlock(64, 128), ConvBlock(128, 128), ConvBlock(128, WIDTH)
        for i in range(HOURGLASSES):
            self.add_module(f"m{i}", Hourglass())
            self.add_module(f"top_m_{i}", ConvBlock(WIDTH, WIDTH))
            self.add_module(f"conv_last{i}", nn.Conv2d(WIDTH, WIDTH, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(WIDTH))
            self.add_module(f"l{i}", nn.Conv2d(WIDTH, POINTS, 1))
        self.bl0, self.al0 = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(POINTS, WIDTH, 1)
        self.conv1x1_input_emo_2 = nn.Conv2d((1 + HOURGLASSES) * WIDTH, WIDTH, 1)
        self.emo_net_2 = nn.Sequential(*(part for _ in range(4) for part in (ConvBlock(WIDTH, WIDTH), nn.MaxPool2d(2))))
        self.emo_fc_2 = nn.Sequential(nn.Linear(WIDTH, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, len(EMOTIONS) + 2))

    def forward(self, crops: Tensor) -> Tensor:
        stem = F.max_pool2d(self.conv2(F.relu(self.bn1(self.conv1(crops)))), 2)
        stem = self.conv4(self.conv3(stem))
        x, seen = stem, []
        for i in range(HOURGLASSES):
            part = {name: getattr(self, f"{name}{i}") for name in ("m", "top_m_", "conv_last", "bn_end", "l")}
            features = F.relu(part["bn_end"](part["conv_last"](part["top_m_"](part["m"](x)))))
            heatmaps = part["l"](features)
            if i == 0:  # into the second hourglass; the emotion blocks see what goes there
                features = self.bl0(features)
                x = x + features + self.al0(heatmaps)
            seen.append(features)
        attention = heatmaps.sum(1, keepdim=True)
        emotion = self.conv1x1_input_emo_2(torch.cat([stem, torch.cat(seen, dim=1) * attention], dim=1))
        return self.emo_fc_2(self.emo_net_2(emotion).mean((2, 3)))


def load_emonet(path: str | Path) -> EmoNet:
    """Reads emonet_8.pth, saved from several GPUs ("module." before each name) or from one.

    Raises:
        ModelError: no such file, or it does not hold EmoNet with eight classes.
    """
    if not Path(path).is_file():
        raise ModelError(f"There are no EmoNet weights at {path}. Run `facecrafter assets download emonet`.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
        outputs = len(weights["emo_fc_2.3.weight"])
    except Exception as error:  # torch, pickle and zipfile each have their own
        raise ModelError(f"{path} does not hold EmoNet's weights ({type(error).__name__}). Run `facecrafter assets verify emonet`.") from error
    network = EmoNet()
    if outputs != len(EMOTIONS) + 2:
        raise ModelError(f"Expected EmoNet with {len(EMOTIONS)} classes (emonet_8.pth), found {outputs - 2} classes in {path}. Run `facecrafter assets download emonet`.")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        there = network.state_dict()
        fitting = sum(name in there and there[name].shape == value.shape for name, value in weights.items())
        raise ModelError(f"{path} does not hold EmoNet's weights: {fitting} of {len(there)} tensors fit. Run `facecrafter assets verify emonet`.") from error
    return network.eval().requires_grad_(False)


def emonet_crop(photo: np.ndarray, face: Face) -> np.ndarray:
    """photo uint8 [H, W, 3] -> uint8 [256, 256, 3], upright.

    EmoNet was trained and tested on squares around the box of FAN's 68 landmarks: their middle is the box's, their side (width + height) / 1.1.
    What lies outside the photo is black.
    """
    points = face.landmarks[list(OUTLINE), :2].astype(np.float64)
    low, high = points.min(0), points.max(0)
    scale = SIZE * 1.1 / (high - low).sum()
    matrix = np.concatenate([scale * np.eye(2), (SIZE / 2 - scale * (low + high) / 2)[:, None]], axis=1)
    return warp(photo, matrix, (SIZE, SIZE), outside="black")


class EmoNetEstimator:
    """EmoNet as an EmotionEstimator.

    Args:
        path: emonet_8.pth. device: torch device.

    Raises:
        ModelError: see load_emonet.
    """

    name, licence = "EmoNet", "CC BY-NC-ND 4.0"

    def __init__(self, path: str | Path, device: str | torch.device = "cpu") -> None:
        self.network, self.device = load_emonet(path).to(device), torch.device(device)

    def look(self, photo: np.ndarray, face: Face) -> np.ndarray:
        return emonet_crop(photo, face)

    @torch.inference_mode()
    def estimate(self, looks: Sequence[np.ndarray]) -> np.ndarray:
        found = [torch.zeros(0, 10)]
        for start in range(0, len(looks), LARGEST_BATCH):
            crops = torch.from_numpy(np.stack(looks[start : start + LARGEST_BATCH])).to(self.device)
            out = self.network(crops.permute(0, 3, 1, 2).float() / 255)
            found.append(torch.cat([out[:, -2:].clamp(-1, 1), out[:, :-2].softmax(1)], dim=1))
        return torch.cat([part.to(self.device) for part in found]).float().cpu().numpy()
