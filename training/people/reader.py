"""A small network that reads scores from pixels, so that gradients lead from MediaPipe's scores to a picture and on to the style behind it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from training.people.directions import SCORES

SIDE = 128
"""Of the pictures that it reads."""

WIDTHS = (48, 96, 192, 256, 320)
LEAST_SD = 0.02
"""A score that varies less is measured by this unit."""

SHIFT = 4
"""Largest shift of a training picture, in pixels."""


class Reader(nn.Module):
    """Pictures [B, 3, 128, 128] in -1..1 -> scores [B, 55] in their own units.

    Args:
        mean, sd: of the scores [55].
    """

    def __init__(self, mean: Tensor, sd: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd.clamp(min=LEAST_SD))
        layers: list[nn.Module] = []
        for a, b in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.SiLU(), nn.Conv2d(b, b, 3, 1, 1), nn.GroupNorm(8, b), nn.SiLU()]
        side = SIDE // 2 ** len(WIDTHS)
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(nn.Linear(WIDTHS[-1] * side**2, 512), nn.SiLU(), nn.Linear(512, len(SCORES)))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.mean + self.sd * self.standardised(pictures)

    def standardised(self, pictures: Tensor) -> Tensor:
        """Scores less their mean, in standard deviations."""
        return self.head(self.features(pictures)).float()


def train_reader(pictures: Tensor, scores: Tensor, steps: int, batch: int, random: torch.Generator) -> tuple[Reader, float]:
    """
    Args:
        pictures: uint8 [N, 3, 128, 128]. scores: [N, 55]. Both on one device.
        random: on the CPU; the order of the pictures, their shifts and their brightness.

    Returns:
        The frozen network, and the median over the scores that vary of the variance that it explains on pictures held out (1 is all of it).
    """
    device, cuda = pictures.device, pictures.is_cuda
    order = torch.randperm(len(pictures), generator=random)
    held = min(1000, len(pictures) // 4)
    held_out, training = order[:held].to(device), order[held:]
    reader = Reader(scores.mean(0), scores.std(0)).to(device)
    optimizer = torch.optim.AdamW(reader.parameters(), 1e-3, weight_decay=1e-2)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        chosen = training[torch.randint(len(training), (batch,), generator=random)].to(device)
        dx, dy = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=random).tolist()
        brightness = 0.8 + 0.4 * torch.rand(batch, 1, 1, 1, generator=random).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            found = reader.standardised(unit(pictures[chosen]).roll((dy, dx), (2, 3)) * brightness)
        loss = smooth_l1_loss(found, (scores[chosen] - reader.mean) / reader.sd)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    reader.eval().requires_grad_(False)
    return reader, _explained(reader, pictures[held_out], scores[held_out])


def unit(pictures: Tensor) -> Tensor:
    """uint8 -> -1..1."""
    return pictures.float() / 127.5 - 1


@torch.inference_mode()
def _explained(reader: Reader, pictures: Tensor, scores: Tensor) -> float:
    found = torch.cat([reader(unit(part)) for part in pictures.split(256)])
    variance = scores.var(0, correction=0)
    varies = variance > LEAST_SD**2
    left = (found - scores).square().mean(0)
    return (1 - left[varies] / variance[varies]).median().item() if varies.any() else float("nan")
