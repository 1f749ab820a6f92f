"""The demo base as ComfyUI's own MODEL, CLIP and VAE, from its diffusers folder. Nothing is stored twice: only keys are renamed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.modules.attention import attention_pytorch, attention_sub_quad
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...facecrafter_core.diffusion.families import DEMO, TOKENS, Family
from ...facecrafter_core.errors import ModelError

WORDS = ("photo", "of", "a", "id", "person")
"""The words of the demo's text encoder, in the order of Family.prompt."""


class DemoLatent(comfy.latent_formats.LatentFormat):
    """Latents of unit scale, as the demo's autoencoder makes them. The preview's colours are fitted when it is loaded."""

    scale_factor = 1.0


class DemoConfig(comfy.supported_models.SD15):
    """SD 1.5's topology in the demo's widths, with heads 32 wide, predicting v."""

    unet_extra_config = {"num_heads": -1, "num_head_channels": 32}
    latent_format = DemoLatent

    def model_type(self, state_dict: Any, prefix: str = "") -> Any:
        return comfy.model_base.ModelType.V_PREDICTION


def unet_config(family: Family) -> dict[str, Any]:
    """ComfyUI's description of a family's UNet."""
    widths = family.unet["block_out_channels"]
    return {
        "image_size": family.latent_size,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": widths[0],
        "channel_mult": tuple(width // widths[0] for width in widths),
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1] * 6 + [0] * 2,
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "context_dim": family.unet["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "use_temporal_attention": False,
        "use_checkpoint": False,
        "legacy": False,
        "num_classes": None,
        "adm_in_channels": None,
        "dropout": 0,
    }


def load_model(folder: Path, dtype: torch.dtype | None = None) -> comfy.model_patcher.ModelPatcher:
    """demo/unet -> MODEL.

    Args:
        dtype: type of the weights (None: ComfyUI's choice for this machine).
    """
    weights = _read(folder / "unet" / "diffusion_pytorch_model.safetensors")
    management = comfy.model_management
    config = DemoConfig(unet_config(DEMO))
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    renamed = {names[k]: w for k, w in weights.items() if k in names}
    load_device = management.get_torch_device()
    if dtype is None:
        count = sum(w.numel() for w in weights.values())
        dtype = management.unet_dtype(model_params=count, supported_dtypes=list(config.supported_inference_dtypes))
    config.set_inference_dtype(
        dtype, management.unet_manual_cast(dtype, load_device, config.supported_inference_dtypes)
    )
    model = config.get_model(weights, "")
    expected = set(model.diffusion_model.state_dict())
    if expected != set(renamed):
        wrong = sorted(expected ^ set(renamed))
        raise ModelError(
            f"The demo's UNet has {len(wrong)} missing or unknown weights, such as {wrong[0]}. Install FaceCrafter again."
        )
    model.load_model_weights(renamed, "")
    model.diffusion_model.to(dtype)  # not the noise levels beside it
    model = model.eval().requires_grad_(False)
    patcher = comfy.model_patcher.ModelPatcher(
        model, load_device=load_device, offload_device=management.unet_offload_device()
    )
    if load_device.type == "cpu":
        patcher.model_options["transformer_options"]["optimized_attention_override"] = _fused_attention
    return patcher


def _fused_attention(chosen: Any, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's fused attention instead of ComfyUI's default on a CPU, which makes a step 2.5 times as long."""
    return attention_pytorch(*args, **kwargs) if chosen is attention_sub_quad.__wrapped__ else chosen(*args, **kwargs)


class DemoTextModel(comfy.clip_model.CLIPTextModel):
    """ComfyUI's CLIP text model with the demo's few words."""

    def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        self.set_input_embeddings(
            operations.Embedding(config["vocab_size"], config["hidden_size"], dtype=dtype, device=device)
        )
        torch.nn.init.eye_(self.text_projection.weight)  # SD 1.5's UNet reads no pooled output


class DemoClipModel(comfy.sd1_clip.SDClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        config = {**DEMO.text_encoder, "eos_token_id": DEMO.end_token}
        special = {"start": DEMO.start_token, "end": DEMO.end_token, "pad": DEMO.end_token}
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=config,
            model_class=DemoTextModel,
            special_tokens=special,
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class DemoTextEncoder(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=DemoClipModel)


class DemoTokenizer:
    """Text -> the demo's tokens, in the form of ComfyUI's SD 1.5 tokenizer."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        self.words = dict(zip(WORDS, DEMO.prompt, strict=True))

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **kwargs: Any
    ) -> dict[str, list[list[tuple]]]:
        words = text.split()
        unknown = sorted(set(words) - set(self.words))
        if unknown or len(words) > TOKENS - 2:
            raise ModelError(
                f"The demo's text encoder reads at most {TOKENS - 2} words out of {', '.join(WORDS)}; found {unknown or len(words)}. "
                "Use FaceCrafter Conditioning, or leave the text empty."
            )
        numbers = [DEMO.start_token, *(self.words[word] for word in words), DEMO.end_token]
        numbers += [DEMO.end_token] * (TOKENS - len(numbers))
        places = [i if 0 < i <= len(words) else 0 for i in range(TOKENS)]
        return {"l": [[(n, 1.0, i) if return_word_ids else (n, 1.0) for n, i in zip(numbers, places, strict=True)]]}

    def state_dict(self) -> dict[str, Any]:
        return {}


def load_clip(folder: Path) -> comfy.sd.CLIP:
    """demo/text_encoder -> CLIP."""
    weights = _read(folder / "text_encoder" / "model.safetensors")
    target = comfy.supported_models_base.ClipTarget(DemoTokenizer, DemoTextEncoder)
    clip = comfy.sd.CLIP(target, parameters=sum(w.numel() for w in weights.values()))
    missing, _ = clip.load_sd(weights)
    missing = [name for name in missing if "text_projection" not in name]
    if missing:
        raise ModelError(f"The demo's text encoder lacks the weights {missing[:3]}. Install FaceCrafter again.")
    return clip


# Where ComfyUI's TAESD (fixed at 1, 3, 3, 3 residual blocks a level) has the levels of diffusers' AutoencoderTiny.
_ENCODER_LEVELS = ((1, 1), (3, 3), (7, 3), (11, 3))
_DECODER_LEVELS = ((3, 3), (8, 3), (13, 3), (18, 1))


def vae_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """AutoencoderTiny's weights -> those of ComfyUI's TAESD, whatever the number of blocks a level (1 to 3).

    A level with fewer blocks is filled up with blocks of zeros: their input is never negative, so they pass it on as it is.
    """
    out = {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
    for name, levels, first in (("encoder", _ENCODER_LEVELS, 0), ("decoder", _DECODER_LEVELS, 1)):
        own = {k.removeprefix(f"{name}.layers."): w for k, w in weights.items() if k.startswith(f"{name}.layers.")}
        blocks = sorted({int(k.split(".")[0]) for k in own if ".conv." in k})
        runs = [[blocks[0]]]
        for number in blocks[1:]:
            if number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        if len(runs) != len(levels) or any(len(run) > size for run, (_, size) in zip(runs, levels, strict=True)):
            raise ModelError(
                f"Expected an autoencoder with at most {[n for _, n in levels]} blocks a level in its {name}, found {[len(run) for run in runs]}."
            )
        place = {}
        for run, (start, size) in zip(runs, levels, strict=True):
            place |= {number: start + i for i, number in enumerate(run)}
            for i in range(len(run), size):
                out |= {f"taesd_{name}.{start + i}.{k}": w for k, w in _identity_block(64).items()}
        for number in sorted({int(k.split(".")[0]) for k in own} - set(blocks)):  # the convolutions between the levels
            after = [n for n in blocks if n < number]
            if not after:
                place[number] = number + first
            else:
                level = next(i for i, run in enumerate(runs) if after[-1] in run)
                start, size = levels[level]
                place[number] = start + size - 1 + (number - after[-1])
        for key, weight in own.items():
            number, rest = key.split(".", 1)
            out[f"taesd_{name}.{place[int(number)]}.{rest}"] = weight
    return out


def _identity_block(width: int) -> dict[str, Tensor]:
    zeros = {f"conv.{i}.weight": torch.zeros(width, width, 3, 3) for i in (0, 2, 4)}
    return zeros | {f"conv.{i}.bias": torch.zeros(width) for i in (0, 2, 4)}


def load_vae(folder: Path) -> comfy.sd.VAE:
    """demo/vae -> VAE."""
    return comfy.sd.VAE(sd=vae_weights(_read(folder / "vae" / "diffusion_pytorch_model.safetensors")))


def fit_preview(model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE, pictures: Tensor) -> None:
    """Fits the linear map from latents to colours that ComfyUI's previews use, to pictures [B, H, W, 3] in 0..1."""
    latents = vae.encode(pictures).float().cpu()
    height, width = latents.shape[-2:]
    colours = torch.nn.functional.adaptive_avg_pool2d(pictures.movedim(-1, 1), (height, width)) * 2 - 1
    inputs = torch.cat([latents, torch.ones_like(latents[:, :1])], 1).movedim(1, -1).flatten(0, 2)
    factors = torch.linalg.lstsq(inputs, colours.movedim(1, -1).flatten(0, 2)).solution
    latent_format = model.model.latent_format
    latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias = (
        factors[:-1].tolist(),
        factors[-1].tolist(),
    )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"The demo model is incomplete: there is no {path}. Install FaceCrafter again.")
    try:
        weights = load_file(str(path))
    except SafetensorError as error:
        raise ModelError(f"{path} is not a whole safetensors file ({error}). Install FaceCrafter again.") from error
    if any(not math.prod(w.shape) for w in weights.values()):
        raise ModelError(f"{path} holds empty weights. Install FaceCrafter again.")
    return {k: w.float() for k, w in weights.items()}
