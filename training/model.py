"""The network in training: a base with an adapter, and how the rows of a batch share images.

Shapes: R rows, G images. Rows may be more than images: the joint stage shows each image several times, under four conditions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facecrafter_core.control.adapter import FaceCrafterAdapter
from facecrafter_core.control.branches import BranchInput
from facecrafter_core.diffusion.families import Family
from facecrafter_core.diffusion.identity_tokens import encode_identity_tokens, encode_no_identity
from facecrafter_core.diffusion.processors import install_branches
from training.losses import SimilarityOverBlocks


@dataclass(frozen=True)
class Rows:
    """Which rows of a batch have which branch; everything else is cut off there.

    Attributes:
        landmark, emotion: the rows with that branch.
        replicas: how often an image follows itself; rows are ordered condition by condition, image by image, replica by replica.
    """

    landmark: slice
    emotion: slice
    replicas: int = 1

    @classmethod
    def mixed(cls, images: int, replicas: int) -> Rows:
        """Intra-batch mixed conditioning: each image `replicas` times under each of the four conditions of training.losses."""
        quarter = images * replicas
        return cls(slice(quarter, 3 * quarter), slice(2 * quarter, 4 * quarter), replicas)


def spread(values: Tensor, rows: int, replicas: int = 1) -> Tensor:
    """One entry an image [G, ...] -> one a row [R, ...]: conditions x images x replicas. With R == G, the values themselves."""
    if len(values) == rows:
        return values
    conditions = rows // (len(values) * replicas)
    return values[None, :, None].expand(conditions, -1, replicas, *values.shape[1:]).flatten(0, 2)


class ControlledModel(nn.Module):
    """UNet, identity-token text encoder and adapter. What trains is a matter of requires_grad.

    Args:
        compile_unet: compile denoiser and control modules as one graph; shapes must then stay the same.
        base: fingerprint of UNet and text encoder as they were before this training, for its checkpoints.
    """

    def __init__(
        self, unet: nn.Module, text_encoder: nn.Module, adapter: FaceCrafterAdapter, family: Family, compile_unet: bool = False, base: str = ""
    ) -> None:
        super().__init__()
        install_branches(unet)
        self.unet, self.text_encoder, self.adapter, self.family, self.base = unet, text_encoder, adapter, family, base
        # Left to itself, the compiler gives up channels-last for a whole training graph that has a convolution to half as many channels.
        options = {"force_layout_optimization": True}
        self.predict = torch.compile(self._predict, dynamic=False, options=options) if compile_unet else self._predict

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        identities: Tensor,
        keep_identity: Tensor | None,
        drawings: Tensor | None,
        emotions: Tensor | None,
        rows: Rows,
        masks: Tensor | None = None,
        learned: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """One training prediction.

        Args:
            noisy: latents [R, 4, h, w]. timesteps: [R].
            identities: unit vectors [G, D]. keep_identity: [R], False for the unconditional; None keeps all.
            drawings: landmark drawings uint8 [., S, S, 3], emotions [., 10]: one an image, or one a row of their branch.
            masks: face masks [G, h, w]; with them, the similarity of Eq. 2 is measured. learned: it has a gradient.

        Returns:
            prediction [R, 4, h, w], and the similarity [G, 4, 4] or None.
        """
        return self.predict(noisy, timesteps, self.context(identities, keep_identity, len(noisy), rows), drawings, emotions, rows, masks, learned)

    def context(self, identities: Tensor, keep_identity: Tensor | None, count: int, rows: Rows) -> Tensor:
        """Identity tokens of each row, [R, 77, width]."""
        context = spread(encode_identity_tokens(self.text_encoder, self.family, identities), count, rows.replicas)
        if keep_identity is None:
            return context
        return torch.where(keep_identity[:, None, None], context, encode_no_identity(self.text_encoder, self.family))

    def _predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        context: Tensor,
        drawings: Tensor | None,
        emotions: Tensor | None,
        rows: Rows,
        masks: Tensor | None = None,
        learned: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        branches = []
        if drawings is not None:
            tokens = self.adapter.landmark(drawings.permute(0, 3, 1, 2).float() / 255)
            branches.append(_branch(self.adapter.landmark_branch.project(tokens), rows.landmark, rows.replicas))
        if emotions is not None:
            tokens = self.adapter.emotion(emotions)
            branches.append(_branch(self.adapter.emotion_branch.project(tokens), rows.emotion, rows.replicas))
        watch = None if masks is None else SimilarityOverBlocks(masks, learned)
        layers = [list(layer) for layer in zip(*branches, strict=True)] or None
        kwargs = {"branches": layers, "watch": watch}
        found = self.unet(noisy, timesteps, context, cross_attention_kwargs=kwargs, return_dict=False)[0]
        return found, None if watch is None else watch.mean()


def _branch(projected: list[tuple[Tensor, Tensor]], rows: slice, replicas: int) -> list[BranchInput]:
    count = rows.stop - rows.start
    on = projected[0][1].new_ones(count, 1, 1)
    return [BranchInput(spread(key, count, replicas), spread(value, count, replicas), on, rows) for key, value in projected]
