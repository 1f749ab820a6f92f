"""Arc2Face and SD 1.5's autoencoder, from the files as their publishers ship them (facecrafter assets download --for full)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from ..search import find_asset
from .families import FULL, new_autoencoder, new_scheduler, new_text_encoder, new_unet
from .text_encoder import fill, named, read_weights

NAME = "arc2face"
"""In the place of a model folder: the downloaded files."""


def means_downloads(folder: str | Path) -> bool:
    """Whether a base of this name is the downloaded files; a base's folder that is called so goes first."""
    return Path(folder) == Path(NAME) and not (Path(folder) / "unet").is_dir()


def load_arc2face(dtype: torch.dtype | None = None) -> dict[str, Any]:
    """unet, vae, text_encoder and scheduler of the full-size base.

    Args:
        dtype: of the weights (None: fp32, in which Arc2Face is published).

    Raises:
        AssetError: a file is missing; the sentence says how to get it. ModelError: a file holds other weights.
    """
    files = _files()
    vae = find_asset("sd_vae")  # all of them before anything is read
    unet, text_encoder = _read_networks(*files, dtype)
    return {"unet": unet, "vae": load_vae(vae, dtype), "text_encoder": text_encoder, "scheduler": new_scheduler(FULL)}


def load_arc2face_networks() -> tuple[Any, Any]:
    """UNet and text encoder alone, fp32. Errors as of load_arc2face."""
    return _read_networks(*_files(), None)


def _files() -> tuple[Path, Path]:
    """Of the UNet and of the text encoder."""
    return find_asset("arc2face_unet"), find_asset("arc2face_encoder")


def _read_networks(unet: Path, encoder: Path, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Exactly these two files, in the shapes of FULL: whatever lies beside them plays no part."""
    dtype = dtype or torch.float32
    with torch.device("meta"):
        network = new_unet(FULL)
    with named(unet, "Arc2Face's UNet"):
        network.load_state_dict(read_weights(unet, dtype), assign=True)
    text = new_text_encoder(FULL)
    with named(encoder, "Arc2Face's text encoder"):
        fill(text, read_weights(encoder, dtype))
    return network.eval(), text.eval()


def of_type(dtype: torch.dtype | None) -> dict[str, torch.dtype]:
    """The weights' type as this version of diffusers wants it named in from_pretrained."""
    import diffusers
    from packaging.version import Version

    name = "dtype" if Version(diffusers.__version__) >= Version("0.40") else "torch_dtype"
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
        with named(path, "SD 1.5's autoencoder"):
            return diffusers.AutoencoderKL.from_single_file(str(path), config=folder, **of_type(dtype or torch.float32))
