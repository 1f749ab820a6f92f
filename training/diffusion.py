"""The diffusion loss (Eq. 4) and its table by noise level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class Noising:
    """The forward process of a diffusers scheduler configuration: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise."""

    def __init__(self, scheduler: Any, device: torch.device) -> None:
        self.prediction_type = scheduler.config.prediction_type
        self.alphas = scheduler.alphas_cumprod.to(device)

    def __call__(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """clean, noise [B, 4, h, w], timesteps [B] -> noisy latents and what the network has to predict."""
        a = self.alphas[timesteps].view(-1, 1, 1, 1)
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        if self.prediction_type == "epsilon":
            return noisy, noise
        return noisy, a.sqrt() * noise - (1 - a).sqrt() * clean


def draw_timesteps(count: int, device: torch.device, power: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Timesteps 0..999; evenly spread for power 1, more of the noisy ones below 1."""
    spread = (torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)) / count
    return (spread**power * 1000).long().clamp(max=999)[torch.randperm(count, generator=generator, device=device)]


@torch.inference_mode()
def loss_table(
    predict: Callable[[str, Tensor, Tensor], Tensor],
    conditions: list[str],
    clean: Tensor,
    noising: Noising,
    levels: tuple[int, ...],
) -> dict[str, dict[int, float]]:
    """Held-out loss of each condition at each noise level, on the same latents and noise.

    Args:
        predict: (condition, noisy latents, timesteps) -> prediction.
        clean: latents [B, 4, h, w].
    """
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean)
    table: dict[str, dict[int, float]] = {c: {} for c in conditions}
    for level in levels:
        timesteps = torch.full((len(clean),), level, device=clean.device)
        noisy, target = noising(clean, noise, timesteps)
        for condition in conditions:
            table[condition][level] = (predict(condition, noisy, timesteps) - target).square().mean().item()
    return table


def format_table(table: Mapping[str, Mapping[int, float]]) -> str:
    levels = list(next(iter(table.values())))
    lines = ["held-out loss at timestep  " + "".join(f"{level:>9}" for level in levels)]
    lines += [f"  {name:<25}" + "".join(f"{row[level]:9.4f}" for level in levels) for name, row in table.items()]
    return "\n".join(lines)
