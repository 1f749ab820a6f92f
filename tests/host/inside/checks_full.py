"""The full family in ComfyUI's own SD 1.5: tokens, contexts and widths (no weights are needed for that; random ones are)."""

import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch
from facecrafter.facecrafter_core.control.adapter import new_adapter
from facecrafter.facecrafter_core.diffusion.families import FULL, new_text_encoder
from facecrafter.facecrafter_core.diffusion.identity_tokens import encode_identity_tokens, encode_no_identity
from facecrafter.nodes.host.adapter import check_model
from facecrafter.nodes.host.base import unet_config
from facecrafter.nodes.host.contexts import encode_identity


def check_the_prompt_has_the_tokens_of_comfyuis_tokenizer():
    tokens = [t for t, _ in comfy.sd1_clip.SD1Tokenizer().tokenize_with_weights("photo of a id person")["l"][0]]
    assert tokens[:7] == [FULL.start_token, *FULL.prompt, FULL.end_token]
    assert set(tokens[7:]) == {FULL.end_token}


def check_identity_contexts_are_those_of_transformers():
    torch.manual_seed(0)
    reference = new_text_encoder(FULL).half().float().eval()  # ComfyUI holds text encoders in half precision
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(target, parameters=1)
    weights = {k if k.startswith("text_model.") else f"text_model.{k}": w for k, w in reference.state_dict().items()}
    missing, _ = clip.load_sd(weights)
    assert not [name for name in missing if "text_projection" not in name]
    identities = torch.nn.functional.normalize(torch.randn(2, FULL.identity_dim), dim=1)
    expected = encode_identity_tokens(reference, FULL, identities)
    assert (encode_identity(clip, FULL, identities) - expected).abs().max() <= 1e-4
    assert (encode_identity(clip, FULL, None) - encode_no_identity(reference, FULL)).abs().max() <= 1e-4
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def check_the_full_adapter_fits_comfyuis_sd15():
    model = comfy.model_base.BaseModel(comfy.supported_models.SD15(unet_config(FULL)), device="meta")
    patcher = comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))
    check_model(patcher, new_adapter("full").config)
