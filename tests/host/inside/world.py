"""What the checks share: the demo in ComfyUI, one set of random conditions, and short sampling runs."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.samplers
import torch
from facecrafter.facecrafter_core.diffusion.families import DEMO_FOLDER
from facecrafter.facecrafter_core.diffusion.guidance import ROWS, Guidance, combine, guidance_coefficients
from facecrafter.facecrafter_core.diffusion.passes import Conditions, prepare_pass
from facecrafter.facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter.facecrafter_core.faces.align import align_face
from facecrafter.facecrafter_core.faces.emotion import Emotion
from facecrafter.facecrafter_core.faces.identity import DemoIdentityEncoder, encode_identity
from facecrafter.facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter.facecrafter_core.faces.photo import load_photo
from facecrafter.nodes.host import adapter, base, contexts, guidance, run

SIZE = 8  # side of the latents: small, for speed


@lru_cache(maxsize=1)
def demo() -> SimpleNamespace:
    folder = adapter.DEMO_FOLDER
    model, clip, vae = base.load_model(folder, torch.float32), base.load_clip(folder), base.load_vae(folder)
    patcher = adapter.managed_adapter(folder / "adapter.safetensors")
    return SimpleNamespace(model=model, clip=clip, vae=vae, adapter=patcher, crafter=adapter.FaceCrafter(patcher, clip))


@lru_cache(maxsize=1)
def temporary_folder() -> Path:
    """A folder of this process; the operating system's to clean up."""
    return Path(tempfile.mkdtemp(prefix="facecrafter-"))


def face_points(count: int, seed: int = 0) -> torch.Tensor:
    """Landmarks [count, 478, 3] that draw something."""
    return torch.rand(count, 478, 3, generator=torch.Generator().manual_seed(seed)) * 0.6 + 0.2


def conditions(count: int = 1, seed: int = 0, width: int = 128) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random identities [N, width], landmarks [N, 478, 3] and emotions [N, 10]."""
    generator = torch.Generator().manual_seed(seed)
    identities = torch.nn.functional.normalize(torch.randn(count, width, generator=generator), dim=1)
    emotions = torch.cat(
        [torch.rand(count, 2, generator=generator), torch.rand(count, 8, generator=generator).softmax(1)], 1
    )
    return identities, face_points(count, seed), emotions


def conditioning(
    count: int = 1, seed: int = 0, alpha_landmark: float = 1.0, alpha_emotion: float = 1.0
) -> tuple[Any, Any]:
    return contexts.make_conditioning(demo().crafter, *conditions(count, seed), alpha_landmark, alpha_emotion)


def portrait_conditioning(alpha_landmark: float = 1.0) -> tuple[Any, Any]:
    """One of the demo's portraits with another one's pose: conditions as the network knows them, unlike the random ones above."""
    landmarker = FaceLandmarker()
    encoder = DemoIdentityEncoder(DEMO_FOLDER / "identity" / "model.safetensors")
    person, other = (load_photo(DEMO_FOLDER / "samples" / f"portrait_{i}.jpg") for i in (1, 4))
    identity = encode_identity([person], landmarker, encoder, "largest")
    face = align_face(other, landmarker.find_face(other, "largest").landmarks, 256, rotate=False)
    landmarks = torch.as_tensor(face.landmarks, dtype=torch.float32)
    emotion = torch.as_tensor(Emotion.preset("happy").vector, dtype=torch.float32)
    return contexts.make_conditioning(demo().crafter, identity[None], landmarks[None], emotion[None], alpha_landmark, 1.0)


def predictions_of_both_hosts(
    crafter: adapter.FaceCrafter, model: Any, pipe: FaceCrafterPipeline, what: Any, alphas: dict[str, float], timestep: int, size: int, control: Any = None
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Each guidance row's clean latent [B, 4, size, size] and the guided one at one timestep: (ComfyUI's, diffusers').

    Args:
        what: (identities, landmarks, emotions) of B pictures. pipe: with the same weights as `crafter` and `model`.
        control: puts a ControlNet on (positive, negative), where there is one; `pipe.unet` then has it too.
    """
    here: dict[str, torch.Tensor] = {}

    class Probe(guidance.FaceCrafterGuider):
        def predict_noise(self, x: torch.Tensor, sigma: Any, model_options: Any = None, seed: Any = None) -> torch.Tensor:
            rows = [self.conds["positive"], self.conds["negative"], list(ROWS)]
            here.update(guidance.predict_rows(self.inner_model, *rows, x, sigma, model_options))
            here["x"] = x
            here["guided"] = super().predict_noise(x, sigma, model_options, seed)
            return here["guided"]

    positive, negative = contexts.make_conditioning(crafter, *what, alphas["landmark"], alphas["emotion"])
    if control:
        positive, negative = control(positive, negative)
    sigma = model.get_model_object("model_sampling").sigmas[timestep]
    count = len(what[0])
    noise = torch.randn(count, 4, size, size, generator=torch.Generator().manual_seed(0))
    euler, sigmas = comfy.samplers.sampler_object("euler"), torch.stack([sigma, sigma * 0])
    Probe(model, positive, negative, Guidance()).sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True)

    for name, found in here.items():  # diffusers' side is computed on the CPU
        here[name] = found.cpu()
    a = 1 / (sigma**2 + 1)
    x = here["x"] * a.sqrt()
    static = Conditions(pipe.encode_context(what[0]), pipe.project_conditions(*what[1:]), alphas)
    found = pipe.predict_rows(x, torch.tensor(timestep), [prepare_pass(static, ROWS, slice(0, count))], static)
    if pipe.family.scheduler["prediction_type"] == "v_prediction":
        there = {row: a.sqrt() * x - (1 - a).sqrt() * v for row, v in found.items()}
    else:
        there = {row: (x - (1 - a).sqrt() * noise) / a.sqrt() for row, noise in found.items()}
    there["guided"] = combine(there, guidance_coefficients(Guidance(), 1.0))
    return here, there


def latent(count: int = 1, size: int = SIZE) -> dict[str, Any]:
    return {"samples": torch.zeros(count, 4, size, size)}


def crafted(
    model: Any, positive: Any, negative: Any, start: dict[str, Any], weights: Guidance | None = None, **plan: Any
) -> torch.Tensor:
    """Our sampler -> latents."""
    guider = guidance.FaceCrafterGuider(model, positive, negative, weights or Guidance())
    plan = {"seed": 3, "steps": 2, "sampler": "euler", "scheduler": "normal", "denoise": 1.0, **plan}
    return run.sample(guider, start, **plan)["samples"]


def plain(
    model: Any, positive: Any, negative: Any, start: dict[str, Any], cfg: float = 2.5, **plan: Any
) -> torch.Tensor:
    """ComfyUI's KSampler -> latents."""
    import nodes

    plan = {"seed": 3, "steps": 2, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, **plan}
    return nodes.common_ksampler(
        model,
        plan["seed"],
        plan["steps"],
        cfg,
        plan["sampler_name"],
        plan["scheduler"],
        positive,
        negative,
        start,
        denoise=plan["denoise"],
    )[0]["samples"]


class Watched:
    """A clone of a MODEL that notes each forward pass: rows, and what transformer_options said."""

    def __init__(self, model: Any) -> None:
        self.model = model.clone()
        self.passes: list[SimpleNamespace] = []
        self.model.add_wrapper_with_key("diffusion_model", "watch", self._note)

    def _note(
        self, executor: Any, x: torch.Tensor, t: Any, context: Any, y: Any, control: Any, options: Any, **kwargs: Any
    ) -> Any:
        note = SimpleNamespace(
            rows=len(x), cond_or_uncond=list(options.get("cond_or_uncond", [])), control=control, kwargs=kwargs
        )
        self.passes.append(note)
        return executor(x, t, context, y, control, options, **kwargs)


def strip(positive: Any) -> Any:
    """The conditioning as another pack would make it: without anything of ours."""
    return [[context, {}] for context, _ in positive]


def no_memory_for_batches() -> Any:
    """Context manager: ComfyUI believes that no forward pass fits, so it takes the conds one by one."""
    from unittest.mock import patch

    from comfy.model_base import BaseModel

    return patch.object(BaseModel, "memory_required", lambda *args, **kwargs: float("inf"))
