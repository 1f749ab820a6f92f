"""What one step reads, and what it draws at random. Both follow from (seed, step) alone.

So a run continues where it stopped without remembering any generator's state, and two processes see the two halves of what one would see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from facecrafter_core.faces.drawing import draw_landmarks
from training.diffusion import draw_timesteps
from training.loop import World
from training.pairs import Pairs
from training.prepared import Prepared


@dataclass
class Batch:
    """G images: latent_mean, latent_std [G, 4, h, w] (std may be missing), identities [G, D], drawings uint8 [G, S, S, 3], emotions [G, 10],
    masks [G, h, w] in 0..1. drawings, emotions and masks only where the stage reads them."""

    latent_mean: Tensor
    latent_std: Tensor | None
    identities: Tensor
    drawings: Tensor | None
    emotions: Tensor | None
    masks: Tensor | None

    def to(self, device: torch.device) -> Batch:
        return Batch(**{n: None if v is None else v.to(device, non_blocking=True) for n, v in self._items()})

    def part(self, which: slice) -> Batch:
        return Batch(**{n: None if v is None else v[which] for n, v in self._items()})

    def pin_memory(self) -> Batch:
        return Batch(**{n: None if v is None else v.pin_memory() for n, v in self._items()})

    def _items(self) -> list[tuple[str, Tensor | None]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self)]


class StepData(Dataset):
    """This process's images of a step, by the number of the step.

    Args:
        count: images of this process a step.
        drawings, emotions, masks: what the stage reads.
    """

    def __init__(
        self, prepared: Prepared, pairs: Pairs, world: World, count: int, picture_size: int, drawings: bool, emotions: bool, masks: bool
    ) -> None:
        self.prepared, self.pairs, self.count, self.picture_size = prepared, pairs, count, picture_size
        self.rank, self.size = world.rank, world.size
        self.wanted = {"drawings": drawings, "emotions": emotions, "masks": masks}

    def __getitem__(self, step: int) -> Batch:
        everyone = self.pairs.draw(step, self.count * self.size)
        mine = slice(self.rank * self.count, (self.rank + 1) * self.count)
        targets, partners, mirrored = (x[mine] for x in everyone)
        p = self.prepared
        identities = np.where(mirrored[:, None], p["identities_flipped"][partners], p["identities"][partners])
        std = p.arrays.get("latent_std")
        return Batch(
            latent_mean=_tensor(p["latent_mean"][targets]),
            latent_std=None if std is None else _tensor(std[targets]),
            identities=_tensor(identities),
            drawings=self._drawings(targets) if self.wanted["drawings"] else None,
            emotions=_tensor(p["emotions"][targets]) if self.wanted["emotions"] else None,
            masks=_tensor(p["masks"][targets]).float() / 255 if self.wanted["masks"] else None,
        )

    def _drawings(self, targets: np.ndarray) -> Tensor:
        if "drawings" in self.prepared.arrays:
            return _tensor(self.prepared["drawings"][targets])
        return _tensor(np.stack([draw_landmarks(points, self.picture_size) for points in self.prepared["landmarks"][targets]]))

    def __len__(self) -> int:
        return 1 << 62

    def read_ahead(self, first: int, end: int, workers: int, device: torch.device) -> Iterator[Batch]:
        """Batches of the steps first..end-1, in order, on `device`."""
        cuda = device.type == "cuda"
        loader = DataLoader(self, batch_size=None, sampler=range(first, end), num_workers=workers, pin_memory=cuda, prefetch_factor=4 if workers else None)
        for batch in loader:
            yield batch.to(device)


@dataclass(frozen=True)
class Draws:
    """Random numbers of a step, of this process: timesteps [G, B], noise [G, B, 4, h, w], the latent's own noise [G, 4, h, w], and a
    uniform number [G] that decides whether an image loses its identity. B rows an image. everyones_chance: that of all processes' images."""

    timesteps: Tensor
    noise: Tensor
    latent_noise: Tensor
    chance: Tensor
    everyones_chance: Tensor


def step_seed(seed: int, step: int) -> int:
    """64 bits for any seed; those that a seed has beyond 24 bits go over all of them."""
    return ((seed << 40) + step + (seed >> 24) * 0x9E3779B97F4A7C15) % 2**64


def draw(seed: int, step: int, world: World, images: int, rows: int, shape: tuple[int, ...], power: float) -> Draws:
    """Draws for all processes and returns this one's part; evenly spread timesteps 0..999 (power below 1: more of the noisy ones)."""
    generator = torch.Generator(world.device).manual_seed(step_seed(seed, step))
    everyone, device = images * world.size, world.device
    timesteps = draw_timesteps(everyone * rows, device, power, generator).view(everyone, rows)
    noise = torch.randn((everyone, rows, *shape), generator=generator, device=device)
    latent_noise = torch.randn((everyone, *shape), generator=generator, device=device)
    chance = torch.rand(everyone, generator=generator, device=device)
    mine = slice(world.rank * images, (world.rank + 1) * images)
    return Draws(timesteps[mine], noise[mine], latent_noise[mine], chance[mine], chance)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
