"""Eq. 1 in one kernel, for half precision on a GPU: three attentions over few tokens would mostly launch, write and add.

Triton comes with torch wherever torch compiles for a GPU; import this module only there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .branches import BranchInput

LIMIT = 2
"""Branches that the kernel has room for."""
BLOCK = 32
"""Tokens that are read at a time."""


@triton.jit
def _attend(query, key, value, tokens, step, columns, inside, SCALE: tl.constexpr, BLOCK: tl.constexpr):
    """softmax(Q K^T / sqrt(d)) V of queries [Q, D] over all tokens, fp32; SCALE is log2(e) / sqrt(d)."""
    top = tl.full([query.shape[0]], float("-inf"), tl.float32)
    total = tl.zeros([query.shape[0]], tl.float32)
    found = tl.zeros(query.shape, tl.float32)
    for start in range(0, tokens, BLOCK):
        places = start + tl.arange(0, BLOCK)
        there = places < tokens
        offsets = places[:, None] * step + columns[None, :]
        mask = there[:, None] & inside[None, :]
        scores = tl.dot(query, tl.trans(tl.load(key + offsets, mask, 0.0))) * SCALE
        scores = tl.where(there[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights, fade = tl.exp2(scores - higher[:, None]), tl.exp2(top - higher)
        values = tl.load(value + offsets, mask, 0.0)
        found = tl.dot(weights.to(values.dtype), values, found * fade[:, None])
        total = total * fade + tl.sum(weights, 1)
        top = higher
    return found / total[:, None]


@triton.jit
def _decoupled(
    out, query, key, value, key1, value1, alpha1, key2, value2, alpha2,
    length, width, tokens, row_step, step,
    start1, stop1, tokens1, row_step1, step1,
    start2, stop2, tokens2, row_step2, step2,
    HEADS: tl.constexpr, DIM: tl.constexpr, PADDED: tl.constexpr, SCALE: tl.constexpr, QUERIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head of one row."""
    row, head = (tl.program_id(1) // HEADS).to(tl.int64), tl.program_id(1) % HEADS
    lanes = tl.arange(0, PADDED)
    inside, columns = lanes < DIM, head * DIM + lanes
    places = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    offsets = row * length * width + places[:, None] * width + columns[None, :]
    mask = (places < length)[:, None] & inside[None, :]
    queries = tl.load(query + offsets, mask, 0.0)
    found = _attend(queries, key + row * row_step, value + row * row_step, tokens, step, columns, inside, SCALE, BLOCK)
    if (row >= start1) & (row < stop1):
        move = (row - start1) * row_step1
        alpha = tl.load(alpha1 + row - start1).to(tl.float32)
        found += alpha * _attend(queries, key1 + move, value1 + move, tokens1, step1, columns, inside, SCALE, BLOCK)
    if (row >= start2) & (row < stop2):
        move = (row - start2) * row_step2
        alpha = tl.load(alpha2 + row - start2).to(tl.float32)
        found += alpha * _attend(queries, key2 + move, value2 + move, tokens2, step2, columns, inside, SCALE, BLOCK)
    tl.store(out + offsets, found.to(out.dtype.element_ty), mask)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, branches: Sequence[BranchInput], heads: int) -> Tensor:
    """Attn_ID + alpha_LMK Attn_LMK + alpha_EMO Attn_EMO (Eq. 1), without gradients.

    Args:
        query: [R, L, C], contiguous. key, value: of the identity's context, [R, T, C].
        branches: one or two. Of each, and of the identity, keys and values lie alike in memory, as those of Packed do.

    Returns:
        [R, L, C].
    """
    rows, length, width = query.shape
    dim = width // heads
    padded = max(16, triton.next_power_of_2(dim))
    queries = 64 if padded <= 128 else 32  # what fits into the shared memory of old cards, too
    operands, sizes = [], []
    for branch in (*branches, *[BranchInput(key, value, key, slice(0, 0))] * (LIMIT - len(branches))):
        operands += [branch.key, branch.value, branch.alpha]
        sizes += [branch.rows.start, branch.rows.stop, branch.key.shape[1], branch.key.stride(0), branch.key.stride(1)]
    out = torch.empty_like(query)
    _decoupled[(triton.cdiv(length, queries), rows * heads)](
        out, query, key, value, *operands,
        length, width, key.shape[1], key.stride(0), key.stride(1), *sizes,
        HEADS=heads, DIM=dim, PADDED=padded, SCALE=math.log2(math.e) / math.sqrt(dim), QUERIES=queries, BLOCK=BLOCK,
        num_warps=4, num_stages=1,
    )  # fmt: skip
    return out
