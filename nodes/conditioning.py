"""FaceCrafter Conditioning: identity, landmarks and emotion -> CONDITIONING."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from .host.adapter import FaceCrafter
from .host.contexts import make_conditioning
from .types import CATEGORY, Crafter, EmotionVectors, Identity, Landmarks


class FaceCrafterConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        alpha = {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.05}
        return io.Schema(
            node_id="FaceCrafterConditioning",
            display_name="FaceCrafter Conditioning",
            category=CATEGORY,
            description="Joins identity, landmarks and emotion. The outputs are ordinary CONDITIONING: ControlNet, masks and areas go on top.",
            inputs=[
                Crafter.Input("facecrafter", tooltip="From Load FaceCrafter."),
                Identity.Input("identity", tooltip="From Encode Identity: who it is."),
                io.Float.Input(
                    "alpha_landmarks",
                    **alpha,
                    tooltip="Strength of the landmark branch (Eq. 1). 0 cuts it off exactly, 1 is as trained.",
                ),
                io.Float.Input(
                    "alpha_emotion",
                    **alpha,
                    tooltip="Strength of the emotion branch (Eq. 1). 0 cuts it off exactly, 1 is as trained.",
                ),
                Landmarks.Input(
                    "landmarks",
                    optional=True,
                    tooltip="From Extract Landmarks: pose and expression. A batch: one portrait each.",
                ),
                EmotionVectors.Input(
                    "emotion", optional=True, tooltip="From one of the Emotion nodes. A batch: one portrait each."
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    id="positive", display_name="positive", tooltip="The identity with its controls."
                ),
                io.Conditioning.Output(
                    id="negative", display_name="negative", tooltip="No identity: what guidance leads away from."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        facecrafter: FaceCrafter,
        identity: torch.Tensor,
        alpha_landmarks: float,
        alpha_emotion: float,
        landmarks: torch.Tensor | None = None,
        emotion: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            *make_conditioning(facecrafter, identity, landmarks, emotion, alpha_landmarks, alpha_emotion)
        )
