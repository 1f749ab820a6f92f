"""Adapter files in ComfyUI: their folder, and their weights under its memory management."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import folder_paths

from ...facecrafter_core.assets import ASSETS
from ...facecrafter_core.control.adapter import load_adapter
from ...facecrafter_core.control.config import ControlConfig
from ...facecrafter_core.diffusion.families import DEMO_FOLDER, FAMILIES, Family
from ...facecrafter_core.errors import AdapterError, ModelError
from ...facecrafter_core.search import add_search_folder, give_advice

FOLDER = "facecrafter"
DEMO_CHOICE = "demo (comes with FaceCrafter)"
KEPT_IN_MEMORY = 2
PACK = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class FaceCrafter:
    """What flows through a FACECRAFTER socket.

    Attributes:
        adapter: the FaceCrafterAdapter, held by a ModelPatcher of our own, so that clones of the MODEL never copy its weights.
        clip: the text encoder that turns an identity into the UNet's context.
    """

    adapter: comfy.model_patcher.ModelPatcher
    clip: Any

    @property
    def family(self) -> Family:
        return FAMILIES[self.adapter.model.config.family]


def register_folder() -> None:
    """Makes models/facecrafter a folder of ComfyUI's, so that extra_model_paths.yaml and the model browser know it.

    Assets are looked for there, in ComfyUI's other folders of their kinds, those of extra_model_paths.yaml among them, and in all of models.
    """
    path = os.path.join(folder_paths.models_dir, FOLDER)
    folder_paths.add_model_folder_path(FOLDER, path)
    known, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (known, extensions | {".safetensors"})
    kinds = dict.fromkeys([FOLDER, *(asset.folder.split("/")[0] for asset in ASSETS.values())])
    for kind in (k for k in kinds if k in folder_paths.folder_names_and_paths):
        for folder in folder_paths.get_folder_paths(kind):
            add_search_folder(folder)
    add_search_folder(folder_paths.models_dir)
    command = f'"{sys.executable}" -m facecrafter_core assets download {{name}} --into "{folder_paths.models_dir}"'
    give_advice(f'queue the node Download Models with "{{name}}", or run `{command}` in {PACK}')


def adapter_choices() -> list[str]:
    """The demo's adapter, then the .safetensors files under models/facecrafter."""
    if FOLDER not in folder_paths.folder_names_and_paths:
        return [DEMO_CHOICE]
    return [DEMO_CHOICE, *(name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".safetensors"))]


def adapter_path(name: str) -> Path:
    """A choice -> its file.

    Raises:
        AdapterError: the name leaves models/facecrafter, or there is no such file.
    """
    if name == DEMO_CHOICE:
        return DEMO_FOLDER / "adapter.safetensors"
    roots = folder_paths.get_folder_paths(FOLDER)
    for root in roots:
        path = os.path.normpath(os.path.join(root, name))
        if os.path.isabs(name) or os.path.commonpath([os.path.abspath(root), os.path.abspath(path)]) != os.path.abspath(
            root
        ):
            raise AdapterError(
                f"Expected the name of a file in models/{FOLDER}, found {name!r}, which lies outside of it."
            )
        if os.path.isfile(path):
            return Path(path)
    raise AdapterError(
        f"There is no adapter {name!r} in models/{FOLDER}. Put it there and refresh the node definitions (R)."
    )


_loaded: OrderedDict[tuple[str, float, int], comfy.model_patcher.ModelPatcher] = OrderedDict()


def managed_adapter(path: Path) -> comfy.model_patcher.ModelPatcher:
    """The adapter of a file, loaded once while the file stays the same, cast and offloaded by ComfyUI.

    Raises:
        AdapterError: see facecrafter_core.control.adapter.load_adapter.
    """
    stat = path.stat() if path.is_file() else None
    key = (str(path), stat.st_mtime, stat.st_size) if stat else (str(path), 0.0, 0)
    if key not in _loaded:
        adapter = load_adapter(path, operations=comfy.ops.manual_cast)
        management = comfy.model_management
        patcher = comfy.model_patcher.ModelPatcher(
            adapter, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
        )
        if adapter.config.family not in FAMILIES:
            raise AdapterError(
                f"{path.name} is for the family {adapter.config.family!r}, expected one of {sorted(FAMILIES)}."
            )
        _loaded[key] = patcher
        while len(_loaded) > KEPT_IN_MEMORY:
            _loaded.popitem(last=False)
    _loaded.move_to_end(key)
    return _loaded[key]


def cross_attention_layers(model: comfy.model_patcher.ModelPatcher) -> list[Any]:
    """The cross-attention layers of a MODEL with SD 1.5's block layout, in the order the network runs them."""
    unet = getattr(model.model, "diffusion_model", None)
    blocks = [
        *getattr(unet, "input_blocks", []),
        *([unet.middle_block] if hasattr(unet, "middle_block") else []),
        *getattr(unet, "output_blocks", []),
    ]
    layers = (m for block in blocks for name, m in block.named_modules() if name.endswith("attn2"))
    return [layer for layer in layers if hasattr(layer, "to_q")]


def check_model(model: comfy.model_patcher.ModelPatcher, config: ControlConfig) -> None:
    """
    Raises:
        ModelError: the MODEL is not of the shape that the adapter was made for: its cross-attention layers, their context (SD 2's is wider),
            or its input (an inpainting model's has more channels).
    """
    what_to_do = "Use the MODEL that Load FaceCrafter gives." if config.family == "demo" else "Connect an SD 1.5 shaped base (Arc2Face)."
    layers = cross_attention_layers(model)
    found = tuple(layer.to_q.weight.shape[0] for layer in layers)
    if found != config.layer_widths:
        raise ModelError(
            f"This adapter is for the {config.family} family: expected a MODEL with {len(config.layer_widths)} cross-attention layers of the "
            f"widths {sorted(set(config.layer_widths))}, found {len(found)} of {sorted(set(found)) or 'none'}. {what_to_do}"
        )
    context, channels = layers[0].to_k.weight.shape[1], model.model.model_config.unet_config["in_channels"]
    width = FAMILIES[config.family].unet["cross_attention_dim"]
    if (context, channels) != (width, 4):
        raise ModelError(
            f"This adapter is for the {config.family} family: expected a MODEL that reads a context {width} wide and latents of 4 channels, found "
            f"{context} and {channels}. {what_to_do}"
        )


def check_vae(vae: Any, config: ControlConfig) -> None:
    """
    Raises:
        ModelError: the VAE's latents are not those of the base: four channels at an eighth of the side.
    """
    found = (getattr(vae, "latent_channels", 4), getattr(vae, "latent_dim", 2), vae.spacial_compression_decode())
    if found != (4, 2, 8):
        raise ModelError(
            f"This adapter is for the {config.family} family: expected a VAE with latents of 4 channels at 1/8 of the side, found "
            f"{found[0]} channels{' in 3-D' if found[1] == 3 else ''} at 1/{found[2]}. "
            + ("Leave VAE open for the demo's." if config.family == "demo" else "Connect Stable Diffusion 1.5's.")
        )
