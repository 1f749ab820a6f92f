"""Generators without the package's weights: the real topology with few channels and random numbers."""

from __future__ import annotations

import torch

from training.people.generator import STYLE_DIM, STYLE_INPUTS, Mapping, Synthesis

CHANNELS = 4
"""After each transform; before it there are four times as many."""


def tiny_mapping(seed: int = 0) -> Mapping:
    random = torch.Generator().manual_seed(seed)
    return Mapping([(torch.randn(STYLE_DIM, STYLE_DIM, generator=random) / STYLE_DIM**0.5, torch.zeros(STYLE_DIM)) for _ in range(2)])


def tiny_synthesis(seed: int = 0) -> Synthesis:
    """Pictures whose low frequencies depend on the style."""
    random, weights = torch.Generator().manual_seed(seed), {}

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=random)

    def input_of(index: int, channels: int) -> None:
        weights[f"style_{index}"] = draw(channels, STYLE_DIM, scale=0.3 / STYLE_DIM**0.5)
        weights[f"style_bias_{index}"] = torch.ones(channels)

    wide = 4 * CHANNELS
    weights |= {"constant": draw(1, CHANNELS, 4, 4), "conv_0": draw(wide, CHANNELS, 3, 3, scale=0.3)}
    input_of(0, CHANNELS)
    for level in range(7):
        input_of(1 + 3 * level, wide)
        for place, out in ((2 * level + 1, CHANNELS), (2 * level + 2, wide)):
            input_of(1 + place + level, CHANNELS)
            weights[f"depthwise_{place}"] = draw(CHANNELS, 1, 3, 3, scale=0.4)
            weights[f"conv_{place}"] = draw(out, CHANNELS, 1, 1, scale=0.7)
    for place in range(15):
        weights |= {f"noise_{place}": draw(1, 1, 1, 1, scale=0.05), f"bias_{place}": draw(1, weights[f"conv_{place}"].shape[0], 1, 1, scale=0.1)}
    weights |= {"picture": draw(12, wide, 1, 1, scale=0.4), "picture_bias": torch.zeros(12)}
    input_of(STYLE_INPUTS - 1, wide)
    return Synthesis(weights)
