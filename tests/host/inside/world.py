"""What the checks share: the demo in ComfyUI, one set of random conditions, and short sampling runs."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from facecrafter.facecrafter_core.diffusion.families import DEMO_FOLDER
from facecrafter.facecrafter_core.diffusion.guidance import Guidance
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


def face_points(count: int, seed: int = 0) -> torch.Tensor:
    """Landmarks [count, 478, 3] that draw something."""
    return torch.rand(count, 478, 3, generator=torch.Generator().manual_seed(seed)) * 0.6 + 0.2


def conditions(count: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random identities [N, 128], landmarks [N, 478, 3] and emotions [N, 10]."""
    generator = torch.Generator().manual_seed(seed)
    identities = torch.nn.functional.normalize(torch.randn(count, 128, generator=generator), dim=1)
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
