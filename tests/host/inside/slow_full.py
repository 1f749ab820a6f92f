"""The full family in both hosts with random weights of the true shapes (16 GB of memory, minutes on a CPU).

Files as their publishers ship them, read by ComfyUI's own loader nodes: Arc2Face's UNet, ControlNet and text encoder, SD 1.5's autoencoder, our adapter.
"""

from functools import lru_cache
from types import SimpleNamespace

import comfy.model_management
import comfy.sd
import folder_paths
import torch
from facecrafter.facecrafter_core.control.adapter import new_adapter, save_adapter
from facecrafter.facecrafter_core.diffusion.families import (
    FULL,
    new_autoencoder,
    new_scheduler,
    new_text_encoder,
    new_unet,
)
from facecrafter.facecrafter_core.diffusion.guidance import ROWS
from facecrafter.facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter.nodes.host.adapter import FaceCrafter, check_model, check_vae, managed_adapter
from facecrafter.nodes.host.contexts import encode_identity
from world import conditions, predictions_of_both_hosts, temporary_folder

import nodes

ALPHAS = {"landmark": 0.7, "emotion": 1.3}
LIMIT = 1e-4


@lru_cache(maxsize=1)
def world() -> SimpleNamespace:
    """The same random weights in diffusers' pipeline and, from files, in ComfyUI."""
    from diffusers import ControlNetModel
    from safetensors.torch import save_file

    torch.manual_seed(0)
    unet, encoder = new_unet(FULL).eval(), new_text_encoder(FULL).half().float().eval()  # ComfyUI holds text encoders in fp16
    vae, controlnet, adapter = new_autoencoder(FULL).eval(), ControlNetModel.from_unet(unet).eval(), new_adapter("full").eval()
    for branch in (adapter.landmark_branch, adapter.emotion_branch):
        for layer in branch.to_v:
            torch.nn.init.normal_(layer.weight, std=0.05)
    for layer in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block, controlnet.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(layer.weight, std=0.02)

    files = temporary_folder()
    for kind in ("diffusion_models", "text_encoders", "vae", "controlnet"):
        folder_paths.add_model_folder_path(kind, str(files))
    save_adapter(adapter, files / "adapter.safetensors")
    for name, part in (("unet", unet), ("vae", vae), ("controlnet", controlnet)):
        save_file({k: w.contiguous() for k, w in part.state_dict().items()}, files / f"{name}.safetensors")
    weights = {k if k.startswith("text_model.") else f"text_model.{k}": w for k, w in encoder.state_dict().items()}
    torch.save(weights, files / "pytorch_model.bin")
    (clip,) = nodes.CLIPLoader().load_clip("pytorch_model.bin", "stable_diffusion")
    return SimpleNamespace(
        model=nodes.UNETLoader().load_unet("unet.safetensors", "default")[0],
        vae=nodes.VAELoader().load_vae("vae.safetensors")[0],
        controlnet=nodes.ControlNetLoader().load_controlnet("controlnet.safetensors")[0],
        crafter=FaceCrafter(managed_adapter(files / "adapter.safetensors"), clip),
        pipe=FaceCrafterPipeline(unet, vae, encoder, new_scheduler(FULL), adapter),
        theirs=controlnet,
    )


def agree(control=None) -> dict[str, torch.Tensor]:
    """All five rows and the guided prediction of one picture; ComfyUI's."""
    w = world()
    what = conditions(1, width=FULL.identity_dim)
    here, there = predictions_of_both_hosts(w.crafter, w.model, w.pipe, what, ALPHAS, 400, FULL.latent_size, control)
    differences = {row: (here[row] - there[row]).abs().max().item() for row in (*ROWS, "guided")}
    print("largest differences:", differences, flush=True)
    assert max(differences.values()) <= LIMIT, differences
    return here


@lru_cache(maxsize=1)
def without_controlnet() -> dict[str, torch.Tensor]:
    return agree()


def check_all_five_rows_and_the_guided_prediction_agree_between_the_hosts():
    here = without_controlnet()
    assert (here["id"] - here["id+lmk"]).abs().max() > 1e-3 and (here["id"] - here["id+emo"]).abs().max() > 1e-3
    assert here["id"].shape == (1, 4, 64, 64)


def check_a_controlnet_agrees_on_all_rows_too():
    w = world()
    hint = torch.rand(1, 512, 512, 3, generator=torch.Generator().manual_seed(0))

    def put_on(positive, negative):
        return nodes.ControlNetApplyAdvanced().apply_controlnet(positive, negative, w.controlnet, hint, 1.0, 0.0, 1.0)

    def residuals(unet, args, kwargs):
        x, timestep, context = args
        down, middle = w.theirs(x, timestep, context, hint.movedim(-1, 1).expand(len(x), -1, -1, -1), return_dict=False)
        return args, {**kwargs, "down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    handle = w.pipe.unet.register_forward_pre_hook(residuals, with_kwargs=True)
    try:
        here = agree(put_on)
    finally:
        handle.remove()
    assert all((here[row] - without_controlnet()[row]).abs().max() > 1e-3 for row in ROWS)


def check_the_autoencoder_decodes_alike():
    w = world()
    latents = torch.randn(1, 4, FULL.latent_size, FULL.latent_size, generator=torch.Generator().manual_seed(0))
    theirs = torch.as_tensor(w.pipe.decode(latents))
    (here,) = nodes.VAEDecode().decode(w.vae, {"samples": latents / w.pipe.vae.config.scaling_factor})
    difference = (here - theirs).abs().max().item()
    print("largest difference of the pictures:", difference, flush=True)
    assert here.shape == (1, 512, 512, 3) and difference <= 1e-3


def rows_of(model) -> torch.Tensor:
    """One forward pass of a MODEL on small latents."""
    x, context = (torch.randn(*shape, generator=torch.Generator().manual_seed(0)) for shape in ((1, 4, 16, 16), (1, 77, 768)))
    comfy.model_management.load_models_gpu([model])
    with torch.inference_mode():
        place = model.load_device
        return model.model.apply_model(x.to(place), torch.tensor([400.0], device=place), c_crossattn=context.to(place)).float().cpu()


def check_a_checkpoint_a_diffusers_folder_and_fp8_are_read_as_the_base():
    w, files = world(), temporary_folder()
    expected = rows_of(w.model)
    for part, file in (("unet", "diffusion_pytorch_model.safetensors"), ("vae", "diffusion_pytorch_model.safetensors"), ("text_encoder", "pytorch_model.bin")):
        (files / "diffusers/mine" / part).mkdir(parents=True)
        source = files / ("pytorch_model.bin" if part == "text_encoder" else f"{part}.safetensors")
        (files / "diffusers/mine" / part / file).symlink_to(source)
    folder_paths.add_model_folder_path("diffusers", str(files / "diffusers"))
    folder_paths.add_model_folder_path("checkpoints", str(files))
    comfy.sd.save_checkpoint(str(files / "arc2face.safetensors"), w.model, w.crafter.clip, w.vae)

    def differs(parts) -> float:
        model, clip, vae = parts
        config = w.crafter.adapter.model.config
        check_model(model, config)
        check_vae(vae, config)
        identities = conditions(1, width=FULL.identity_dim)[0]
        assert (encode_identity(clip, FULL, identities) - encode_identity(w.crafter.clip, FULL, identities)).abs().max() <= 1e-3
        return ((rows_of(model) - expected).abs().max() / expected.abs().max()).item()

    own = w.crafter.clip, w.vae
    found = {"diffusers folder": differs(nodes.DiffusersLoader().load_checkpoint("mine"))}
    found["checkpoint"] = differs(nodes.CheckpointLoaderSimple().load_checkpoint("arc2face.safetensors"))
    found["fp8"] = differs((nodes.UNETLoader().load_unet("unet.safetensors", "fp8_e4m3fn")[0], *own))
    print("largest difference of a forward pass:", found, flush=True)
    assert max(found["diffusers folder"], found["checkpoint"]) <= 1e-5 and 0 < found["fp8"] <= 0.5, found
