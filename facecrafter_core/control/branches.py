"""Decoupled cross-attention branches (Sec. 3.1, Eq. 1).

Shapes: R rows of a batch (guidance rows x images), L query positions, T tokens, C inner width of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .config import ControlConfig


class BranchInput(NamedTuple):
    """What one branch adds to one cross-attention layer.

    A branch is computed only on `rows`: rows where its alpha is zero are "completely cut off" (Sec. 3.3), not multiplied by zero.
    """

    key: Tensor  # [r, T, C]
    value: Tensor  # [r, T, C]
    alpha: Tensor  # [r, 1, 1]
    rows: slice  # the r rows of the batch


class Packed:
    """Keys and values of all layers side by side: one tensor where a compiled step would have 32 inputs. `packed[layer]` is (key, value).

    Args:
        tensor: [r, T, 2 x sum of widths], for each layer its keys and then its values.
        widths: C of each layer.
    """

    def __init__(self, tensor: Tensor, widths: tuple[int, ...]) -> None:
        self.tensor, self.widths = tensor, widths

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        start, width = 2 * sum(self.widths[:layer]), self.widths[layer]
        return self.tensor[..., start : start + width], self.tensor[..., start + width : start + 2 * width]


def pack(projected: Sequence[tuple[Tensor, Tensor]]) -> Packed:
    """(key, value) of each layer, each [r, T, C] -> the same as one tensor."""
    return Packed(torch.cat([part for pair in projected for part in pair], dim=-1), tuple(key.shape[-1] for key, _ in projected))


class PackedBranches:
    """`branches[layer]` is what the branches add to a layer, a list of BranchInput.

    Args:
        branches: of each branch its keys and values [r, T, .], alpha [r, 1, 1], and the r rows of the batch.
    """

    def __init__(self, branches: Sequence[tuple[Packed, Tensor, slice]]) -> None:
        self.branches = tuple(branches)

    def __getitem__(self, layer: int) -> list[BranchInput]:
        return [BranchInput(*packed[layer], alpha, rows) for packed, alpha, rows in self.branches]


class ControlBranch(nn.Module):
    """Key and value projections of one condition, for each of the 16 cross-attention layers.

    Values start at zero, so that an untrained branch leaves the base model as it is.
    """

    def __init__(self, token_width: int, config: ControlConfig, operations: Any = nn) -> None:
        super().__init__()
        widths = config.layer_widths
        self.to_k = nn.ModuleList(operations.Linear(token_width, width, bias=False) for width in widths)
        self.to_v = nn.ModuleList(operations.Linear(token_width, width, bias=False) for width in widths)
        for layer in self.to_v:
            nn.init.zeros_(layer.weight)

    def project(self, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
        """tokens [B, T, W] -> (key, value), each [B, T, C], for each layer. Static over a sampling run: call it once."""
        return [(k(tokens), v(tokens)) for k, v in zip(self.to_k, self.to_v, strict=True)]


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V (Sec. 3.1) on [R, L, C], [R, T, C], [R, T, C] -> [R, L, C]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def decoupled_attention(attention_id: Tensor, query: Tensor, branches: Sequence[BranchInput], heads: int) -> Tensor:
    """Eq. 1: Attn_ID + alpha_LMK Attn_LMK + alpha_EMO Attn_EMO, before the output projection.

    Args:
        attention_id: identity attention, [R, L, C].
        query: the layer's queries, [R, L, C]; shared by all branches.
        branches: what is switched on; with none of them, `attention_id` itself is returned, bit for bit.
        heads: number of attention heads.
    """
    if not branches:
        return attention_id
    out = attention_id.clone()
    for key, value, alpha, rows in branches:
        out[rows] += alpha * attention(query[rows], key, value, heads)
    return out


def branch_inputs(projected: list[tuple[Tensor, Tensor]], alpha: Tensor, rows: slice) -> list[BranchInput]:
    """One branch's BranchInput for each layer: `projected` from ControlBranch.project, alpha [r, 1, 1]."""
    return [BranchInput(key, value, alpha.to(value.dtype), rows) for key, value in projected]


def repeat_rows(projected: list[tuple[Tensor, Tensor]], times: int) -> list[tuple[Tensor, Tensor]]:
    """The same keys and values for `times` guidance rows: [B, T, C] -> [times * B, T, C]."""
    return [(torch.cat([k] * times), torch.cat([v] * times)) for k, v in projected] if times > 1 else projected
