"""Sizes of the photographic demo: SD 1.5's topology over latents of 16 channels and a sixteenth of the picture's side.

It takes the rendered demo's place in facecrafter_core.diffusion.families when its training is done.
"""

from __future__ import annotations

from facecrafter_core.control.config import ControlConfig, layer_widths
from facecrafter_core.diffusion.families import DEMO, Family

WIDTHS = (64, 192, 256, 256)
LATENT_CHANNELS = 16
LATENT_SIDE = 32
CONTEXT = 192

PHOTO = Family(
    name="photo",
    image_size=512,
    identity_dim=128,
    prompt=DEMO.prompt,
    identity_token=DEMO.identity_token,
    start_token=DEMO.start_token,
    end_token=DEMO.end_token,
    text_encoder={**DEMO.text_encoder, "hidden_size": CONTEXT, "intermediate_size": 4 * CONTEXT, "num_attention_heads": 6},
    unet={
        "sample_size": LATENT_SIDE,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "block_out_channels": WIDTHS,
        "cross_attention_dim": CONTEXT,
        "attention_head_dim": tuple(width // 32 for width in WIDTHS),  # diffusers' name for the number of heads
    },
    scheduler=DEMO.scheduler,
)

CONTROL = ControlConfig(
    family="photo",
    picture_size=256,
    landmark_channels=(16, 32, 64, 64, 128, 128, 128),
    landmark_strides=(2, 2, 2, 1, 2, 1, 1),
    emotion_hidden=(64, 128),
    emotion_tokens=8,
    emotion_width=64,
    layer_widths=layer_widths(WIDTHS),
)
