"""The photographic demo's base trains on people that are made in memory, and goes on from what it wrote."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from facecrafter_core.control.config import layer_widths
from facecrafter_core.faces.edit import neutral_landmarks
from training.people import base
from training.people.people import REASONS, Found

SIDE = 8


class Pooling(nn.Module):
    """Of an autoencoder: colours, pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.AvgPool2d(16), nn.Conv2d(3, base.LATENT_CHANNELS, 1))
        self.decoder = nn.Sequential(nn.Conv2d(base.LATENT_CHANNELS, 3, 1), nn.Upsample(scale_factor=16))


class StandIn:
    """Of People: three of four pictures a person are kept."""

    @classmethod
    def on(cls, *_: object) -> StandIn:
        return cls()

    def blocks(self, numbers, each):
        for number in numbers:
            rng = torch.Generator().manual_seed(number)
            emotions = torch.rand(3, 10, generator=rng)
            yield Found(
                np.full(3, number), np.arange(3), torch.randint(0, 255, (3, 3, 16 * SIDE, 16 * SIDE), generator=rng, dtype=torch.uint8),
                np.stack([neutral_landmarks()] * 3), np.zeros((3, 52), np.float32), np.zeros((3, 3), np.float32), torch.randn(3, 128, generator=rng),
                emotions / emotions.sum(1, keepdim=True), np.full(3, 40.0), np.full(3, 0.5), Counter({REASONS[0]: each - 3}),
            )  # fmt: skip


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A base of few parameters on small pictures; the command line of a run of two steps."""
    monkeypatch.setattr(base, "CLOCK", 1)
    widths = (32, 32, 32, 32)
    unet = {**base.PHOTO.unet, "block_out_channels": widths, "attention_head_dim": (1, 1, 1, 1), "sample_size": SIDE}
    monkeypatch.setattr(base, "PHOTO", replace(base.PHOTO, unet=unet))
    monkeypatch.setattr(base, "CONTROL", replace(base.CONTROL, layer_widths=layer_widths(widths), picture_size=32))
    monkeypatch.setattr(base, "LATENT_SIDE", SIDE)
    monkeypatch.setattr(base, "People", StandIn)
    monkeypatch.setattr(base, "new_autoencoder", Pooling)
    (tmp_path / "vae").mkdir()
    save_file(Pooling().state_dict(), tmp_path / "vae/diffusion_pytorch_model.safetensors")
    arguments = ["base", "--out", str(tmp_path / "run"), "--autoencoder", str(tmp_path / "vae"), "--minutes", "0.01", "--people", "4", "--held-out", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--batch", "5", "--processes", "1", "--images-per-person", "4"])
    monkeypatch.setattr(base.Report, "__init__", lambda self, *a, of=base.Report.__init__: of(self, *a, people=2, steps=2))
    return tmp_path / "run"


def test_a_run_prints_what_it_was_shown_and_the_held_out_losses_and_goes_on_from_its_weights(small, capsys):
    base.main()
    said = capsys.readouterr().out
    assert "12 pictures of 4 people; dropped {'no face': 4}" in said and "6 pictures of 2 people" in said
    assert "held-out loss at timestep" in said and "ID + LMK + EMO" in said
    assert (small / "sheets/base.jpg").is_file()
    weights = load_file(small / "base.safetensors")
    assert all(torch.isfinite(w).all() for w in weights.values())
    sys.argv += ["--init", str(small), "--first", "500"]
    base.main()
    again = load_file(small / "base.safetensors")
    assert set(again) == set(weights) and any((again[k] != weights[k]).any() for k in weights)
