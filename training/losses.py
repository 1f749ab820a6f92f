"""The training objective, equation by equation (Sec. 3.2).

Shapes: G images, K replicas of each image under each of the four conditions, L query positions, C inner width of a layer. The rows of a
batch are ordered condition by condition, then image by image: row = (condition * G + image) * K + replica.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

ID, LMK, BOTH, EMO = range(4)
"""The four switch combinations: ID, ID + LMK, ID + LMK + EMO, ID + EMO. In this order the rows with landmarks and those with emotion are each in one piece."""

PAIRS = ((ID, LMK), (ID, EMO), (ID, BOTH), (LMK, EMO), (LMK, BOTH))
"""The five pairs of Eq. 3; the sixth, (EMO, BOTH), is not among them."""


def diffusion_loss(predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Eq. 4: squared error of the prediction, [R, 4, h, w], averaged over all numbers.

    Args:
        weights: of each row, [R], such as min_snr_weights.
    """
    error = (predicted.float() - target.float()).square().mean((1, 2, 3))
    return (error if weights is None else weights * error).mean()


def min_snr_weights(alphas: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Min-SNR weighting (Hang et al. 2023, Sec. 3.4), for cumulative alphas of each row, [R]: min(snr, gamma) in units of the x0 loss."""
    snr = alphas / (1 - alphas)
    clipped = snr.clamp(max=gamma)
    return clipped / snr if prediction_type == "epsilon" else clipped / (snr + 1)


def condition_similarity(features: Tensor, mask: Tensor) -> Tensor:
    """What Eq. 2 says of one block, for all pairs of conditions at once: M * ReLU(cos(A_i,a, A_j,b)).

    The paper gives no reduction. Here the cosine is along channels, position by position; it is averaged over the positions under the mask
    and over all pairs (i, j) of rows of the same image, so that lambda does not depend on resolution or batch size.

    Args:
        features: branch-summed attention output, [4 G K, L, C].
        mask: face mask at this block's resolution, [G, L], in 0..1. An image with an empty mask counts as similarity 0.

    Returns:
        [G, 4, 4], computed in fp32 under autocast, too.
    """
    g = len(mask)
    with torch.autocast(features.device.type, enabled=False):  # which would take the products and the sum over the mask to bf16
        unit = normalize(features.float(), dim=-1).unflatten(0, (4, g, -1))
        rows = unit.permute(1, 3, 0, 2, 4).flatten(2, 3)  # [G, L, 4 K, C]
        positive = (rows @ rows.mT).relu()  # [G, L, 4 K, 4 K]
        weights = mask.float() / mask.float().sum(1, keepdim=True).clamp(min=1e-6)
        under_mask = torch.einsum("gl,glij->gij", weights, positive)
        return under_mask.unflatten(2, (4, -1)).unflatten(1, (4, -1)).mean((2, 4))


def attention_disentanglement_loss(similarity: Tensor, counted: Tensor | None = None, count: Tensor | None = None) -> Tensor:
    """Eq. 3: the five pairs, for similarities [G, 4, 4] that have been averaged over the blocks (the expectation of Eq. 2).

    Args:
        counted: [G], 0 for images that are left out (their ID rows have lost the identity). The loss is the mean over the others.
        count: what their sum is divided by, where these images are a part of a step: the number of counted images in a part, on average. So the
            mean over the parts is the mean over all counted images, however they are shared out. None: the images counted here.
    """
    each = sum(similarity[:, a, b] for a, b in PAIRS)
    if counted is None:
        return each.mean()
    return (each * counted).sum() / (counted.sum().clamp(min=1) if count is None else count)


def total_loss(diffusion: Tensor, disentanglement: Tensor, weight: float) -> Tensor:
    """Eq. 5, with the paper's lambda_AD = 5e-4 as the usual weight."""
    return diffusion + weight * disentanglement


class SimilarityOverBlocks:
    """Sums condition_similarity inside the blocks, as they are computed, so that no block's features have to be kept.

    It is handed to the attention processors as `watch`; resolution is known by the number of positions.

    Args:
        masks: face masks [G, h, w] in 0..1 at the latents' resolution.
        learned: False measures it without a gradient, which costs no memory.
    """

    def __init__(self, masks: Tensor, learned: bool = True) -> None:
        self.masks, self.learned = masks, learned
        self.sum: Tensor | None = None
        self.blocks = 0

    def __call__(self, features: Tensor) -> None:
        side = round(features.shape[1] ** 0.5)
        with torch.autocast(features.device.type, enabled=False):
            mask = adaptive_avg_pool2d(self.masks[:, None].float(), side).flatten(1)
        similarity = condition_similarity(features if self.learned else features.detach(), mask)
        self.sum = similarity if self.sum is None else self.sum + similarity
        self.blocks += 1

    def mean(self) -> Tensor:
        """[G, 4, 4], averaged over the blocks: the expectation over n of Eq. 2."""
        assert self.sum is not None, "no block has been computed"
        return self.sum / self.blocks
