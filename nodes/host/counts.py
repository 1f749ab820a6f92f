"""How many pictures a sampling run makes: one rule for the FaceCrafter Sampler, the Guider and Apply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import comfy.sample
import comfy.utils
import torch
from torch import Tensor

from ...facecrafter_core.diffusion.guidance import Guidance
from ...facecrafter_core.errors import ModelError
from .contexts import controls_of


def pictures_of(latents: int, conds: Mapping[str, list[dict[str, Any]]], guidance: Guidance) -> int:
    """The pictures of a run: as many as latents; with one latent, as many as the longest of the conditions and weights.

    Args:
        conds: a guider's, by name.

    Raises:
        ModelError: a condition or the weights have another length than 1 and do not go into that number.
    """
    lengths = [*_lengths(conds), ("weights", guidance.pictures or 1)]
    longest, most = max(lengths, key=lambda one: one[1])
    pictures = latents if latents > 1 else most
    for name, count in lengths:
        if pictures % count == 0:
            continue
        if latents > 1:
            raise ModelError(
                f"Expected a latent batch of 1, {count} or a multiple of {count} for {count} {name}, found {latents}. "
                f"Change batch_size where the latent is made, or the number of {name} (in Schedule: frames)."
            )
        raise ModelError(
            f"Expected as many {name} as {longest}, or one for all, found {count} {name} and {most} {longest}. "
            f"Change the number of {name} or of {longest} (in Schedule: frames)."
        )
    return pictures


def _lengths(conds: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, int]]:
    for entry in (entry for entries in conds.values() for entry in entries or []):
        controls = controls_of(entry)
        batches = {"identities": entry.get("cross_attn")}
        if controls is not None and controls.row != "none":  # the negative's are never read
            batches |= {"landmarks": controls.landmark_tokens, "emotions": controls.emotion_tokens}
        yield from ((name, len(batch)) for name, batch in batches.items() if batch is not None)


def one_for_each(pictures: int, noise: Tensor, latent: Tensor, mask: Tensor | None, seed: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Noise, latent and mask of one picture -> of `pictures`, as a latent batch of that length would have given them.

    Noise that ComfyUI does not make of the seed, such as none at all, serves all pictures.
    """
    repeat = comfy.utils.repeat_to_batch_size
    like = noise.cpu()
    whole = repeat(noise, pictures)
    if seed is not None and torch.equal(comfy.sample.prepare_noise(like, seed), like):
        more = comfy.sample.prepare_noise(repeat(like, pictures), seed)[1:]
        whole = torch.cat([noise, more.to(noise)])
    single = mask is not None and mask.ndim > 2 and len(mask) == 1
    return whole, repeat(latent, pictures), repeat(mask, pictures) if single else mask
