"""Sampling with the paper's guidance: in one node, as a guider, or inside a MODEL."""

from __future__ import annotations

from typing import Any, NamedTuple

from comfy_api.latest import io

from ..facecrafter_core.diffusion.guidance import MODES, Guidance
from ..facecrafter_core.errors import ModelError
from .host.contexts import controls_of
from .host.counts import pictures_of
from .host.guidance import FaceCrafterGuider, apply_to_model
from .host.run import CALLS, SAMPLERS, SCHEDULERS, empty_latent, sample, sigma_interval
from .types import CATEGORY, Intervals, Weights

DEFAULTS = Guidance()
KINDS = ("identity", "landmark", "emotion")
MAX_REFRESH = 10


class Timing(NamedTuple):
    """What INTERVALS carries: shares of the run between which each weight acts, and how often guidance is computed anew."""

    identity: tuple[float, float]
    landmark: tuple[float, float]
    emotion: tuple[float, float]
    refresh: int


def weight_inputs() -> list[io.Input]:
    """The weights of Eq. 6."""
    weight = {"min": 0.0, "max": 20.0, "step": 0.1}
    return [
        io.Float.Input(
            "identity_weight", default=DEFAULTS.identity, **weight, tooltip="w_ID of Eq. 6: likeness. 1 is no guidance."
        ),
        io.Float.Input(
            "landmark_weight",
            default=DEFAULTS.landmark,
            **weight,
            tooltip="w_LMK of Eq. 6: pose and expression. 0 is off.",
        ),
        io.Float.Input(
            "emotion_weight", default=DEFAULTS.emotion, **weight, tooltip="w_EMO of Eq. 6: emotion. 0 is off."
        ),
        io.Combo.Input(
            "mode",
            options=list(MODES),
            default=MODES[0],
            tooltip="'paper': landmarks and emotion in rows of their own (four rows a step). 'joint': one row with both (three rows, faster).",
        ),
    ]


def intervals_input() -> io.Input:
    return Intervals.Input(
        "intervals",
        optional=True,
        tooltip="From Guidance Intervals: when in the run each weight acts, and how often guidance is computed anew. Open: always.",
    )


def weights_input() -> io.Input:
    return Weights.Input(
        "weights", optional=True, tooltip="From Schedule: weights that change from picture to picture; they replace the numbers above."
    )


def guidance_of(
    model: Any,
    identity_weight: float,
    landmark_weight: float,
    emotion_weight: float,
    mode: str,
    intervals: Timing | None = None,
    weights: Any = None,
) -> Guidance:
    """The inputs -> Guidance, with intervals in the MODEL's noise levels."""
    timing = {}
    if intervals is not None:
        timing = {f"{kind}_interval": sigma_interval(model, *getattr(intervals, kind)) for kind in KINDS}
        timing["refresh"] = intervals.refresh
    numbers = (identity_weight, landmark_weight, emotion_weight)
    numbers = [number if track is None else track for number, track in zip(numbers, weights or (None,) * 3, strict=True)]
    return Guidance(*numbers, mode, **timing)


def conditioning_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The base's MODEL, maybe with LoRAs and other patches."),
        io.Conditioning.Input(
            "positive", tooltip="From FaceCrafter Conditioning, maybe through ControlNet or mask nodes."
        ),
        io.Conditioning.Input("negative", tooltip="From FaceCrafter Conditioning."),
    ]


def sampler_input() -> io.Input:
    """The names of the samplers. How often each calls the network goes to the browser with it, for the count on the node."""
    sampler = io.Combo.Input(
        "sampler_name", options=SAMPLERS, default="ddpm", tooltip="The paper samples with DDPM."
    )
    sampler.extra_dict = {"calls": CALLS}
    return sampler


class FaceCrafterSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterSampler",
            display_name="FaceCrafter Sampler",
            category=CATEGORY,
            description="Samples with the paper's guidance (Eq. 6): identity, landmarks and emotion each have a weight. All rows of a step go "
            "through the network as one batch; rows that no weight needs are not computed.",
            inputs=[
                *conditioning_inputs(),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed gives the same picture.",
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps."),
                sampler_input(),
                io.Combo.Input(
                    "scheduler",
                    options=SCHEDULERS,
                    default="sgm_uniform",
                    tooltip="How the steps are spread over noise levels.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1 keeps part of the latent picture (image to image).",
                ),
                *weight_inputs(),
                io.Boolean.Input(
                    "same_noise",
                    default=False,
                    tooltip="Without a latent: start all pictures of the batch from the same noise, so that only their conditions differ. "
                    "Choose a sampler that adds no noise, such as dpmpp_2m.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="What to start from. Open: an empty latent of the base's own size, one picture for each entry of the conditions. "
                    "One latent serves all entries.",
                ),
                intervals_input(),
                weights_input(),
            ],
            outputs=[io.Latent.Output(id="samples", display_name="LATENT", tooltip="Decode it with the base's VAE.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        seed: int,
        steps: int,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        identity_weight: float,
        landmark_weight: float,
        emotion_weight: float,
        mode: str,
        same_noise: bool,
        latent: Any = None,
        intervals: Any = None,
        weights: Any = None,
    ) -> io.NodeOutput:
        guidance = guidance_of(model, identity_weight, landmark_weight, emotion_weight, mode, intervals, weights)
        guider = FaceCrafterGuider(model, positive, negative, guidance)
        if latent is None:
            latent = empty_latent(family_of(positive), pictures_of(1, guider.original_conds, guidance), same_noise)
        return io.NodeOutput(sample(guider, latent, seed, steps, sampler_name, scheduler, denoise))


def family_of(positive: Any) -> Any:
    """The family that a conditioning was made for."""
    from ..facecrafter_core.diffusion.families import FAMILIES

    carried = [c for _, options in positive if (c := controls_of(options)) is not None]
    if not carried:
        raise ModelError(
            "The positive conditioning carries no FaceCrafter identity: expected the output of FaceCrafter Conditioning."
        )
    return FAMILIES[carried[0].adapter.model.config.family]


class FaceCrafterGuiderNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterGuider",
            display_name="FaceCrafter Guider",
            category=CATEGORY,
            description="The paper's guidance (Eq. 6) as a GUIDER, for SamplerCustomAdvanced.",
            inputs=[*conditioning_inputs(), *weight_inputs(), intervals_input(), weights_input()],
            outputs=[io.Guider.Output(id="guider", display_name="GUIDER", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model: Any, positive: Any, negative: Any, **guidance: Any) -> io.NodeOutput:
        return io.NodeOutput(FaceCrafterGuider(model, positive, negative, guidance_of(model, **guidance)))


class FaceCrafterApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterApply",
            display_name="Apply FaceCrafter",
            category=CATEGORY,
            description="The paper's guidance (Eq. 6) inside the MODEL: for the plain KSampler, detailers and upscalers. The sampler's own cfg "
            "then changes nothing. Put it after LoRAs and other patches, and give the sampler the outputs of FaceCrafter Conditioning.",
            inputs=[
                io.Model.Input("model", tooltip="The base's MODEL, maybe with LoRAs and other patches."),
                *weight_inputs(),
                intervals_input(),
                weights_input(),
            ],
            outputs=[
                io.Model.Output(id="patched", display_name="MODEL", tooltip="For any sampler; its cfg changes nothing.")
            ],
        )

    @classmethod
    def execute(cls, model: Any, **guidance: Any) -> io.NodeOutput:
        return io.NodeOutput(apply_to_model(model, guidance_of(model, **guidance)))


class FaceCrafterGuidanceIntervals(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = []
        for name, word in (
            ("identity", "identity weight"),
            ("landmark", "landmark weight"),
            ("emotion", "emotion weight"),
        ):
            for end, default in (("start", 0.0), ("end", 1.0)):
                tip = f"Share of the run at which the {word} {'begins' if end == 'start' else 'ceases'} to act (0 is pure noise, 1 the picture)."
                inputs.append(
                    io.Float.Input(f"{name}_{end}", default=default, min=0.0, max=1.0, step=0.01, tooltip=tip)
                )
        inputs.append(
            io.Int.Input(
                "refresh",
                default=1,
                min=1,
                max=MAX_REFRESH,
                optional=True,  # prompts from before it was there
                tooltip="All rows in every so many calls of the network; in those between the identity's row alone, with the last guidance "
                "added to it. Of four rows, 2 saves 37% of the work. 1 is exact.",
            )
        )
        return io.Schema(
            node_id="FaceCrafterGuidanceIntervals",
            display_name="Guidance Intervals",
            category=CATEGORY,
            description="Limits each weight to a part of the sampling run. Outside of its interval the identity weight is 1, the others 0. "
            "Also sets how often guidance is computed anew.",
            inputs=inputs,
            outputs=[
                Intervals.Output(
                    id="intervals", display_name="INTERVALS", tooltip="For the FaceCrafter Sampler, Guider or Apply."
                )
            ],
        )

    @classmethod
    def execute(cls, refresh: int = 1, **ends: float) -> io.NodeOutput:
        intervals = [(ends[f"{kind}_start"], ends[f"{kind}_end"]) for kind in KINDS]
        for kind, (start, end) in zip(KINDS, intervals, strict=True):
            if start > end:
                raise ModelError(f"The {kind} interval must start before it ends, found {start} to {end}.")
        Guidance(refresh=refresh)  # the error belongs to this node, not to the sampler
        return io.NodeOutput(Timing(*intervals, refresh))
