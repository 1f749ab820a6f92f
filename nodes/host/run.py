"""One sampling run, from a latent and a seed to a latent."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import folder_paths
import latent_preview
import torch

from ...facecrafter_core.batch import seed_after
from ...facecrafter_core.diffusion.families import Family
from ...facecrafter_core.diffusion.guidance import Guidance
from ...facecrafter_core.errors import ModelError, OutputError
from .adapter import FaceCrafter
from .contexts import make_conditioning
from .counts import one_for_each, pictures_of
from .guidance import FaceCrafterGuider

if TYPE_CHECKING:
    from ...facecrafter_core.plan import Portrait

SAMPLERS: list[str] = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS: list[str] = comfy.samplers.KSampler.SCHEDULERS

CALLS: dict[str, tuple[int, int] | None] = {
    **dict.fromkeys(("heun", "dpm_2", "dpm_2_ancestral", "dpmpp_sde", "dpmpp_sde_gpu", "seeds_2", "sa_solver_pece"), (2, -1)),
    **dict.fromkeys(("dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp", "exp_heun_2_x0", "exp_heun_2_x0_sde"), (2, -1)),
    "heunpp2": (3, -3),
    "seeds_3": (3, -2),
    "dpm_adaptive": None,
}
"""Calls of the network in a run: (a, b) is a x steps + b, and at least one. Samplers that are not listed call it once a step;
None: known only when the run is over."""


def empty_latent(family: Family, count: int, same_noise: bool) -> dict[str, Any]:
    """An empty latent batch of the family's size; with `same_noise`, each picture starts from the first one's noise."""
    size = family.latent_size
    samples = torch.zeros(count, 4, size, size, device=comfy.model_management.intermediate_device())
    return {"samples": samples, **({"batch_index": [0] * count} if same_noise else {})}


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


def sampler_of(name: str, noise: torch.Tensor, seed: int, device: torch.device) -> comfy.samplers.Sampler:
    """ComfyUI's sampler. On a CPU, noise that it adds on its way is ours: ComfyUI 0.3.64 would repeat the initial noise in the first step.

    It is what later versions of ComfyUI add. Samplers whose noise is a Brownian tree have no such fault.
    """
    sampler = comfy.samplers.sampler_object(name)
    function = inspect.unwrap(sampler.sampler_function)
    takes = "noise_sampler" in inspect.signature(function).parameters
    if device.type == "cpu" and takes and "BrownianTreeNoiseSampler" not in function.__code__.co_names:
        generator = torch.Generator().manual_seed(seed_after(seed, 1))
        sampler.extra_options = {
            **sampler.extra_options,
            "noise_sampler": lambda sigma, next_sigma: torch.randn(noise.shape, dtype=noise.dtype, generator=generator),
        }
    return sampler


def sample(
    guider: FaceCrafterGuider,
    latent: dict[str, Any],
    seed: int | Sequence[int],
    steps: int,
    sampler: str,
    scheduler: str,
    denoise: float,
) -> dict[str, Any]:
    """Samples as ComfyUI's KSampler does, with its noise, sigmas, previews, masks and interrupts, and the guider's guidance.

    Args:
        seed: of the batch, or one a picture (noise that a sampler adds on its way follows the first).
    """
    for name, value, known in (("sampler", sampler, SAMPLERS), ("scheduler", scheduler, SCHEDULERS)):
        if value not in known:  # ComfyUI lets every value through where a prompt comes over its API
            raise ModelError(f"Expected a {name} that this ComfyUI knows, such as {known[0]}, found {value!r}.")
    model = guider.model_patcher
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    check_latent(samples)
    if isinstance(seed, int):
        noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    else:
        noise = torch.cat([comfy.sample.prepare_noise(one[None], s) for one, s in zip(samples, seed, strict=True)])
        seed = seed[0]
    pictures = pictures_of(len(samples), guider.original_conds, guider.guidance)
    if pictures > len(samples):
        noise, samples, _ = one_for_each(pictures, noise, samples, None, seed)
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
        sampler_of(sampler, noise, seed, model.load_device),
        plan.sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    kept = {name: value for name, value in latent.items() if name != "batch_index" or len(value) == len(out)}
    return {**kept, "samples": out.to(comfy.model_management.intermediate_device())}


def portraits(
    crafter: FaceCrafter,
    model: Any,
    vae: Any,
    identities: torch.Tensor,
    wanted: Sequence[Portrait],
    seeds: Sequence[int],
    guidance: Guidance,
    steps: int,
    sampler: str,
    scheduler: str,
) -> torch.Tensor:
    """One batch of portraits, each with its own identity [N, D], pose, emotion and seed -> IMAGE [N, H, W, 3]."""
    landmarks = torch.stack([torch.from_numpy(portrait.landmarks) for portrait in wanted])
    emotions = torch.stack([torch.from_numpy(portrait.emotion.vector) for portrait in wanted])
    positive, negative = make_conditioning(crafter, identities, landmarks, emotions, 1.0, 1.0)
    guider = FaceCrafterGuider(model, positive, negative, guidance)
    latent = empty_latent(crafter.family, len(wanted), same_noise=False)
    return vae.decode(sample(guider, latent, seeds, steps, sampler, scheduler, 1.0)["samples"]).float()


def progress(total: int) -> Callable[[int], None]:
    """A node's progress bar: call it with what is done; raises ComfyUI's interrupt."""
    bar = comfy.utils.ProgressBar(total)

    def update(done: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done)

    return update


def output_folder(name: str) -> Path:
    """A folder under ComfyUI's output folder.

    Raises:
        OutputError: it lies outside, or has no name.
    """
    root = Path(folder_paths.get_output_directory()).resolve()
    place = (root / name.strip()).resolve()
    if not name.strip() or root not in place.parents:
        raise OutputError(f"Expected the name of a folder under ComfyUI's output folder, found {name!r}.")
    return place


def byte_progress() -> Callable[[int, int | None], None]:
    """A node's progress bar for a download; raises ComfyUI's interrupt, after which the download can be gone on with."""
    bar = comfy.utils.ProgressBar(1)

    def update(done: int, total: int | None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if total:
            bar.update_absolute(done, total)

    return update


def models_directory() -> Path:
    return Path(folder_paths.models_dir)
