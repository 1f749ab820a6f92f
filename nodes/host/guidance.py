"""Eq. 6 in ComfyUI: all rows of a step as one calc_cond_batch, for a guider and for a MODEL under any sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import torch
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

CALC_COND = "sampler_calc_cond_batch_function"
RUNS = "facecrafter_guided_runs"


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
    if CALC_COND in options and not isinstance(options[CALC_COND], GuidedPrediction):
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


class FaceCrafterGuider(comfy.samplers.CFGGuider):
    """A guider that takes all of Eq. 6 for ComfyUI's guidance. Hooks on cfg see it as (cond, uncond, scale).

    Args:
        model: any MODEL; it is cloned and patched.
        positive, negative: from FaceCrafter Conditioning, maybe through other nodes.
    """

    def __init__(
        self, model: comfy.model_patcher.ModelPatcher, positive: Any, negative: Any, guidance: Guidance
    ) -> None:
        super().__init__(install(model))
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
        options = model_options or {}
        positive, negative = self.conds["positive"], self.conds["negative"]
        cond, uncond, weight = guided_prediction(
            self.inner_model, positive, negative, x, timestep, options, self.guidance
        )
        for function in options.get("sampler_pre_cfg_function", []):
            args = {
                "conds": [positive, negative],
                "conds_out": [cond, uncond],
                "cond_scale": weight,
                "timestep": timestep,
                "input": x,
                "sigma": timestep,
                "model": self.inner_model,
                "model_options": options,
            }
            cond, uncond = function(args)[:2]
        return comfy.samplers.cfg_function(
            self.inner_model, cond, uncond, weight, x, timestep, model_options=options, cond=positive, uncond=negative
        )


@dataclass(frozen=True)
class GuidedPrediction:
    """Eq. 6 in the place where ComfyUI's sampling evaluates its two conds: both results are the guided prediction.

    Whatever scale the sampler's own cfg then uses, g + cfg (g - g) = g. Conds without FaceCrafter Conditioning are evaluated as usual.
    """

    guidance: Guidance

    def __deepcopy__(self, memo: Any) -> GuidedPrediction:
        return self

    def __call__(self, args: dict[str, Any]) -> list[Tensor]:
        conds, x, sigma, model, options = (args[k] for k in ("conds", "input", "sigma", "model", "model_options"))
        positive, negative = conds[0], conds[1] if len(conds) > 1 else None
        if not has_controls(positive) or negative is None:
            return comfy.samplers.calc_cond_batch(model, conds, x, sigma, options)
        cond, uncond, weight = guided_prediction(model, positive, negative, x, sigma, options, self.guidance)
        guided = uncond + (cond - uncond) * weight
        return [guided, guided]


def apply_to_model(model: comfy.model_patcher.ModelPatcher, guidance: Guidance) -> comfy.model_patcher.ModelPatcher:
    """MODEL -> a MODEL that samples with Eq. 6 under the plain KSampler, detailers and upscalers.

    Raises:
        ModelError: another node has put its own evaluation of the conds there.
    """
    there = model.model_options.get(CALC_COND)
    if there is not None and not isinstance(there, GuidedPrediction):
        raise ModelError(
            "Another node already evaluates the conditions of this MODEL in its own way; use the FaceCrafter Sampler with it."
        )
    patched = install(model)
    patched.set_model_sampler_calc_cond_batch_function(GuidedPrediction(guidance))
    patched.model_options["disable_cfg1_optimization"] = True  # at cfg 1 the sampler would leave the negative out
    return patched
