"""Eq. 1 in one kernel against Eq. 1 in torch's own operations."""

import pytest
import torch

from facecrafter_core.control.branches import BranchInput, Packed, attention, decoupled_attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
HEADS = 8


def packed(rows: int, tokens: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return Packed(torch.randn(rows, tokens, 4 * width, device="cuda").to(dtype), (width, width))[1]


def exactly(branch: BranchInput) -> BranchInput:
    return BranchInput(branch.key.double(), branch.value.double(), branch.alpha.double(), branch.rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("length", "width"), [(4096, 320), (1000, 640), (256, 1280), (20, 64)])
@pytest.mark.parametrize("rows", [(slice(2, 4), slice(4, 6)), (slice(2, 4), slice(2, 6)), (slice(0, 6), None), (None, slice(5, 6))])
@torch.inference_mode()
def test_one_kernel_is_as_exact_as_the_operations_one_by_one(rows, length: int, width: int, dtype: torch.dtype):
    from facecrafter_core.control.fused import fused_attention

    torch.manual_seed(0)
    torch.compiler.reset()
    query, (key, value) = torch.randn(6, length, width, device="cuda").to(dtype), packed(6, 77, width, dtype)
    branches = []
    for span, tokens, alpha in zip(rows, (256, 8), (0.7, 1.3), strict=True):
        if span is not None:
            count = span.stop - span.start
            branches.append(BranchInput(*packed(count, tokens, width, dtype), torch.full((count, 1, 1), alpha, device="cuda", dtype=dtype), span))
    expected = decoupled_attention(attention(query.double(), key.double(), value.double(), HEADS), query.double(), [exactly(b) for b in branches], HEADS)
    apart = decoupled_attention(attention(query, key, value, HEADS), query, branches, HEADS)
    for run in (fused_attention, torch.compile(fused_attention, fullgraph=True, dynamic=False)):
        found = run(query, key, value, branches, HEADS)
        assert (found - expected).abs().max() <= 1.1 * (apart - expected).abs().max()
