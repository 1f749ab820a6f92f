"""A text encoder is the same one, whichever version of transformers wrote it and reads it."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from facecrafter_core.diffusion.families import DEMO, DEMO_FOLDER, new_text_encoder
from facecrafter_core.diffusion.text_encoder import load_text_encoder, save_text_encoder
from facecrafter_core.errors import ModelError


@pytest.fixture
def encoder() -> torch.nn.Module:
    torch.manual_seed(0)
    return new_text_encoder(DEMO).eval()


def states(encoder: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return encoder(torch.tensor([[0, 2, 3, 4, 5, 6, 1]])).last_hidden_state


@pytest.mark.parametrize("prefix", ["text_model.", ""])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_names_of_either_version_are_read(encoder, tmp_path, prefix, file):
    save_text_encoder(encoder, tmp_path)
    weights = {prefix + name.removeprefix("text_model."): w for name, w in load_file(tmp_path / "model.safetensors").items()}
    (tmp_path / "model.safetensors").unlink()
    if file.endswith(".bin"):
        torch.save(weights | {f"{prefix}embeddings.position_ids": torch.arange(77)[None]}, tmp_path / file)
    else:
        save_file(weights, tmp_path / file)
    assert torch.equal(states(load_text_encoder(tmp_path)), states(encoder))


def test_what_is_written_has_the_names_that_all_versions_and_comfyui_know(encoder, tmp_path):
    save_text_encoder(encoder, tmp_path, variant="fp16")
    for file in (tmp_path / "model.fp16.safetensors", DEMO_FOLDER / "text_encoder/model.safetensors"):
        assert all(name.startswith("text_model.") for name in load_file(file))
    assert torch.equal(states(load_text_encoder(tmp_path, variant="fp16")), states(encoder))


def test_a_type_of_ones_own(encoder, tmp_path):
    save_text_encoder(encoder, tmp_path)
    assert {p.dtype for p in load_text_encoder(tmp_path, torch.bfloat16).parameters()} == {torch.bfloat16}
    assert {p.dtype for p in load_text_encoder(DEMO_FOLDER / "text_encoder").parameters()} == {torch.float16}


def test_weights_that_are_missing_are_never_left_random(encoder, tmp_path):
    save_text_encoder(encoder, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["text_model.final_layer_norm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="does not hold a CLIP text encoder"):
        load_text_encoder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match="Expected a text encoder in"):
        load_text_encoder(tmp_path)
