"""The landmark and emotion control modules: conditions -> token sequences (Sec. 3.1).

Layers come from `operations` (torch.nn by default), so that a host can pass layers that cast and offload by themselves.
Shapes: B images, T tokens, W token width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .config import ControlConfig


class LandmarkModule(nn.Module):
    """CNN from a landmark drawing to a grid of tokens.

    Two coordinate channels go in beside the picture, so that a feature says what is seen and where; without them the average
    over tokens, which is what untrained attention reads, would hold no position (see docs/training-log.md).
    """

    def __init__(self, config: ControlConfig, operations: Any = nn) -> None:
        super().__init__()
        self.picture_size = config.picture_size
        widths = (3 + 2, *config.landmark_channels)
        self.convs = nn.ModuleList(
            operations.Conv2d(a, b, 3, stride=s, padding=1)
            for a, b, s in zip(widths[:-1], widths[1:], config.landmark_strides, strict=True)
        )
        self.norms = nn.ModuleList(operations.GroupNorm(8, width) for width in widths[1:-1])
        grid, width = config.landmark_grid, config.landmark_width
        self.row_position = nn.Parameter(_sinusoids(grid, width))
        self.column_position = nn.Parameter(_sinusoids(grid, width).flip(1))
        self.norm = operations.LayerNorm(width)

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures [B, 3, S, S] in 0..1 -> tokens [B, T, W], row by row."""
        size = self.picture_size
        if pictures.ndim != 4 or pictures.shape[1:] != (3, size, size):
            raise ValueError(f"Expected landmark drawings of shape [B, 3, {size}, {size}], found {list(pictures.shape)}.")
        ramp = torch.linspace(-1, 1, size, device=pictures.device, dtype=pictures.dtype)
        grid = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"))
        x = torch.cat([pictures * 2 - 1, grid.expand(len(pictures), -1, -1, -1)], dim=1)
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = nn.functional.silu(norm(conv(x)))
        x = self.convs[-1](x)
        position = self.row_position[:, None] + self.column_position[None, :]
        return self.norm(x.flatten(2).transpose(1, 2) + position.flatten(0, 1).to(x))


class EmotionModule(nn.Module):
    """MLP from the emotion 10-vector to a short token sequence."""

    def __init__(self, config: ControlConfig, operations: Any = nn) -> None:
        super().__init__()
        widths = (10, *config.emotion_hidden, config.emotion_tokens * config.emotion_width)
        self.layers = nn.ModuleList(operations.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.norm = operations.LayerNorm(config.emotion_width)
        self.shape = (config.emotion_tokens, config.emotion_width)

    def forward(self, emotions: Tensor) -> Tensor:
        """emotions [B, 10] (valence, arousal, eight class probabilities) -> tokens [B, T, W]."""
        if emotions.ndim != 2 or emotions.shape[1] != 10:
            raise ValueError(f"Expected emotion vectors of shape [B, 10], found {list(emotions.shape)}.")
        x = emotions
        for layer in self.layers[:-1]:
            x = nn.functional.silu(layer(x))
        return self.norm(self.layers[-1](x).unflatten(1, self.shape))


def _sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal positions [length, width]: the learned positions start apart from each other."""
    angles = torch.linspace(0, 1, length)[:, None] * torch.pi * torch.arange(1, width // 4 + 1)
    half = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([half, torch.zeros(length, width - half.shape[1])], dim=1)
