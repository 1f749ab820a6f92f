"""Each equation against a slow version written from the paper, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.losses import (
    BOTH,
    EMO,
    ID,
    LMK,
    PAIRS,
    SimilarityOverBlocks,
    attention_disentanglement_loss,
    condition_similarity,
    diffusion_loss,
    min_snr_weights,
    total_loss,
)

G, K, L, C = 2, 3, 16, 5


def features(seed: int = 0, length: int = L) -> Tensor:
    return torch.randn(4 * G * K, length, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(side: int = 4) -> Tensor:
    return (torch.rand(G, side, side, generator=torch.Generator().manual_seed(1)) > 0.4).double()


def slow_disentanglement(a: int, b: int, blocks: list[Tensor], mask: Tensor, image: int) -> float:
    """Eq. 2 for one image, number by number: mean over blocks, pairs and positions under the mask of ReLU(cos)."""
    over_blocks = []
    for block in blocks:
        pairs = []
        for i in range(K):
            for j in range(K):
                x, y = block[(a * G + image) * K + i], block[(b * G + image) * K + j]
                total = weight = 0.0
                for position in range(len(x)):
                    m = mask[image].flatten()[position].item()
                    cosine = (x[position] @ y[position]).item() / (x[position].norm() * y[position].norm()).item()
                    total, weight = total + m * max(0.0, cosine), weight + m
                pairs.append(total / weight)
        over_blocks.append(sum(pairs) / len(pairs))
    return sum(over_blocks) / len(over_blocks)


def fast(blocks: list[Tensor], mask: Tensor) -> Tensor:
    watch = SimilarityOverBlocks(mask)
    for block in blocks:
        watch(block)
    return watch.mean()


def test_eq_2_and_3_equal_the_paper_written_out():
    blocks, mask = [features(0), features(1)], masks()
    similarity = fast(blocks, mask)
    for image in range(G):
        for a, b in PAIRS:
            assert similarity[image, a, b].item() == pytest.approx(slow_disentanglement(a, b, blocks, mask, image), abs=1e-6)
    expected = sum(slow_disentanglement(a, b, blocks, mask, image) for a, b in PAIRS for image in range(G)) / G
    assert attention_disentanglement_loss(similarity).item() == pytest.approx(expected, abs=1e-6)


def test_eq_3_has_the_five_pairs_of_the_paper():
    assert set(PAIRS) == {(ID, LMK), (ID, EMO), (ID, BOTH), (LMK, EMO), (LMK, BOTH)}


def test_eq_3_leaves_out_images_without_their_identity():
    similarity = fast([features()], masks())
    only_second = attention_disentanglement_loss(similarity, torch.tensor([0.0, 1.0]))
    assert only_second == attention_disentanglement_loss(similarity[1:])
    assert attention_disentanglement_loss(similarity, torch.zeros(2)) == 0


def test_eq_3_over_the_parts_of_a_step_is_eq_3_over_the_step():
    similarity, counted = fast([features()], masks()), torch.tensor([0.0, 1.0])
    parts = [attention_disentanglement_loss(similarity[i : i + 1], counted[i : i + 1], counted.sum() / 2) for i in range(2)]
    assert sum(parts) / 2 == attention_disentanglement_loss(similarity, counted)


def test_the_mask_is_resized_to_each_block():
    big, small = features(0, 16), features(1, 4)
    watch = SimilarityOverBlocks(masks(4))
    watch(small)
    quarter = torch.nn.functional.avg_pool2d(masks(4)[:, None], 2).flatten(1).float()
    assert torch.allclose(watch.mean(), condition_similarity(small, quarter))
    watch(big)
    assert watch.blocks == 2


def test_positions_outside_the_mask_do_not_count():
    x, mask = features(), masks()
    outside = (mask.flatten(1) == 0)[None, :, None, :, None].expand(4, G, K, L, C).reshape(4 * G * K, L, C)
    changed = torch.where(outside, torch.randn_like(x), x)
    assert torch.equal(fast([x], mask), fast([changed], mask))


def test_an_empty_mask_gives_no_loss_and_no_gradient():
    x = features().requires_grad_()
    loss = attention_disentanglement_loss(fast([x], torch.zeros(G, 4, 4)))
    loss.backward()
    assert loss == 0 and not x.grad.any()


def test_gradients_of_eq_3():
    mask = masks().flatten(1)

    def loss(x: Tensor) -> Tensor:
        g = len(mask)
        unit = torch.nn.functional.normalize(x, dim=-1).unflatten(0, (4, g, -1))
        value = torch.zeros((), dtype=x.dtype)
        for a, b in PAIRS:
            cosine = torch.einsum("gilc,gjlc->gijl", unit[a], unit[b]).relu()
            value = value + ((cosine * mask[:, None, None]).sum(-1) / mask.sum(1)[:, None, None]).mean()
        return value

    x = features().requires_grad_()
    assert torch.autograd.gradcheck(loss, (x,), eps=1e-6, atol=1e-6)
    (slow,) = torch.autograd.grad(loss(x), x)
    (ours,) = torch.autograd.grad(attention_disentanglement_loss(condition_similarity(x, mask)), x)
    assert torch.allclose(ours, slow, atol=1e-6)


def test_eq_4_and_5():
    predicted, target = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    expected = sum(float(((p - t) ** 2).sum()) for p, t in zip(predicted, target, strict=True)) / (3 * 16)
    assert diffusion_loss(predicted, target).item() == pytest.approx(expected, rel=1e-6)
    weighted = diffusion_loss(predicted, target, torch.tensor([1.0, 0.0, 0.0]))
    assert weighted.item() == pytest.approx(float(((predicted[0] - target[0]) ** 2).mean()) / 3, rel=1e-6)
    assert total_loss(torch.tensor(2.0), torch.tensor(3.0), 5e-4).item() == pytest.approx(2.0015)


def test_min_snr_caps_the_weight_of_the_clean_end():
    alphas = torch.tensor([0.99, 0.5, 0.01])
    snr = alphas / (1 - alphas)
    assert torch.allclose(min_snr_weights(alphas, "epsilon", 5.0) * snr, snr.clamp(max=5.0))
    assert torch.allclose(min_snr_weights(alphas, "v_prediction", 5.0) * (snr + 1), snr.clamp(max=5.0))


def test_the_similarity_and_the_mask_are_summed_in_fp32_under_autocast():
    blocks, mask = [features(0).bfloat16(), features(1).bfloat16()], masks().float()
    expected = fast(blocks, mask)
    with torch.autocast("cpu", torch.bfloat16):
        found = fast(blocks, mask)
        loss = attention_disentanglement_loss(found)
    assert found.dtype == loss.dtype == torch.float32 and torch.equal(found, expected)
