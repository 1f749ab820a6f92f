"""Guidance rows through the UNet of SD 1.5's topology, computing what they have in common once.

Rows of a picture have the same latents and differ in what the cross-attention layers read: up to the first of these they are equal. What
lies before it, a convolution block and a self-attention at the full size of the latents, is computed for the picture and not for each row.
What depends on the time alone is computed for all steps of a run at once.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn


class SharedTimeBlock(ResnetBlock2D):
    """A residual block that can take its columns of what project_time has made for all blocks, in the place of the time embedding."""

    columns: slice

    def forward(self, input_tensor: Tensor, temb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if temb.shape[-1] == self.time_emb_proj.in_features:
            return super().forward(input_tensor, temb, *args, **kwargs)
        hidden = self.conv1(self.nonlinearity(self.norm1(input_tensor))) + temb[:, self.columns, None, None]
        hidden = self.conv2(self.dropout(self.nonlinearity(self.norm2(hidden))))
        skip = input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)
        return (skip + hidden) / self.output_scale_factor


def share_time(unet: nn.Module) -> None:
    """Lets project_time make what all residual blocks add for the time; nothing where the blocks are not SD 1.5's."""
    blocks, start = _residual_blocks(unet), 0
    if all(type(b) is ResnetBlock2D and b.time_embedding_norm == "default" and b.upsample is None and b.downsample is None for b in blocks):
        for block in blocks:
            width = block.time_emb_proj.out_features
            block.__class__, block.columns = SharedTimeBlock, slice(start, start + width)
            start += width


def project_time(unet: nn.Module, timesteps: Tensor) -> Tensor:
    """timesteps [N] -> what forward_rows reads in each of N steps, [N, .]: static over a run, so made once.

    The time embedding; after share_time, its projections in all residual blocks side by side.
    """
    time = unet.time_embedding(unet.time_proj(timesteps).to(unet.dtype))
    blocks = _residual_blocks(unet)
    if all(isinstance(block, SharedTimeBlock) for block in blocks):
        return torch.cat([block.time_emb_proj(block.nonlinearity(time)) for block in blocks], dim=1)
    return time


def forward_rows(unet: nn.Module, latents: Tensor, time: Tensor, context: Tensor, attention: dict[str, Any]) -> Tensor:
    """The same numbers as `unet(torch.cat([latents] * rows), timestep, context, attention)`, with less work.

    Args:
        latents: [B, 4, h, w]. time: the timestep's row of project_time, [1, .].
        context: [rows x B, 77, width], row by row.
        attention: keyword arguments of the attention processors.

    Returns:
        [rows x B, 4, h, w].
    """
    rows = len(context) // len(latents)
    more = {"encoder_hidden_states": context, "cross_attention_kwargs": attention}
    hidden = unet.conv_in(latents)
    skips = [hidden.repeat(rows, 1, 1, 1)]
    for number, block in enumerate(unet.down_blocks):
        if number == 0:
            hidden, found = _first_block(block, hidden, time, rows, more)
        else:
            hidden, found = block(hidden_states=hidden, temb=time, **_for(block, more))
        skips += found
    hidden = unet.mid_block(hidden, time, **more)
    for block in unet.up_blocks:
        count = len(block.resnets)
        skips, taken = skips[:-count], tuple(skips[-count:])
        hidden = block(hidden_states=hidden, temb=time, res_hidden_states_tuple=taken, **_for(block, more))
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))


def must_be_called_whole(unet: nn.Module) -> bool:
    """Whether calls of the UNet go through something else (hooks, offloading, caches, its own compile()), or its parts are not SD 1.5's."""
    wrapped = "forward" in vars(unet) or getattr(unet, "_compiled_call_impl", None) is not None
    hooked = bool(unet._forward_pre_hooks or unet._forward_hooks)
    return wrapped or hooked or not isinstance(unet, UNet2DConditionModel) or bool(unet.config.use_linear_projection)


def _residual_blocks(unet: nn.Module) -> list[ResnetBlock2D]:
    return [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]


def _for(block: nn.Module, more: dict[str, Any]) -> dict[str, Any]:
    return more if getattr(block, "has_cross_attention", False) else {}


def _first_block(block: nn.Module, hidden: Tensor, time: Tensor, rows: int, more: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    """CrossAttnDownBlock2D whose first transformer becomes rows in the middle: hidden [B, ...] -> [rows x B, ...], and its skips."""
    hidden = _first_transformer(block.attentions[0], block.resnets[0](hidden, time), rows, more)
    skips = [hidden]
    for resnet, attention in zip(block.resnets[1:], block.attentions[1:], strict=True):
        hidden = attention(resnet(hidden, time), return_dict=False, **more)[0]
        skips.append(hidden)
    for sampler in block.downsamplers:
        hidden = sampler(hidden)
        skips.append(hidden)
    return hidden, skips


def _first_transformer(transformer: nn.Module, picture: Tensor, rows: int, more: dict[str, Any]) -> Tensor:
    """Transformer2DModel of one block: picture [B, C, h, w] -> [rows x B, C, h, w]; self-attention before, cross-attention after the rows part."""
    (block,) = transformer.transformer_blocks
    batch, _, height, width = picture.shape
    hidden = transformer.proj_in(transformer.norm(picture)).permute(0, 2, 3, 1).flatten(1, 2)
    hidden = block.attn1(block.norm1(hidden)) + hidden
    hidden = hidden.repeat(rows, 1, 1)
    hidden = block.attn2(block.norm2(hidden), encoder_hidden_states=more["encoder_hidden_states"], **more["cross_attention_kwargs"]) + hidden
    hidden = block.ff(block.norm3(hidden)) + hidden
    hidden = transformer.proj_out(hidden.unflatten(1, (height, width)).permute(0, 3, 1, 2).contiguous())
    return hidden + picture.repeat(rows, 1, 1, 1)
