"""Networks in channels-last, where convolutions are fastest, for torch.compile: its own group normalisation leaves that order.

torch decomposes it over a contiguous copy, and each normalisation (61 in the UNet) then ends with a transposition of the whole picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelsLastGroupNorm(nn.GroupNorm):
    """nn.GroupNorm that stays in channels-last where it is compiled; the same numbers to rounding."""

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape. Of other shapes, and where nothing is compiled, torch's own."""
        if pictures.ndim != 4 or not torch.compiler.is_compiling():
            return super().forward(pictures)
        grouped = (self.num_groups, -1)
        pixels = pictures.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, grouped)  # [B, h w, G, C / G]
        variances, means = torch.var_mean(pixels.float(), dim=1, keepdim=True, correction=0)  # of each channel, then of each group
        mean = means.mean(3, keepdim=True)
        variance = (variances + (means - mean).square()).mean(3, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight.unflatten(0, grouped)
        shift = self.bias.unflatten(0, grouped) - mean * scale
        found = (pixels * scale + shift).to(pictures.dtype)
        return found.flatten(2).unflatten(1, pictures.shape[2:]).permute(0, 3, 1, 2)


def to_channels_last(network: nn.Module) -> None:
    """Weights and group normalisations of a network that is about to be compiled."""
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.__class__ = ChannelsLastGroupNorm
