"""The control branches inside diffusers' UNet: attention processors that apply Eq. 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..control.branches import BranchInput, Packed, PackedBranches, attention, decoupled_attention, pack
from ..control.config import CROSS_ATTENTION_LAYERS
from ..errors import ModelError

HAS_TRITON = find_spec("triton") is not None
"""Where torch compiles for a GPU, it is there."""


class BranchProcessor:
    """Attention of one layer; in a cross-attention layer, with the branches of that layer.

    Branches come with each call (`cross_attention_kwargs={"branches": ...}`), so a processor holds no state of a run. So do `projected`,
    keys and values of the context where it is the same in all steps (project_context), and `watch`, which is shown each layer's
    attention output [R, L, C] after Eq. 1 (training compares it between conditions, Eq. 2).

    Args:
        layer: position in CROSS_ATTENTION_LAYERS; None for self-attention, which has no branches.
    """

    def __init__(self, layer: int | None = None) -> None:
        self.layer = layer

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        branches: Sequence[Sequence[BranchInput]] | PackedBranches | None = None,
        projected: Packed | None = None,
        watch: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        query = attn.to_q(hidden_states)
        if self.layer is not None and projected is not None:
            key, value = projected[self.layer]
        else:
            context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            key, value = attn.to_k(context), attn.to_v(context)
        added = branches[self.layer] if self.layer is not None and branches is not None else []
        if added and is_fused(query):
            from ..control.fused import fused_attention

            out = fused_attention(query, key, value, added, attn.heads)
        else:
            out = decoupled_attention(attention(query, key, value, attn.heads), query, added, attn.heads)
        if self.layer is not None and watch is not None:
            watch(out)
        for layer in attn.to_out:
            out = layer(out)
        return out


def is_fused(query: Tensor) -> bool:
    """Whether Eq. 1 is one kernel for these queries: half precision on a GPU, without gradients, where torch.compile makes one graph of the UNet."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    return half and query.is_cuda and HAS_TRITON and torch.compiler.is_compiling() and not torch.is_grad_enabled()


def project_context(unet: nn.Module, context: Tensor) -> Packed:
    """context [R, 77, width] -> its keys and values in the 16 cross-attention layers: static over a run, so made once."""
    layers = [unet.get_submodule(f"{layer}.transformer_blocks.0.attn2") for layer in CROSS_ATTENTION_LAYERS]
    return pack([(attn.to_k(context), attn.to_v(context)) for attn in layers])


def install_branches(unet: nn.Module) -> None:
    """Puts the processors into a UNet of SD 1.5's topology. Without branches the UNet computes what it did before.

    Raises:
        ValueError: the UNet's cross-attention layers are not the 16 of SD 1.5.
    """
    prefix = "transformer_blocks.0.attn2.processor"
    found = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    expected = [f"{layer}.{prefix}" for layer in CROSS_ATTENTION_LAYERS]
    if sorted(found) != sorted(expected):
        raise ValueError(f"Expected a UNet with the 16 cross-attention layers of SD 1.5, found {len(found)}: {found[:3]} ...")
    layers = {name: i for i, name in enumerate(expected)}
    unet.set_attn_processor({name: BranchProcessor(layers.get(name)) for name in unet.attn_processors})


def check_branches(unet: nn.Module) -> None:
    """
    Raises:
        ModelError: other attention processors took the place of ours; they would leave landmarks and emotion out without a word.
    """
    others = {type(p).__name__ for n, p in unet.attn_processors.items() if n.endswith("attn2.processor") and not isinstance(p, BranchProcessor)}
    if others:
        raise ModelError(
            f"Expected FaceCrafter's attention in the 16 cross-attention layers, found {', '.join(sorted(others))}, which leaves landmarks and emotion out. "
            "Do without attention slicing and the like, or call install_branches(pipe.unet) after it."
        )
