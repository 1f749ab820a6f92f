"""Eq. 6 in ComfyUI: all rows of a step as one calc_cond_batch, for a guider and for a MODEL under any sampler."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...facecrafter_core.diffusion.guidance import (
    ALWAYS,
    ROWS,
    Guidance,
    GuidedRun,
    Weight,
    combine,
    each,
    guidance_coefficients,
)
from ...facecrafter_core.errors import ModelError
from .attention import install
from .contexts import as_row, controls_of, of_pictures
from .counts import one_for_each, pictures_of

CALC_COND = "sampler_calc_cond_batch_function"
RUNS = "facecrafter_guided_runs"
APPLIED = "facecrafter_guidance"
HOOKS = ("sampler_pre_cfg_function", "sampler_cfg_function", "sampler_post_cfg_function")
"""Where nodes in a MODEL's options read cond and uncond."""
USE_OURS = "Use KSampler, CFGGuider, the FaceCrafter Sampler or the FaceCrafter Guider."


def has_controls(positive: list[dict[str, Any]] | None) -> bool:
    """Whether a guider's cond comes from FaceCrafter Conditioning."""
    return any(controls_of(entry) is not None for entry in positive or [])


def step_coefficients(guidance: Guidance, positive: list[dict[str, Any]], sigma: Tensor) -> dict[str, Weight]:
    """The table of Eq. 6 for one step. Sigma is read back from its device only where an interval depends on it."""
    controls = [c for c in map(controls_of, positive) if c is not None]
    intervals = (guidance.identity_interval, guidance.landmark_interval, guidance.emotion_interval)
    number = 1.0 if all(i == ALWAYS for i in intervals) else float(sigma.flatten()[0])
    return guidance_coefficients(
        guidance, number, any(c.has_landmarks for c in controls), any(c.has_emotion for c in controls)
    )


def predict_rows(
    model: Any,
    positive: list[dict[str, Any]],
    negative: list[dict[str, Any]],
    rows: list[str],
    x: Tensor,
    sigma: Tensor,
    options: dict[str, Any],
) -> dict[str, Tensor]:
    """The prediction of each row, [B, 4, h, w] (clean latents), in one batch where memory allows.

    "none" is the last cond of the list and "id" stands before it, as positive and negative do in ComfyUI's own sampling.
    """
    order = sorted(rows, key=lambda row: (row == "none", row == "id", ROWS.index(row)))
    conds = [as_row(negative if row == "none" else positive, row) for row in order]
    if CALC_COND in options:
        args = {"conds": conds, "input": x, "sigma": sigma, "model": model, "model_options": options}
        out = options[CALC_COND](args)
    else:
        out = _calc_conds(model, conds, x, sigma, options)
    return dict(zip(order, out, strict=True))


def _calc_conds(model: Any, conds: list[Any], x: Tensor, sigma: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """ComfyUI's calc_cond_batch, which makes batches that should fit; those that do not are evaluated in halves: of the rows, then of the pictures."""
    try:
        return comfy.samplers.calc_cond_batch(model, conds, x, sigma, options)
    except torch.cuda.OutOfMemoryError:
        halves = _halves(conds, len(x))
        if not halves:
            raise  # ComfyUI says what to do
    comfy.model_management.soft_empty_cache()
    first, second = (_calc_conds(model, some, x[pictures], sigma[pictures], options) for some, pictures in halves)
    return first + second if len(conds) > 1 else [torch.cat(first + second)]


def _halves(conds: list[Any], count: int) -> list[tuple[list[Any], slice]]:
    """Conds and pictures of two smaller evaluations: the rows are divided first; nothing where one row of these `count` pictures cannot be."""
    middle = len(conds) // 2
    if middle:
        return [(conds[:middle], slice(None)), (conds[middle:], slice(None))]
    spans = [slice(0, count // 2), slice(count // 2, count)]
    parts = [of_pictures(conds[0] or [], span, count) for span in spans] if count > 1 else [None]
    return [] if None in parts else [([part], span) for part, span in zip(parts, spans, strict=True)]


def as_cfg(predictions: Mapping[str, Tensor], coefficients: Mapping[str, Weight]) -> tuple[Tensor, Tensor, float]:
    """Eq. 6 written as classifier-free guidance: (cond, uncond, w) with uncond + w (cond - uncond) equal to its sum.

    With w the sum of the coefficients of all rows but "none", cond is their weighted mean. With identity alone, that is the row
    "id" itself and w is w_ID, bit for bit. Where pictures have weights of their own there is no such w: both are the sum itself.
    """
    if any(isinstance(c, tuple) for c in coefficients.values()):
        guided = combine(predictions, coefficients)
        return guided, guided, 1.0
    conditional = {row: c for row, c in coefficients.items() if row != "none"}
    weight = sum(conditional.values())
    if not conditional or weight == 0.0:
        guided = combine(predictions, coefficients)
        return guided, guided, 1.0
    cond = combine(predictions, {row: c / weight for row, c in conditional.items()})
    return cond, predictions.get("none", cond), weight


class Runs:
    """The GuidedRuns of one sampling run: one for each conditioning and shape of latents that its calls come with.

    Lies in the transformer_options, which ComfyUI makes anew for each sampling run. (Its noise levels may be one tensor in several:
    guider and sigmas of a prompt before are used again.)
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[int, torch.Size], tuple[Any, GuidedRun]] = {}

    def __deepcopy__(self, memo: Any) -> Runs:
        return Runs()

    def of(self, positive: list[dict[str, Any]], x: Tensor, refresh: int) -> GuidedRun:
        key = (id(positive), x.shape)
        if key not in self._runs:
            self._runs[key] = (positive, GuidedRun(refresh))  # with the list itself, so that no other one gets its id
        return self._runs[key][1]


def guided_run(options: dict[str, Any], positive: list[dict[str, Any]], x: Tensor, refresh: int) -> GuidedRun:
    """What this call shares with those before it in the same sampling run."""
    if refresh == 1:
        return GuidedRun()
    return options.setdefault("transformer_options", {}).setdefault(RUNS, Runs()).of(positive, x, refresh)


def output_scale(model: Any, x: Tensor, sigma: Tensor) -> Tensor:
    """What a difference of 1 in the network's output (noise or v) is in clean latents, [B, 1, 1, 1]."""
    one = x.new_ones((len(x), *[1] * (x.ndim - 1)))
    return model.model_sampling.calculate_denoised(sigma, one, torch.zeros_like(one))


def guided_prediction(
    model: Any,
    positive: list[dict[str, Any]],
    negative: list[dict[str, Any]],
    x: Tensor,
    sigma: Tensor,
    options: dict[str, Any],
    guidance: Guidance,
) -> tuple[Tensor, Tensor, float]:
    """One step's (cond, uncond, weight), see as_cfg. Between two refreshes, both are the guided prediction."""
    run = guided_run(options, positive, x, guidance.refresh)
    fresh, coefficients = run.fresh, run.coefficients(step_coefficients(guidance, positive, sigma))
    rows = list(coefficients)
    if fresh and options.get("disable_cfg1_optimization", False) and "none" not in rows:
        rows.append("none")
    predictions = predict_rows(model, positive, negative, rows, x, sigma, options)
    if guidance.refresh == 1:
        return as_cfg(predictions, coefficients)
    guided = run.combine(predictions, coefficients, output_scale(model, x, sigma))
    return as_cfg(predictions, coefficients) if fresh else (guided, guided, 1.0)


def guided_noise(
    guider: comfy.samplers.CFGGuider,
    guidance: Guidance,
    x: Tensor,
    timestep: Tensor,
    model_options: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Tensor:
    """A guider's predict_noise with Eq. 6. Hooks on cfg see it as (cond, uncond, scale), see as_cfg."""
    options, model = model_options or {}, guider.inner_model
    positive, negative = guider.conds["positive"], guider.conds["negative"]
    cond, uncond, weight = guided_prediction(model, positive, negative, x, timestep, options, guidance)
    for function in options.get("sampler_pre_cfg_function", []):
        args = {
            "conds": [positive, negative],
            "conds_out": [cond, uncond],
            "cond_scale": weight,
            "timestep": timestep,
            "input": x,
            "sigma": timestep,
            "model": model,
            "model_options": options,
        }
        cond, uncond = function(args)[:2]
    return comfy.samplers.cfg_function(model, cond, uncond, weight, x, timestep, model_options=options, cond=positive, uncond=negative)


class FaceCrafterGuider(comfy.samplers.CFGGuider):
    """A guider that takes all of Eq. 6 for ComfyUI's guidance.

    Args:
        model: any MODEL; it is cloned and patched.
        positive, negative: from FaceCrafter Conditioning, maybe through other nodes.
    """

    def __init__(
        self, model: comfy.model_patcher.ModelPatcher, positive: Any, negative: Any, guidance: Guidance
    ) -> None:
        super().__init__(apply_to_model(model, guidance))
        self.guidance = guidance
        self.inner_set_conds({"positive": positive, "negative": negative})
        self.set_cfg(max(each(guidance.identity)))
        if not has_controls(self.original_conds["positive"]):
            raise ModelError(
                "The positive conditioning carries no FaceCrafter identity: expected the output of FaceCrafter Conditioning."
            )

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        return guided_noise(self, self.guidance, x, timestep, model_options, seed)


@dataclass(frozen=True)
class GuidedSampling:
    """Around a sampling run: Eq. 6 in the place of the guider's own formula, and as many pictures as there are conditions.

    The innermost part of the guider is replaced, so that all that other nodes put around it or hook into it acts as under the
    FaceCrafterGuider. Conds without FaceCrafter Conditioning are evaluated as usual.
    """

    guidance: Guidance

    def __call__(
        self, executor: Any, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor, denoise_mask: Tensor | None = None,
        callback: Any = None, disable_pbar: bool = False, seed: int | None = None, **later: Any,
    ) -> Tensor:  # fmt: skip
        guider = executor.class_obj
        if not has_controls(guider.conds.get("positive")):
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **later)
        pictures = pictures_of(len(noise), guider.conds, self.guidance)
        if pictures > len(noise):
            noise, latent_image, denoise_mask = one_for_each(pictures, noise, latent_image, denoise_mask, seed)
            later |= {"latent_shapes": [latent_image.shape]} if "latent_shapes" in later else {}
        with self._in_place(guider):
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **later)

    @contextmanager
    def _in_place(self, guider: comfy.samplers.CFGGuider) -> Iterator[None]:
        """The guider predicts with Eq. 6 within."""
        if isinstance(guider, FaceCrafterGuider):
            yield
            return
        if type(guider).predict_noise is not comfy.samplers.CFGGuider.predict_noise:
            guider.predict_noise = OwnFormula(guider, self.guidance).predict_noise
        elif guider.conds.get("negative") is None:
            raise ModelError(f"Eq. 6 needs a positive and a negative conditioning, and {type(guider).__name__} has no negative. {USE_OURS}")
        else:
            guider.predict_noise = partial(guided_noise, guider, self.guidance)
        try:
            yield
        finally:
            del guider.predict_noise


class OwnFormula:
    """Eq. 6 for one run of a guider with a formula of its own: wherever ComfyUI evaluates its two conds, both results are the guided prediction.

    Whatever scale the formula then uses, g + cfg (g - g) = g. Nodes that read the two results find no difference between them.
    """

    def __init__(self, guider: comfy.samplers.CFGGuider, guidance: Guidance) -> None:
        self.guidance, self.formula, self.calls = guidance, guider.predict_noise, 0
        self.name, options = type(guider).__name__, guider.model_options  # the options are this run's own copy
        self.before = {CALC_COND: options[CALC_COND]} if CALC_COND in options else {}
        options |= {CALC_COND: self.evaluate, "disable_cfg1_optimization": True}  # at cfg 1 the negative would be left out
        if any(options.get(hook) for hook in HOOKS):
            logging.warning(
                f"Apply FaceCrafter under {self.name}: nodes that read the conditional and the unconditional prediction "
                f"(RescaleCFG, APG, PAG and others) find no difference between them. {USE_OURS}"
            )

    def predict_noise(self, *args: Any, **kwargs: Any) -> Tensor:
        """
        Raises:
            ModelError: the formula evaluated its conds in a way that Eq. 6 is not part of.
        """
        before = self.calls
        out = self.formula(*args, **kwargs)
        if self.calls == before:
            raise ModelError(f"{self.name} evaluates its conditionings by itself, so that Apply FaceCrafter cannot act. {USE_OURS}")
        return out

    def evaluate(self, args: dict[str, Any]) -> list[Tensor]:
        conds, x, sigma, model = (args[k] for k in ("conds", "input", "sigma", "model"))
        options = {k: v for k, v in args["model_options"].items() if k != CALC_COND} | self.before
        positive, negative = conds[0], conds[1] if len(conds) > 1 else None
        if negative is None or not has_controls(positive):
            return comfy.samplers.calc_cond_batch(model, conds, x, sigma, options)
        self.calls += 1
        cond, uncond, weight = guided_prediction(model, positive, negative, x, sigma, options, self.guidance)
        guided = uncond + (cond - uncond) * weight
        return [guided, guided]


def apply_to_model(model: comfy.model_patcher.ModelPatcher, guidance: Guidance) -> comfy.model_patcher.ModelPatcher:
    """MODEL -> a MODEL that samples with Eq. 6 under the plain KSampler, detailers and upscalers. Guidance of before is replaced."""
    patched = install(model)
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, APPLIED)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, APPLIED, GuidedSampling(guidance))
    return patched
