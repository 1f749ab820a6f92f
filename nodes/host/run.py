"""One sampling run, from a latent and a seed to a latent."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch

from ...facecrafter_core.diffusion.families import Family
from ...facecrafter_core.errors import ModelError
from .contexts import Controls, controls_of
from .guidance import FaceCrafterGuider

SAMPLERS: list[str] = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS: list[str] = comfy.samplers.KSampler.SCHEDULERS


def empty_latent(family: Family, count: int, same_noise: bool) -> dict[str, Any]:
    """An empty latent batch of the family's size; with `same_noise`, each picture starts from the first one's noise."""
    size = family.latent_size
    samples = torch.zeros(count, 4, size, size, device=comfy.model_management.intermediate_device())
    return {"samples": samples, **({"batch_index": [0] * count} if same_noise else {})}


def entries_in(positive: list[Any]) -> int:
    """How many pictures a conditioning describes: the longest of its identity, landmark and emotion batches."""
    lengths = [1]
    for context, options in positive:
        controls = controls_of(options)
        tokens = (controls.landmark_tokens, controls.emotion_tokens) if isinstance(controls, Controls) else ()
        lengths += [len(context), *(len(t) for t in tokens if t is not None)]
    return max(lengths)


def sigma_interval(model: Any, start: float, end: float) -> tuple[float, float]:
    """Shares of the sampling run (0 = pure noise, 1 = done) -> (low, high) in the MODEL's noise levels."""
    sampling = model.get_model_object("model_sampling")
    low = 0.0 if end >= 1.0 else float(sampling.percent_to_sigma(end))
    high = math.inf if start <= 0.0 else float(sampling.percent_to_sigma(start))
    return low, high


def check_latent(samples: torch.Tensor) -> None:
    """
    Raises:
        ModelError: nothing in it, of another shape than [B, 4, h, w], or numbers that are not finite.
    """
    if not len(samples):
        raise ModelError("The latent is an empty batch: expected at least one picture, found none.")
    if samples.ndim != 4 or samples.shape[1] != 4:
        raise ModelError(
            f"Expected a latent of shape [B, 4, h, w], found {list(samples.shape)}. Use an SD 1.5 latent of the base's own VAE."
        )
    if not torch.isfinite(samples).all():
        raise ModelError("The latent holds numbers that are not finite (NaN or infinity). Encode or make it again.")


def sample(
    guider: FaceCrafterGuider,
    latent: dict[str, Any],
    seed: int,
    steps: int,
    sampler: str,
    scheduler: str,
    denoise: float,
) -> dict[str, Any]:
    """Samples as ComfyUI's KSampler does, with its noise, sigmas, previews, masks and interrupts, and the guider's guidance."""
    for name, value, known in (("sampler", sampler, SAMPLERS), ("scheduler", scheduler, SCHEDULERS)):
        if value not in known:  # ComfyUI lets every value through where a prompt comes over its API
            raise ModelError(f"Expected a {name} that this ComfyUI knows, such as {known[0]}, found {value!r}.")
    model = guider.model_patcher
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    check_latent(samples)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    plan = comfy.samplers.KSampler(
        model,
        steps=steps,
        device=model.load_device,
        sampler=sampler,
        scheduler=scheduler,
        denoise=denoise,
        model_options=model.model_options,
    )
    out = guider.sample(
        noise,
        samples,
        comfy.samplers.sampler_object(sampler),
        plan.sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return {**latent, "samples": out.to(comfy.model_management.intermediate_device())}
