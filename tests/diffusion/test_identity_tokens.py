"""An identity as a token of the text encoder's prompt."""


import torch

from facecrafter_core.diffusion.families import DEMO, FULL
from facecrafter_core.diffusion.identity_tokens import encode_identity_tokens, encode_no_identity, prompt_tokens


def test_identity_replaces_the_id_token_and_reaches_the_context(pipe, identity):
    with torch.inference_mode():
        a, b = encode_identity_tokens(pipe.text_encoder, DEMO, torch.stack([identity, -identity]))
    place = prompt_tokens(DEMO, DEMO.prompt).index(DEMO.identity_token)
    assert torch.equal(a[:place], b[:place]), "CLIP is causal: states before the token cannot know it"
    assert (a[place:] - b[place:]).abs().amax(1).min() > 0


def test_none_is_the_empty_prompt(pipe):
    with torch.inference_mode():
        ids = torch.tensor([[0] + [1] * 76])
        assert torch.equal(encode_no_identity(pipe.text_encoder, DEMO)[0], pipe.text_encoder(input_ids=ids).last_hidden_state[0])


def test_full_prompt_is_arc2faces():
    assert prompt_tokens(FULL, FULL.prompt)[:8] == [49406, 1125, 539, 320, 1014, 2533, 49407, 49407]
