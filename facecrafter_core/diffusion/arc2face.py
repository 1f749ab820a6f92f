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


def load_arc2face(dtype: torch.dtype | None = None) -> dict[str, Any]:
    """unet, vae, text_encoder and scheduler of the full-size base.

    Args:
        dtype: of the weights (None: fp32, in which Arc2Face is published).

    Raises:
        AssetError: a file is missing; the sentence says how to get it. ModelError: a file holds other weights.
    """
    import diffusers
    import transformers

    files = {name: find_asset(name) for name in ("arc2face_unet", "arc2face_unet_config", "arc2face_encoder", "arc2face_encoder_config", "sd_vae")}
    for part in ("arc2face_unet", "arc2face_encoder"):
        if files[part].parent != files[f"{part}_config"].parent:
            raise ModelError(f"Expected {files[part].name} and its config.json in one folder, found {files[part].parent} and {files[f'{part}_config'].parent}. Put them together.")
    return {
        "unet": diffusers.UNet2DConditionModel.from_pretrained(files["arc2face_unet"].parent, **of_type(diffusers, dtype)),
        "vae": load_vae(files["sd_vae"], dtype),
        "text_encoder": transformers.CLIPTextModel.from_pretrained(files["arc2face_encoder"].parent, **of_type(transformers, dtype)),
        "scheduler": new_scheduler(FULL),
    }


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
