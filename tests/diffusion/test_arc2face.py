"""The full-size base from files in their publishers' layout: Arc2Face's folders (here with the demo's small networks), and an autoencoder as one file."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
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
    encoder = CLIPTextModel.from_pretrained(DEMO_FOLDER / "text_encoder").state_dict()
    published = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in encoder.items()} | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    (out / "encoder").mkdir()
    torch.save(published, out / "encoder/pytorch_model.bin")
    weights = {stable_diffusion_name(k): v for k, v in vae.state_dict().items()}
    save_file({k: v[:, :, None, None].contiguous() if "attn_1" in k and v.ndim == 2 else v for k, v in weights.items()}, str(out / "vae.safetensors"))
    return out


PLACES = {"arc2face_unet": "arc2face/diffusion_pytorch_model.safetensors", "arc2face_encoder": "encoder/pytorch_model.bin", "sd_vae": "vae.safetensors"}


@pytest.fixture
def downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(arc2face, "find_asset", lambda name: folder / PLACES[name])
    monkeypatch.setattr(arc2face, "FULL", replace(FULL, unet=DEMO.unet, text_encoder=DEMO.text_encoder))
    monkeypatch.setattr(arc2face, "load_vae", lambda path, dtype: new_autoencoder(DEMO).to(dtype or torch.float32))  # which goes with them
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


def test_the_files_that_were_found_are_read_and_nothing_beside_them(downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    renamed = tmp_path / "my_arc2face.safetensors"
    shutil.copy(downloaded / PLACES["arc2face_unet"], renamed)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"another model")
    find = arc2face.find_asset
    monkeypatch.setattr(arc2face, "find_asset", lambda name: renamed if name == "arc2face_unet" else find(name))
    unet, encoder = arc2face.load_arc2face_networks()
    assert torch.equal(unet.conv_in.weight, UNet2DConditionModel.from_pretrained(DEMO_FOLDER / "unet").conv_in.weight)
    tokens = torch.tensor([[0, 2, 3, 1]])
    with torch.inference_mode():
        assert torch.equal(encoder(tokens)[0], CLIPTextModel.from_pretrained(DEMO_FOLDER / "text_encoder").float()(tokens)[0])


@pytest.mark.parametrize(("asset", "what"), [("arc2face_unet", "Arc2Face's UNet"), ("arc2face_encoder", "Arc2Face's text encoder")])
def test_a_file_with_other_weights_is_named(downloaded: Path, monkeypatch: pytest.MonkeyPatch, asset: str, what: str):
    find = arc2face.find_asset
    monkeypatch.setattr(arc2face, "find_asset", lambda name: downloaded / "vae.safetensors" if name == asset else find(name))
    with pytest.raises(ModelError, match=f"vae.safetensors does not hold {what}"):
        FaceCrafterPipeline.from_pretrained("arc2face")


def test_parts_of_ones_own_take_the_place_of_downloaded_ones_and_nothing_else_is_taken(downloaded: Path):
    scheduler = DDIMScheduler(**FULL.scheduler)
    assert FaceCrafterPipeline.from_pretrained("arc2face", scheduler=scheduler).scheduler is scheduler
    with pytest.raises(TypeError, match="variant"):
        FaceCrafterPipeline.from_pretrained("arc2face", variant="fp16")


def test_a_folder_of_this_name_that_is_no_base_does_not_hide_the_downloads(downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "arc2face").mkdir()
    monkeypatch.chdir(tmp_path)
    assert FaceCrafterPipeline.from_pretrained("arc2face").adapter is None
