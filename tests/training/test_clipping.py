"""The gradient that an optimiser applies is never longer than the largest norm that is allowed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stage_world import norms
from torch.optim.optimizer import register_optimizer_step_pre_hook

from training import train_autoencoder, train_base
from training.config import JointConfig, PretrainConfig
from training.data import Faces
from training.pretrain import train as pretrain
from training.train_joint import train as train_joint


@pytest.fixture
def applied() -> Iterator[list[float]]:
    """Norm of the gradient of each step that an optimiser takes."""
    found: list[float] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        found.append(torch.nn.utils.get_total_norm(gradients).item())

    hook = register_optimizer_step_pre_hook(look)
    yield found
    hook.remove()


@pytest.mark.parametrize("stage", ["pretraining", "joint"])
def test_a_stage_clips_its_gradients(stage: str, applied: list[float], request: pytest.FixtureRequest):
    config: PretrainConfig | JointConfig = replace(request.getfixturevalue(stage), steps=2, clip=1e-3)
    {"pretraining": pretrain, "joint": train_joint}[stage](config)
    assert len(applied) == 2 and max(applied) <= 1e-3 * 1.001
    assert min(norms(config.out).values()) > 1e-3  # logged as it was


def test_the_base_clips_its_gradients(prepared_folder: Path, tmp_path: Path, applied: list[float], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train_base, "Report", lambda *_: lambda model, done: None)
    monkeypatch.setattr(train_base, "CLIP", 1e-3)
    arguments = {"data": prepared_folder, "models": tmp_path, "out": tmp_path, "batch": 5, "steps": 1}
    monkeypatch.setattr(sys, "argv", ["train_base", *(part for name, value in arguments.items() for part in (f"--{name}", str(value)))])
    train_base.main()
    assert applied == [pytest.approx(1e-3, rel=1e-3)]


def test_the_autoencoder_clips_its_gradients(tmp_path: Path, applied: list[float], monkeypatch: pytest.MonkeyPatch):
    people = np.r_[np.full(16, 200), np.full(2, 400)]
    pictures = np.random.default_rng(0).integers(0, 255, (len(people), 64, 64, 3), np.uint8)
    faces = Faces(pictures, np.zeros((len(people), 478, 3)), np.zeros((len(people), 52)), {}, people)
    monkeypatch.setattr(train_autoencoder, "load_faces", lambda folder: faces)
    monkeypatch.setattr(train_autoencoder, "CLIP", 1e-3)
    monkeypatch.setattr(sys, "argv", ["train_autoencoder", "--data", "faces", "--out", str(tmp_path), "--steps", "1", "--batch", "2"])
    train_autoencoder.main()
    assert applied == [pytest.approx(1e-3, rel=1e-3)] and (tmp_path / "vae/config.json").is_file()
