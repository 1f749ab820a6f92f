"""Arc2Face and SD 1.5's autoencoder, from the files as their publishers ship them (facecrafter assets download --for full)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from ..search import find_asset
from .families import FULL, new_autoencoder, new_scheduler

NAME = "arc2face"
"""In the place of a model folder: the downloaded files."""


def means_downloads(folder: str | Path) -> bool:
    """Whether a base of this name is the downloaded files; a folder that is called so goes first."""
    return Path(folder) == Path(NAME) and not Path(folder).exists()


def load_arc2face(dtype: torch.dtype | None = None) -> dict[str, Any]:
    """unet, vae, text_encoder and scheduler of the full-size base.

    Args:
        dtype: of the weights (None: fp32, in which Arc2Face is published).

    Raises:
        AssetError: a file is missing; the sentence says how to get it. ModelError: a file holds other weights.
    """
    folders, vae = _network_folders(), find_asset("sd_vae")  # all of them before anything is read
    unet, text_encoder = _read_networks(folders, dtype)
    return {"unet": unet, "vae": load_vae(vae, dtype), "text_encoder": text_encoder, "scheduler": new_scheduler(FULL)}


def load_arc2face_networks() -> tuple[Any, Any]:
    """UNet and text encoder alone, fp32. Errors as of load_arc2face."""
    return _read_networks(_network_folders(), None)


def _network_folders() -> tuple[Path, Path]:
    """Of the UNet and of the text encoder."""
    found = []
    for part in ("arc2face_unet", "arc2face_encoder"):
        weights, config = find_asset(part), find_asset(f"{part}_config")
        if weights.parent != config.parent:
            raise ModelError(f"Expected {weights.name} and its config.json in one folder, found {weights.parent} and {config.parent}. Put them together.")
        found.append(weights.parent)
    return found[0], found[1]


def _read_networks(folders: tuple[Path, Path], dtype: torch.dtype | None) -> tuple[Any, Any]:
    import diffusers
    import transformers

    unet = diffusers.UNet2DConditionModel.from_pretrained(folders[0], **of_type(diffusers, dtype))
    return unet, transformers.CLIPTextModel.from_pretrained(folders[1], **of_type(transformers, dtype))


def of_type(library: Any, dtype: torch.dtype | None) -> dict[str, torch.dtype]:
    """The weights' type as this version of diffusers or transformers wants it named in from_pretrained."""
    from packaging.version import Version

    renamed = {"diffusers": "0.40", "transformers": "4.56"}[library.__name__]
    name = "dtype" if Version(library.__version__) >= Version(renamed) else "torch_dtype"
    return {} if dtype is None else {name: dtype}


def load_vae(path: Path, dtype: torch.dtype | None = None) -> Any:
    """SD 1.5's autoencoder from one file in Stable Diffusion's own layout; nothing is looked up on the Hub.

    Raises:
        ModelError: the file does not hold it.
    """
    import diffusers

    with tempfile.TemporaryDirectory() as folder:
        with torch.device("meta"):  # its shape alone
            new_autoencoder(FULL).save_config(folder)
        try:
            return diffusers.AutoencoderKL.from_single_file(str(path), config=folder, **of_type(diffusers, dtype or torch.float32))
        except Exception as error:  # diffusers and safetensors have many
            raise ModelError(f"{path} does not hold SD 1.5's autoencoder ({type(error).__name__}). Run facecrafter assets download sd_vae.") from error
