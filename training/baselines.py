"""Other people's methods that diffusers runs by itself, as rows of training/evaluate.py.

Any other method answers the plan with a folder of pictures (--pictures); this is for those whose parts are at hand anyway.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from facecrafter_core.diffusion.families import refuse_code
from facecrafter_core.diffusion.identity_tokens import encode_identity_tokens, encode_no_identity
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.diffusion.text_encoder import named
from facecrafter_core.errors import MetricError
from facecrafter_core.faces.arcface import ArcFaceEncoder
from training.benchmark import Plan
from training.methods import Conditions, identity_conditioned
from training.origin import digest_of_files, digest_of_pipe
from training.prepared import fingerprint

PROMPT = "photo of a person"
"""For the methods that need one; Arc2Face's own without the identity's token."""

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
        self.conditioned = identity_conditioned(pipe.family.name)
        self.parameters = sum(p.numel() for p in control.parameters())
        seen = digest_of_files([hints / f"{i:03d}.png" for i in range(len(plan.targets))])
        self.origin = {"kind": "ControlNet", "weights": digest_of_pipe(pipe, control), "hints": seen, "weight": weight, "steps": steps, **conditions.identity_origin}

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


class FaceIDMethod:
    """IP-Adapter-FaceID (Ye et al. 2023) on SD 1.5 or SDXL, also in its Plus and Plus v2 forms, which see the face's picture too. Identity only.

    Args:
        folder: holds what its authors publish, and nothing is downloaded:
            base                        SD 1.5 or SDXL as diffusers saves it
            ip-adapter-faceid*.bin      or .safetensors, one of them; Plus v2 is told by "plusv2" in its name
            image_encoder               Plus and Plus v2: their CLIP vision model as transformers saves it
            w600k_r50.onnx              the recogniser of InsightFace's buffalo_l, whose vectors it was trained with
            and the asset antelopev2, whose detector finds the face for it
        steps: sampling steps. The guidance weight is the pipeline's own.

    Raises:
        MetricError: something is missing there. AssetError: the detector is. NoFaceError: an identity photo has no face for it.
    """

    def __init__(self, name: str, folder: Path, plan: Plan, steps: int, device: torch.device) -> None:
        from diffusers import DiffusionPipeline

        found = sorted(p for p in folder.glob("ip-adapter-faceid*") if p.suffix in (".bin", ".safetensors"))
        if len(found) != 1:
            raise MetricError(f"Expected one file ip-adapter-faceid*.bin or .safetensors in {folder}, found {len(found)}.")
        weights = _ip_adapter_weights(found[0])
        plus = "perceiver_resampler.proj_in.weight" in weights["image_proj"]
        needed = ["base/model_index.json", *(["image_encoder/config.json"] if plus else []), "w600k_r50.onnx"]
        if missing := [file for file in needed if not (folder / file).is_file()]:
            raise MetricError(f"Expected {' and '.join(missing)} in {folder} beside {found[0].name}, found none.")
        if importlib.util.find_spec("peft") is None:  # without it diffusers leaves the file's LoRA out and only warns
            raise MetricError("package missing: pip install peft, which diffusers needs for the LoRA in IP-Adapter-FaceID's file")
        parts: dict[str, Any] = {"image_encoder": _image_encoder(folder / "image_encoder")} if plus else {}
        if "XL" not in json.loads((folder / "base/model_index.json").read_text())["_class_name"]:
            parts |= {"safety_checker": None, "requires_safety_checker": False}
        refuse_code(folder / "base")
        self.pipe = DiffusionPipeline.from_pretrained(folder / "base", local_files_only=True, **parts)
        self.pipe.load_ip_adapter(weights, subfolder=None, weight_name=None, image_encoder_folder=None)
        self.pipe.set_ip_adapter_scale(1.0)
        self.pipe.to(device, torch.float32 if device.type == "cpu" else torch.float16)
        self.pipe.set_progress_bar_config(disable=True)
        self.projection = self.pipe.unet.encoder_hid_proj.image_projection_layers[0] if plus else None
        if plus:
            self.projection.shortcut = "plusv2" in found[0].name
        self.name, self.plan, self.steps, self.conditioned = name, plan, steps, {"identity": "InsightFace's w600k_r50"}
        self.parameters = sum(tensor.numel() for part in weights.values() for tensor in part.values())
        self.origin = {"kind": "IP-Adapter-FaceID", "files": fingerprint(folder), "steps": steps}
        encoder = ArcFaceEncoder.load(recogniser=folder / "w600k_r50.onnx")
        pictures = torch.from_numpy(np.stack(plan.identities)).permute(0, 3, 1, 2).float() / 127.5 - 1
        self.identities = encoder.encode(pictures)
        self.faces = [Image.fromarray(encoder.align(p[:, :, ::-1].copy(), 224)[:, :, ::-1].copy()) for p in plan.identities] if plus else []

    @torch.inference_mode()
    def generate(self, requests: Sequence[int]) -> list[np.ndarray]:
        """One picture a call: diffusers shows all vectors that it is given to every picture of a batch."""
        device, dtype = self.pipe.unet.device, self.pipe.unet.dtype
        out = []
        for i in requests:
            who = int(self.plan.identity[i])
            identity = self.identities[who].to(device, dtype)[None, None]
            if self.projection is not None:
                seen, unseen = self.pipe.encode_image(self.faces[who], device, 1, output_hidden_states=True)
                self.projection.clip_embeds = torch.stack([unseen, seen]).to(dtype)
            picture = self.pipe(
                prompt=PROMPT, negative_prompt="", num_inference_steps=self.steps, output_type="np",
                ip_adapter_image_embeds=[torch.cat([torch.zeros_like(identity), identity])],
                generator=torch.Generator("cpu").manual_seed(int(self.plan.seed[i])),
            ).images[0]  # fmt: skip
            out.append((picture * 255).round().astype(np.uint8))
        return out


def _ip_adapter_weights(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """image_proj and ip_adapter, as diffusers takes them."""
    from safetensors.torch import load_file

    try:
        if path.suffix == ".bin":
            weights = torch.load(path, map_location="cpu", weights_only=True)
        else:
            flat = load_file(path)
            weights = {part: {k.removeprefix(f"{part}."): v for k, v in flat.items() if k.startswith(f"{part}.")} for part in ("image_proj", "ip_adapter")}
        return {part: dict(weights[part]) for part in ("image_proj", "ip_adapter")}
    except Exception as error:  # a wrong file makes torch and safetensors raise in many ways
        raise MetricError(f"{path} does not hold an IP-Adapter's image_proj and ip_adapter ({type(error).__name__}). Download it again.") from error


def _image_encoder(folder: Path) -> Any:
    from transformers import CLIPVisionModelWithProjection

    with named(folder, "an image encoder"):
        return CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True)
