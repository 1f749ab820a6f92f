"""The full-size base from files in their publishers' layout: Arc2Face's folders (here with the demo's small networks), and an autoencoder as one file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

from facecrafter_core import search
from facecrafter_core.diffusion import arc2face
from facecrafter_core.diffusion.families import DEMO, DEMO_FOLDER, FULL, new_autoencoder
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.errors import AssetError, ModelError
from training import base


def stable_diffusion_name(key: str) -> str:
    """diffusers' name of an autoencoder's weight -> Stable Diffusion's own."""
    key = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", key)
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    for ours, theirs in (
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"), ("mid_block.attentions.0.to_q", "mid.attn_1.q"), ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
        ("mid_block.attentions.0.to_v", "mid.attn_1.v"), ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"), ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
    ):  # fmt: skip
        key = key.replace(ours, theirs)
    return key


@pytest.fixture(scope="module")
def vae() -> torch.nn.Module:
    torch.manual_seed(0)
    return new_autoencoder(FULL).eval()


@pytest.fixture(scope="module")
def folder(vae: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("downloads")
    UNet2DConditionModel.from_pretrained(DEMO_FOLDER / "unet").save_pretrained(out / "arc2face")
    CLIPTextModel.from_pretrained(DEMO_FOLDER / "text_encoder").save_pretrained(out / "encoder")
    weights = {stable_diffusion_name(k): v for k, v in vae.state_dict().items()}
    save_file({k: v[:, :, None, None].contiguous() if "attn_1" in k and v.ndim == 2 else v for k, v in weights.items()}, str(out / "vae.safetensors"))
    return out


@pytest.fixture
def downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    places = {
        "arc2face_unet": "arc2face/diffusion_pytorch_model.safetensors", "arc2face_unet_config": "arc2face/config.json",
        "arc2face_encoder": "encoder/model.safetensors", "arc2face_encoder_config": "encoder/config.json", "sd_vae": "vae.safetensors",
    }  # fmt: skip
    monkeypatch.setattr(arc2face, "find_asset", lambda name: folder / places[name])
    return folder


def test_an_autoencoder_in_one_file_is_read_without_the_hub(vae: torch.nn.Module, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = arc2face.load_vae(folder / "vae.safetensors")
    assert {k: v.shape for k, v in loaded.state_dict().items()} == {k: v.shape for k, v in vae.state_dict().items()}
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.decode(latents).sample, vae.decode(latents).sample)
    assert loaded.config.scaling_factor == pytest.approx(0.18215)


def test_downloaded_files_are_a_pipeline(downloaded: Path):
    pipe = FaceCrafterPipeline.from_pretrained("arc2face", adapter=DEMO_FOLDER / "adapter.safetensors", dtype=torch.bfloat16)
    parts = (pipe.unet, pipe.text_encoder, pipe.vae, pipe.adapter)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.bfloat16} and pipe.adapter.config.family == "demo"


def test_downloaded_files_are_a_base_to_train_on(downloaded: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "find_asset", arc2face.find_asset)
    unet, encoder = base.load_base("arc2face", DEMO)
    assert {p.dtype for part in (unet, encoder) for p in part.parameters()} == {torch.float32} and not any(p.requires_grad for p in unet.parameters())
    assert base.load_autoencoder("arc2face").config.latent_channels == 4
    assert base.autoencoder_weights("arc2face") == downloaded / "vae.safetensors"
    with pytest.raises(ModelError, match="autoencoder at .*encoder/vae"):
        base.load_autoencoder(downloaded / "encoder")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "search_folders", lambda: [tmp_path])
    with pytest.raises(AssetError, match="arc2face/diffusion_pytorch_model.safetensors"):
        FaceCrafterPipeline.from_pretrained("arc2face")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="SD 1.5's autoencoder"):
        arc2face.load_vae(tmp_path / "broken.safetensors")


def test_a_config_elsewhere_is_refused(downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    find = arc2face.find_asset
    monkeypatch.setattr(arc2face, "find_asset", lambda name: tmp_path / "config.json" if name == "arc2face_unet_config" else find(name))
    with pytest.raises(ModelError, match="in one folder"):
        FaceCrafterPipeline.from_pretrained("arc2face")
