"""IP-Adapter-FaceID through diffusers: small random models of the true topology, files in their authors' layout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facecrafter_core.errors import MetricError
from facecrafter_core.faces.arcface import ArcFaceEncoder
from training import evaluate
from training.baselines import FaceIDMethod

RANK, TOKENS, SIZE = 4, 4, 64
PLAN = SimpleNamespace(
    identities=[np.full((SIZE, SIZE, 3), value, np.uint8) for value in (60, 200)],
    identity=np.array([0, 1, 0, 1]),
    seed=np.array([5, 5, 6, 6]),
)
needs_peft = pytest.mark.skipif("not __import__('importlib').util.find_spec('peft')", reason="peft is not installed (pip install peft)")


def tokenizer(folder: Path):
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(97, 123)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def text_encoder(kind, **more):
    from transformers import CLIPTextConfig

    ends = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    return kind(CLIPTextConfig(vocab_size=54, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, **ends, **more)).eval()


def base(folder: Path, large: bool):
    """SD 1.5 or SDXL, narrower; returns its UNet."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4)
    parts = {"vae": vae, "tokenizer": tokenizer(folder / "words"), "text_encoder": text_encoder(CLIPTextModel), "scheduler": DDIMScheduler(clip_sample=False)}
    if not large:
        unet = UNet2DConditionModel(sample_size=32, block_out_channels=(32, 32, 64, 64), cross_attention_dim=32, attention_head_dim=8)
        pipe = StableDiffusionPipeline(unet=unet, **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    else:
        unet = UNet2DConditionModel(
            sample_size=32, block_out_channels=(32, 64), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2), cross_attention_dim=64, attention_head_dim=(2, 4),
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=80,
        )  # fmt: skip
        second = text_encoder(CLIPTextModelWithProjection, projection_dim=32)
        pipe = StableDiffusionXLPipeline(unet=unet, **parts, text_encoder_2=second, tokenizer_2=tokenizer(folder / "words"))
    pipe.save_pretrained(folder / "base")
    return unet


def adapter(unet, plus: bool) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter-FaceID file for a UNet: keys numbered by attention layer, LoRA in each, a projection of the 512 numbers."""
    width = unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    layers: dict[str, Tensor] = {}
    for i, name in enumerate(unet.attn_processors):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for part, linear in (("to_q", attention.to_q), ("to_k", attention.to_k), ("to_v", attention.to_v), ("to_out", attention.to_out[0])):
            layers[f"{i}.{part}_lora.down.weight"] = random(RANK, linear.in_features)
            layers[f"{i}.{part}_lora.up.weight"] = random(linear.out_features, RANK)
        if "attn2" in name:
            for part in ("to_k_ip", "to_v_ip"):
                layers[f"{i}.{part}.weight"] = 3 * random(attention.to_k.out_features, width)
    embed = width  # as published: Plus v2 adds the identity to what the resampler gives
    shapes = {"proj.0": (1024, 512), "proj.2": (TOKENS * embed, 1024)}
    projection = {f"{name}.weight": random(*shape) for name, shape in shapes.items()} | {f"{name}.bias": random(shape[0]) for name, shape in shapes.items()}
    projection |= nn.LayerNorm(embed).state_dict(prefix="norm.")
    if plus:
        own = {"proj_in.weight": random(embed, 32), "proj_in.bias": random(embed), "proj_out.weight": random(width, embed), "proj_out.bias": random(width)}
        own |= nn.LayerNorm(width).state_dict(prefix="norm_out.")
        for i in range(4):
            for norm in ("0.norm1", "0.norm2", "1.0"):
                own |= nn.LayerNorm(embed).state_dict(prefix=f"layers.{i}.{norm}.")
            for name, shape in (("0.to_q", (64, embed)), ("0.to_kv", (128, embed)), ("0.to_out", (embed, 64)), ("1.1", (4 * embed, embed)), ("1.3", (embed, 4 * embed))):
                own[f"layers.{i}.{name}.weight"] = random(*shape)
        projection |= {f"perceiver_resampler.{name}": value for name, value in own.items()}
    return {"image_proj": projection, "ip_adapter": layers}


def image_encoder(folder: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(2)
    config = CLIPVisionConfig(hidden_size=32, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4, image_size=224, patch_size=32, projection_dim=32)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)


class Encoder:
    """In InsightFace's place: a vector by brightness."""

    def encode(self, crops: Tensor) -> Tensor:
        return nn.functional.normalize(torch.stack([torch.randn(512, generator=torch.Generator().manual_seed(int(crop.mean() * 100) + 200)) for crop in crops]), dim=1)

    def align(self, picture: np.ndarray, size: int) -> np.ndarray:
        return np.full((size, size, 3), picture.mean(), np.uint8)


@pytest.fixture(autouse=True)
def insightface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ArcFaceEncoder, "load", lambda device="cpu", recogniser=None: Encoder())


def published(folder: Path, form: str) -> Path:
    """A folder as FaceIDMethod wants it. form: "", "-plus", "-plusv2" or "_sdxl"."""
    unet = base(folder, large=form == "_sdxl")
    torch.save(adapter(unet, "plus" in form), folder / f"ip-adapter-faceid{form}.bin")
    (folder / "w600k_r50.onnx").touch()
    if "plus" in form:
        image_encoder(folder / "image_encoder")
    return folder


@needs_peft
@pytest.mark.parametrize("form", ["", "-plus", "-plusv2", "_sdxl"])
def test_each_form_makes_a_picture_for_each_request_and_depends_on_the_identity(tmp_path: Path, form: str):
    method = FaceIDMethod("faceid", published(tmp_path, form), PLAN, 2, torch.device("cpu"))
    weights = torch.load(tmp_path / f"ip-adapter-faceid{form}.bin")
    assert method.parameters == sum(v.numel() for part in weights.values() for v in part.values())
    assert (method.projection is not None and method.projection.shortcut) == (form == "-plusv2")
    pictures = np.stack(method.generate(range(4))).astype(int)
    assert pictures.shape == (4, SIZE, SIZE, 3)
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.5, "the seed is the same, the identity is not"
    assert np.abs(pictures[0] - pictures[2]).mean() > 0.5, "the identity is the same, the seed is not"
    assert (method.generate([2])[0] == pictures[2]).all(), "it does not matter which requests come together"


@needs_peft
def test_the_lora_in_the_file_is_used(tmp_path: Path):
    with_lora = FaceIDMethod("faceid", published(tmp_path, ""), PLAN, 2, torch.device("cpu")).generate([0])[0]
    file = tmp_path / "ip-adapter-faceid.bin"
    weights = torch.load(file)
    weights["ip_adapter"] = {k: v * ("_lora." not in k) for k, v in weights["ip_adapter"].items()}
    torch.save(weights, file)
    without = FaceIDMethod("faceid", tmp_path, PLAN, 2, torch.device("cpu")).generate([0])[0]
    assert np.abs(with_lora.astype(int) - without).mean() > 0.5


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make() -> FaceIDMethod:
        return FaceIDMethod("faceid", tmp_path, PLAN, 2, torch.device("cpu"))

    with pytest.raises(MetricError, match=r"Expected one file ip-adapter-faceid\*\.bin or \.safetensors in .*, found 0"):
        make()
    (tmp_path / "ip-adapter-faceid.bin").write_bytes(b"no")
    with pytest.raises(MetricError, match="does not hold an IP-Adapter's image_proj and ip_adapter"):
        make()
    torch.save({"image_proj": {"perceiver_resampler.proj_in.weight": torch.zeros(1)}, "ip_adapter": {}}, tmp_path / "ip-adapter-faceid.bin")
    with pytest.raises(MetricError, match=r"base/model_index\.json and image_encoder/config\.json and w600k_r50\.onnx in"):
        make()
    for file in ("base/model_index.json", "image_encoder/config.json", "w600k_r50.onnx"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MetricError, match="pip install peft"):
        make()


@needs_peft
def test_it_is_a_row_of_the_identity_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = Path(__file__).resolve().parents[2]
    for i, portrait in enumerate(sorted((root / "demo/samples").glob("*.jpg"))[:2]):
        (tmp_path / f"people/{i}").mkdir(parents=True)
        (tmp_path / f"people/{i}/{i}.jpg").write_bytes(portrait.read_bytes())
    folder, out = published(tmp_path / "faceid", ""), tmp_path / "out"
    arguments = ["identity", "--source", str(tmp_path / "people"), "--split", "all", "--models", str(root / "demo"), "--out", str(out), "--faceid", f"FaceID={folder}"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments, "--steps", "1", "--each", "2", "--identities", "2", "--processes", "1"])
    evaluate.main()
    row = json.loads((out / "summary.json").read_text())["rows"]["FaceID"]
    assert row["pictures"] == 4 == row["without_face"] and row["parameters"] > 1e5, "noise has no face; what was made is counted"
    assert len(list((out / "pictures/FaceID").glob("*.png"))) == 4
