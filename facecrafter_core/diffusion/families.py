"""The two model families: sizes and configurations of every part but the adapter.

"full" is Arc2Face: Stable Diffusion 1.5's UNet and autoencoder with an identity-token CLIP text encoder. "demo" has the same
topology, narrower, and is trained by the scripts in training/ on rendered people.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError

DEMO_FOLDER = Path(__file__).resolve().parents[2] / "demo"
"""The demo model, as it comes with the repository."""


@dataclass(frozen=True)
class Family:
    """Sizes of one family.

    Attributes:
        image_size: side of the generated picture, in pixels.
        identity_dim: length of the identity unit vector.
        prompt: token numbers of "photo of a id person" between the start and the end token.
        identity_token: the token number in it whose embedding the identity vector replaces.
        start_token, end_token: the end token is also the padding.
        text_encoder, unet, scheduler: configuration of transformers' CLIPTextModel, diffusers' UNet2DConditionModel and DDPMScheduler.
    """

    name: str
    image_size: int
    identity_dim: int
    prompt: tuple[int, ...]
    identity_token: int
    start_token: int
    end_token: int
    text_encoder: dict[str, Any]
    unet: dict[str, Any]
    scheduler: dict[str, Any]

    @property
    def latent_size(self) -> int:
        return self.image_size // 8


TOKENS = 77
"""Length of the identity context."""

_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}

FULL = Family(
    name="full",
    image_size=512,
    identity_dim=512,
    prompt=(1125, 539, 320, 1014, 2533),
    identity_token=1014,
    start_token=49406,
    end_token=49407,
    text_encoder={
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": TOKENS,
        "hidden_act": "quick_gelu",
    },
    unet={
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    scheduler={**_SCHEDULER, "prediction_type": "epsilon"},
)

DEMO = Family(
    name="demo",
    image_size=256,
    identity_dim=128,
    prompt=(2, 3, 4, 5, 6),
    identity_token=5,
    start_token=0,
    end_token=1,
    text_encoder={
        "vocab_size": 8,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": TOKENS,
        "hidden_act": "quick_gelu",
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    },
    unet={
        "sample_size": 32,
        "block_out_channels": (64, 128, 128, 64),
        "cross_attention_dim": 128,
        "attention_head_dim": (2, 4, 4, 2),  # diffusers' name for the number of heads: each is 32 wide
    },
    scheduler={**_SCHEDULER, "prediction_type": "v_prediction"},
)

FAMILIES: dict[str, Family] = {"full": FULL, "demo": DEMO}


def family_of(cross_attention_dim: int) -> Family:
    """The family whose UNet reads a context of this width.

    Raises:
        ModelError: there is none.
    """
    for family in FAMILIES.values():
        if family.unet["cross_attention_dim"] == cross_attention_dim:
            return family
    expected = {f.name: f.unet["cross_attention_dim"] for f in FAMILIES.values()}
    raise ModelError(f"Expected a UNet with a context width out of {expected}, found {cross_attention_dim}. Use an SD 1.5 shaped base.")


def check_parts(unet: Any, vae: Any, text_encoder: Any) -> None:
    """
    Raises:
        ModelError: diffusers' and transformers' networks are not of one family.
    """
    from diffusers import AutoencoderTiny

    width = unet.config.cross_attention_dim
    family, config, tiny = family_of(width), vae.config, isinstance(vae, AutoencoderTiny)
    if unet.config.in_channels != 4:
        raise ModelError(f"Expected a UNet that reads latents of 4 channels, found {unet.config.in_channels} (an inpainting model's has 9). Use an SD 1.5 shaped base.")
    if text_encoder.config.hidden_size != width:
        raise ModelError(f"The text encoder is {text_encoder.config.hidden_size} wide, the UNet reads {width}. Take those of one base.")
    sides = len(config.encoder_block_out_channels if tiny else config.block_out_channels) - 1
    # AutoencoderKL's latents are scaled for their own UNets: SDXL's have four channels too, and another scale. The demo's are tiny's.
    fits = tiny or (family is FULL and abs(config.scaling_factor - 0.18215) < 1e-4)
    if config.latent_channels != 4 or sides != 3 or not fits:
        raise ModelError(
            f"The autoencoder ({type(vae).__name__}, {config.latent_channels} channels, 1/{2**sides} of the side, scale {config.scaling_factor}) is not "
            f"one of the {family.name} family: expected {'Stable Diffusion 1.5' if family is FULL else 'the demo'}'s."
        )


def new_unet(family: Family) -> Any:
    """An untrained diffusers UNet2DConditionModel of this family."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**family.unet)


def new_text_encoder(family: Family) -> Any:
    """An untrained transformers CLIPTextModel of this family."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**family.text_encoder))


def new_autoencoder(family: Family) -> Any:
    """An untrained autoencoder: SD 1.5's AutoencoderKL, or a small AutoencoderTiny with unit-scale latents for the demo."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    if family.name == "demo":
        return AutoencoderTiny(num_encoder_blocks=(1, 2, 2, 2), num_decoder_blocks=(2, 2, 2, 1))
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
    )


def new_scheduler(family: Family) -> Any:
    """The paper's sampler, DDPM (Sec. 4.1), with evenly spread ("trailing") steps so that few steps reach the last noise level."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(**family.scheduler, timestep_spacing="trailing")


def refuse_code(folder: Path) -> None:
    """A diffusers folder may name Python files of its own, which some versions of diffusers execute.

    Raises:
        ModelError: it names one, or its model_index.json is damaged.
    """
    path = folder / "model_index.json"
    try:
        index = json.loads(path.read_bytes()) if path.is_file() else {}
        names = {folder: index.get("_class_name"), **{folder / part: name for part, name in index.items() if part != "_class_name"}}
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({error}). Get the base again.") from error
    for place, name in names.items():
        if isinstance(name, list) and name and (place / f"{name[0]}.py").is_file():
            raise ModelError(f"{place / str(name[0])}.py is code of this base, and files of others are never executed. Use a base of weights and settings alone.")
