"""The base model that a training stands on: a diffusers folder, Arc2Face's own layout, "arc2face" (the downloaded files), or "random"."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from facecrafter_core.diffusion.arc2face import load_arc2face_networks, load_vae, means_downloads
from facecrafter_core.diffusion.families import Family, new_text_encoder, new_unet
from facecrafter_core.diffusion.text_encoder import load_text_encoder, named
from facecrafter_core.errors import ModelError
from facecrafter_core.search import find_asset
from training.config import ConfigError


def load_base(base: str, family: Family) -> tuple[nn.Module, nn.Module]:
    """UNet and text encoder, frozen, fp32.

    Raises:
        ConfigError: no such folder, or parts are missing. ModelError: a part cannot be read. AssetError: a downloaded file is missing.
    """
    if base == "random":
        unet, encoder = new_unet(family), new_text_encoder(family)
    elif means_downloads(base):
        unet, encoder = load_arc2face_networks()
    else:
        unet, encoder = _from_folder(Path(base))
    width = unet.config.cross_attention_dim
    if width != family.unet["cross_attention_dim"]:
        raise ConfigError(f"The UNet in {base} reads a context of width {width}, the {family.name} family has {family.unet['cross_attention_dim']}. Choose the other family.")
    return unet.float().requires_grad_(False), encoder.float().requires_grad_(False)


def networks_fingerprint(*networks: nn.Module) -> str:
    """First 16 digits of the sha256 of the first numbers of each parameter: quick at any size, and other for any other training."""
    digest = hashlib.sha256()
    for parameter in (p for network in networks for p in network.parameters()):
        digest.update(f"{list(parameter.shape)}".encode() + parameter.detach().flatten()[:256].cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def load_trained_encoder(folder: Path, family: Family) -> nn.Module:
    """A text encoder that was trained with an adapter, fp32.

    Raises:
        ConfigError: it is of another width. ModelError: it cannot be read.
    """
    encoder = load_text_encoder(folder, torch.float32)
    width = encoder.config.hidden_size
    if width != family.text_encoder["hidden_size"]:
        raise ConfigError(f"The text encoder in {folder} is {width} wide, the {family.name} family's {family.text_encoder['hidden_size']}. Take the adapter out of that folder's reach.")
    return encoder


def load_autoencoder(base: str | Path) -> nn.Module:
    """The base's autoencoder, frozen, fp32.

    Raises:
        ModelError: the base has none, or it cannot be read. AssetError: it was not downloaded.
    """
    from diffusers import AutoencoderKL, AutoencoderTiny

    weights = autoencoder_weights(base)
    if means_downloads(base):
        vae = load_vae(weights)
    else:
        config = weights / "config.json"
        if not config.is_file():
            raise ModelError(f"Expected an autoencoder at {config.parent}, found none. Give the folder of the base model.")
        kind = AutoencoderTiny if "AutoencoderTiny" in config.read_text() else AutoencoderKL
        with named(config.parent, "an autoencoder"):
            vae = kind.from_pretrained(config.parent)
    return vae.float().eval().requires_grad_(False)


def autoencoder_weights(base: str | Path) -> Path:
    """File or folder of them, which may be missing in a folder. Raises AssetError where they were not downloaded."""
    return find_asset("sd_vae") if means_downloads(base) else Path(base) / "vae"


def _from_folder(folder: Path) -> tuple[nn.Module, nn.Module]:
    from diffusers import UNet2DConditionModel

    for unet, encoder in (("unet", "text_encoder"), ("arc2face", "encoder")):
        if (folder / unet / "config.json").is_file() and (folder / encoder / "config.json").is_file():
            with named(folder / unet, "a UNet"):
                network = UNet2DConditionModel.from_pretrained(folder / unet)
            return network, load_text_encoder(folder / encoder, torch.float32)
    raise ConfigError(
        f"Expected a base at {folder} with folders unet and text_encoder (or Arc2Face's arc2face and encoder), found none. "
        "arc2face stands for the files of facecrafter assets download --for full."
    )
