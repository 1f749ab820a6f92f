"""Load FaceCrafter: an adapter and the base that it steers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from comfy_api.latest import io

from ..facecrafter_core.errors import AdapterError, ModelError
from .host.adapter import (
    DEMO_CHOICE,
    DEMO_FOLDER,
    FaceCrafter,
    adapter_choices,
    adapter_path,
    check_model,
    check_vae,
    managed_adapter,
)
from .types import CATEGORY, Crafter


@lru_cache(maxsize=1)
def demo_base() -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of the demo, loaded once."""
    from .host.base import fit_preview, load_clip, load_model, load_vae
    from .pictures import sample_photos, to_image

    model, clip, vae = load_model(DEMO_FOLDER), load_clip(DEMO_FOLDER), load_vae(DEMO_FOLDER)
    photos = sample_photos()
    if photos:
        fit_preview(model, vae, to_image(list(photos.values()), size=128))
    return model, clip, vae


class FaceCrafterLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterLoader",
            display_name="Load FaceCrafter",
            category=CATEGORY,
            description="Loads a FaceCrafter adapter and its base. The demo needs no other files. An adapter of full size goes with an "
            "SD 1.5 shaped identity base (Arc2Face): connect the MODEL, CLIP and VAE of its checkpoint.",
            inputs=[
                io.Combo.Input(
                    "adapter",
                    options=adapter_choices(),
                    default=DEMO_CHOICE,
                    tooltip="The demo, or an adapter file in ComfyUI/models/facecrafter.",
                ),
                io.Model.Input("model", optional=True, tooltip="The base's MODEL. Leave it open for the demo."),
                io.Clip.Input(
                    "clip", optional=True, tooltip="The base's CLIP; it reads the identity. Leave it open for the demo."
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="The base's VAE, handed through. Leave it open for the demo."
                ),
            ],
            outputs=[
                Crafter.Output(
                    id="facecrafter", display_name="FACECRAFTER", tooltip="The adapter with its base's text encoder."
                ),
                io.Model.Output(
                    id="base_model", display_name="MODEL", tooltip="The base; LoRAs and other patches go after it."
                ),
                io.Clip.Output(id="base_clip", display_name="CLIP", tooltip="The base's text encoder."),
                io.Vae.Output(id="base_vae", display_name="VAE", tooltip="The base's autoencoder."),
            ],
        )

    @classmethod
    def validate_inputs(cls, adapter: str) -> bool | str:
        try:
            adapter_path(adapter)
        except AdapterError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, adapter: str, **inputs: Any) -> Any:
        """A file that has changed on disk is loaded again."""
        try:
            stat = adapter_path(adapter).stat()
        except (AdapterError, OSError):
            return None
        return stat.st_mtime, stat.st_size

    @classmethod
    def execute(cls, adapter: str, model: Any = None, clip: Any = None, vae: Any = None) -> io.NodeOutput:
        patcher = managed_adapter(adapter_path(adapter))
        config = patcher.model.config
        given = {"MODEL": model, "CLIP": clip, "VAE": vae}
        missing = [name for name, part in given.items() if part is None]
        if missing and config.family != "demo":
            raise ModelError(
                f"The adapter {adapter} is of full size and needs its base: connect MODEL, CLIP and VAE of an SD 1.5 shaped identity checkpoint "
                f"(Arc2Face), missing {', '.join(missing)}."
            )
        if missing:
            model, clip, vae = (
                part if part is not None else own for part, own in zip(given.values(), demo_base(), strict=True)
            )
        check_model(model, config)
        check_vae(vae, config)
        return io.NodeOutput(FaceCrafter(patcher, clip), model, clip, vae)
