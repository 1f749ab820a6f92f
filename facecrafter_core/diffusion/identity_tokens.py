"""Identity vector -> the 77-token context of the UNet, as Arc2Face does it.

The prompt is "photo of a id person"; the embedding of the token "id" is replaced by the identity unit vector, padded with zeros to
the encoder's width. All 77 states of the causal CLIP text encoder are the context. The unconditional ("none") is the empty prompt
through the same encoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from .families import TOKENS, Family


def prompt_tokens(family: Family, words: tuple[int, ...]) -> list[int]:
    """Start token, words, end token and padding: 77 token numbers."""
    tokens = [family.start_token, *words, family.end_token]
    return tokens + [family.end_token] * (TOKENS - len(tokens))


def encode_identity_tokens(text_encoder: Any, family: Family, identities: Tensor, with_none: bool = False) -> Tensor:
    """identities [B, D] (unit vectors) -> context [B, 77, width]. Differentiable in the identities and in the encoder.

    Args:
        with_none: put the unconditional behind them, out of the same pass: [B + 1, 77, width].

    Raises:
        ModelError: the vectors have another length than the family's.
    """
    if identities.ndim != 2 or identities.shape[1] != family.identity_dim:
        raise ModelError(
            f"Expected identity vectors of shape [B, {family.identity_dim}] for the {family.name} family, found "
            f"{list(identities.shape)}. Encode the identity with the encoder of this family."
        )
    tokens = prompt_tokens(family, family.prompt)
    place = tokens.index(family.identity_token)

    def put_identity(module: Any, args: Any, embeddings: Tensor) -> Tensor:
        embeddings = embeddings.clone()
        embeddings[: len(identities), place] = torch.nn.functional.pad(identities.to(embeddings), (0, embeddings.shape[-1] - identities.shape[1]))
        return embeddings

    return encode_tokens(text_encoder, [tokens] * len(identities) + [prompt_tokens(family, ())] * with_none, put_identity)


def encode_no_identity(text_encoder: Any, family: Family, count: int = 1) -> Tensor:
    """The unconditional context, [count, 77, width]: the empty prompt."""
    return encode_tokens(text_encoder, [prompt_tokens(family, ())]).expand(count, -1, -1)


def encode_tokens(text_encoder: Any, prompts: list[list[int]], edit_embeddings: Any = None) -> Tensor:
    """N prompts of 77 token numbers -> context [N, 77, width].

    Args:
        edit_embeddings: forward hook (module, args, embeddings [N, 77, width]) -> embeddings, for tokens that are no words.
    """
    layer = text_encoder.get_input_embeddings()
    device = layer.weight.device if layer.weight.device.type != "meta" else "cpu"  # weights that wait elsewhere have a hook that fetches inputs, too
    hook = layer.register_forward_hook(edit_embeddings) if edit_embeddings else None
    try:
        return text_encoder(input_ids=torch.tensor(prompts, device=device)).last_hidden_state
    finally:
        if hook:
            hook.remove()
