"""The full family in both hosts with random weights of the true shapes (8 GB of memory, minutes on a CPU)."""

from functools import lru_cache

import comfy.sd
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
from facecrafter.nodes.host.adapter import FaceCrafter, managed_adapter
from world import conditions, predictions_of_both_hosts, temporary_folder

ALPHAS = {"landmark": 0.7, "emotion": 1.3}


@lru_cache(maxsize=1)
def predictions():
    """As a user loads them: the UNet from a diffusers file, the text encoder from a transformers file, the adapter from its file."""
    torch.manual_seed(0)
    unet, encoder = new_unet(FULL).eval(), new_text_encoder(FULL).half().float().eval()  # ComfyUI holds text encoders in fp16
    path = temporary_folder() / "adapter.safetensors"
    adapter = new_adapter("full").eval()
    for branch in (adapter.landmark_branch, adapter.emotion_branch):
        for layer in branch.to_v:
            torch.nn.init.normal_(layer.weight, std=0.05)
    save_adapter(adapter, path)
    model = comfy.sd.load_diffusion_model_state_dict(unet.state_dict(), model_options={"dtype": torch.float32})
    weights = {k if k.startswith("text_model.") else f"text_model.{k}": w for k, w in encoder.state_dict().items()}
    torch.save(weights, path.with_name("pytorch_model.bin"))  # as Arc2Face ships it, and as CLIPLoader loads it
    clip = comfy.sd.load_clip([str(path.with_name("pytorch_model.bin"))], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)
    pipe = FaceCrafterPipeline(unet, new_autoencoder(FULL), encoder, new_scheduler(FULL), adapter)
    return predictions_of_both_hosts(
        FaceCrafter(managed_adapter(path), clip), model, pipe, conditions(1, width=FULL.identity_dim), ALPHAS, 400, FULL.latent_size
    )


def check_all_five_rows_and_the_guided_prediction_agree_between_the_hosts():
    here, there = predictions()
    differences = {row: (here[row] - there[row]).abs().max().item() for row in (*ROWS, "guided")}
    print("largest differences:", differences, flush=True)
    assert max(differences.values()) <= 1e-4, differences
    assert (here["id"] - here["id+lmk"]).abs().max() > 1e-3 and (here["id"] - here["id+emo"]).abs().max() > 1e-3
    assert here["id"].shape == (1, 4, 64, 64)
