"""Other people's methods that diffusers runs by itself, as rows of training/evaluate.py.

Any other method answers the plan with a folder of pictures (--pictures); this is for those whose parts are at hand anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facecrafter_core.diffusion.identity_tokens import encode_identity_tokens, encode_no_identity
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.errors import MetricError
from training.benchmark import Plan
from training.methods import Conditions


class ControlNetMethod:
    """Arc2Face + ControlNet (Table 1): the base with plain guidance, and a ControlNet that sees a picture for each target.

    Args:
        pipe: the base; its adapter is not used. controlnet: folder of a diffusers ControlNetModel. hints: folder with NNN.png for each of the
            plan's targets (as in its folder targets/); Arc2Face's are normal maps rendered from EMOCA's parameters.
        weight: of classifier-free guidance. steps: sampling steps.

    Raises:
        MetricError: no ControlNet in the folder, one of another base, or hints are missing.
    """

    def __init__(self, name: str, pipe: FaceCrafterPipeline, controlnet: Path, hints: Path, plan: Plan, conditions: Conditions, weight: float, steps: int) -> None:
        from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

        if not (controlnet / "config.json").is_file():
            raise MetricError(f"Expected the folder of a ControlNet as diffusers saves it at {controlnet}, found no config.json there.")
        missing = [file.name for i in range(len(plan.targets)) if not (file := hints / f"{i:03d}.png").is_file()]
        if missing:
            raise MetricError(f"Expected a picture for each of {len(plan.targets)} targets in {hints}, found none for {len(missing)}, such as {missing[0]}.")
        control = ControlNetModel.from_pretrained(controlnet).to(pipe.unet.device, pipe.unet.dtype)
        if control.config.cross_attention_dim != pipe.unet.config.cross_attention_dim:
            raise MetricError(f"The ControlNet in {controlnet} is for a base of width {control.config.cross_attention_dim}, this one has {pipe.unet.config.cross_attention_dim}.")
        self.pipe = StableDiffusionControlNetPipeline(
            vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=None, unet=pipe.unet, controlnet=control, scheduler=pipe.scheduler,
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        self.pipe.set_progress_bar_config(disable=True)
        self.name, self.family, self.hints, self.plan, self.conditions, self.weight, self.steps = name, pipe.family, hints, plan, conditions, weight, steps
        self.conditioned = {"identity": f"{pipe.family.name} identity encoder"}
        self.parameters = sum(p.numel() for p in control.parameters())

    def generate(self, requests: Sequence[int]) -> list[np.ndarray]:
        return [picture for i in range(0, len(requests), 8) for picture in self._batch(list(requests[i : i + 8]))]

    def _batch(self, at: list[int]) -> list[np.ndarray]:
        plan, encoder, size = self.plan, self.pipe.text_encoder, self.family.image_size
        identities = self.conditions.identities[torch.as_tensor(plan.identity[at])].to(encoder.device)
        with torch.inference_mode():
            identity, none = encode_identity_tokens(encoder, self.family, identities), encode_no_identity(encoder, self.family, len(at))
            pictures = self.pipe(
                prompt_embeds=identity, negative_prompt_embeds=none, guidance_scale=self.weight, num_inference_steps=self.steps,
                image=[Image.open(self.hints / f"{plan.target[i]:03d}.png").convert("RGB").resize((size, size)) for i in at],
                generator=[torch.Generator("cpu").manual_seed(int(plan.seed[i])) for i in at], output_type="np",
            ).images  # fmt: skip
        return list((pictures * 255).round().astype(np.uint8))
