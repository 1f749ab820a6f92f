"""Sizes of the photographic demo: SD 1.5's topology over latents of 16 channels and a sixteenth of the picture's side.

It takes the rendered demo's place in facecrafter_core.diffusion.families when its training is done.
"""

from __future__ import annotations

from dataclasses import replace

from facecrafter_core.control.config import DEMO as DEMO_CONTROL
from facecrafter_core.control.config import layer_widths
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

CONTROL = replace(DEMO_CONTROL, family="photo", layer_widths=layer_widths(WIDTHS))
