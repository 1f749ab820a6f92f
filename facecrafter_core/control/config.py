"""Sizes of the control modules and of the cross-attention layers that they feed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

# The 16 cross-attention layers of the SD 1.5 topology, by diffusers module path, in the order the network runs them.
# Everything that is "per layer" in this package is a list in this order.
CROSS_ATTENTION_LAYERS: tuple[str, ...] = (
    *(f"down_blocks.{b}.attentions.{i}" for b in range(3) for i in range(2)),
    "mid_block.attentions.0",
    *(f"up_blocks.{b}.attentions.{i}" for b in range(1, 4) for i in range(3)),
)


def layer_widths(block_channels: tuple[int, int, int, int]) -> tuple[int, ...]:
    """Inner width of each of the 16 cross-attention layers, for the four block widths of a UNet."""
    c0, c1, c2, c3 = block_channels
    return (c0, c0, c1, c1, c2, c2, c3, c2, c2, c2, c1, c1, c1, c0, c0, c0)


@dataclass(frozen=True)
class ControlConfig:
    """Sizes of one adapter; stored in the adapter file.

    Attributes:
        family: base family that the adapter was made for ("full" or "demo").
        picture_size: side of the landmark drawing that the landmark module reads, in pixels.
        landmark_channels: output channels of its 3x3 convolutions.
        landmark_strides: stride of each of them; the last feature map, flattened, is the token sequence.
        landmark_width: width of a landmark token (the last entry of `landmark_channels`).
        emotion_hidden: hidden widths of the emotion module's layers.
        emotion_tokens, emotion_width: its output, reshaped to a sequence.
        layer_widths: inner width of the 16 cross-attention layers (see CROSS_ATTENTION_LAYERS).
        landmark_style: version of the drawing (facecrafter_core.faces.drawing).
    """

    family: str
    picture_size: int
    landmark_channels: tuple[int, ...]
    landmark_strides: tuple[int, ...]
    emotion_hidden: tuple[int, ...]
    emotion_tokens: int
    emotion_width: int
    layer_widths: tuple[int, ...]
    landmark_style: int = 1

    def __post_init__(self) -> None:
        if len(self.landmark_channels) != len(self.landmark_strides):
            raise ValueError(
                f"landmark_channels and landmark_strides must have one entry a layer, found "
                f"{len(self.landmark_channels)} and {len(self.landmark_strides)}."
            )
        if len(self.layer_widths) != len(CROSS_ATTENTION_LAYERS):
            raise ValueError(f"layer_widths must have {len(CROSS_ATTENTION_LAYERS)} entries, found {len(self.layer_widths)}.")

    @property
    def landmark_width(self) -> int:
        return self.landmark_channels[-1]

    @property
    def landmark_grid(self) -> int:
        """Side of the landmark token grid (tokens = grid x grid)."""
        grid = self.picture_size
        for stride in self.landmark_strides:
            grid //= stride
        return grid

    def to_dict(self) -> dict[str, Any]:
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ControlConfig:
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        missing = sorted(f.name for f in fields(cls) if f.name not in values and f.name != "landmark_style")
        if unknown or missing:
            raise ValueError(f"The control configuration has unknown entries {unknown} and lacks {missing}.")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


# 11.65M parameters with landmarks, 17.93M with both (projections included); the paper has 11.7M and 18M (Table 1).
FULL = ControlConfig(
    family="full",
    picture_size=512,
    landmark_channels=(32, 64, 128, 128, 256, 512, 512, 256),
    landmark_strides=(2, 2, 2, 1, 2, 2, 1, 1),
    emotion_hidden=(384, 768),
    emotion_tokens=8,
    emotion_width=192,
    layer_widths=layer_widths((320, 640, 1280, 1280)),
)

DEMO = ControlConfig(
    family="demo",
    picture_size=256,
    landmark_channels=(16, 32, 64, 64, 128, 128, 128),
    landmark_strides=(2, 2, 2, 1, 2, 1, 1),
    emotion_hidden=(64, 128),
    emotion_tokens=8,
    emotion_width=64,
    layer_widths=layer_widths((64, 128, 128, 64)),
)

PRESETS: dict[str, ControlConfig] = {"full": FULL, "demo": DEMO}
