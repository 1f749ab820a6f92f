"""What a run says of itself: log lines, curves, held-out losses, sheets of samples."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stage_world import ROOT, losses

from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from training import report
from training.config import ConfigError, JointConfig, PretrainConfig
from training.estimate import Estimate
from training.logs import Log
from training.loop import World
from training.pretrain import train as pretrain
from training.stage import open_data, prepare_model


class Wandb(types.ModuleType):
    """W&B's module and a run of it: remembers what it is given."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.logged: dict[str, object] = {}
        self.settings: list[dict[str, object]] = []

    def init(self, **settings: object) -> Wandb:
        self.settings.append(settings)
        return self

    def log(self, values: dict[str, object], step: int) -> None:
        self.logged |= values

    def Image(self, picture: np.ndarray) -> tuple[int, ...]:
        return picture.shape

    def finish(self) -> None:
        pass


def test_held_out_losses_and_samples_are_shown(
    pretraining: PretrainConfig, short_report: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "wandb", wandb := Wandb())
    pretrain(replace(pretraining, data=short_report, base=str(ROOT / "demo"), steps=1, wandb="faces"))
    table = capsys.readouterr().out
    assert [row in table for row in ("  none ", "  ID ", "  ID + LMK ", "  ID + EMO ")] == [True, True, True, False]
    sheet = np.asarray(Image.open(pretraining.out / "sheets/step_00000001.jpg"))
    assert sheet.shape[:2] == (2 * 256, 4 * 256) and sheet.std() > 10
    held_out = json.loads((pretraining.out / "held_out.jsonl").read_text())
    assert held_out["step"] == 1 and f"{held_out['ID + LMK/250']:9.4f}" in table
    assert wandb.logged["samples"] == sheet.shape and wandb.logged["held out/ID + LMK/250"] == held_out["ID + LMK/250"] and "norm" in wandb.logged


def test_runs_of_one_name_are_told_apart_by_their_folders(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := Wandb())
    for seed in ("seed0", "seed1", "seed1"):
        Log(replace(pretraining, out=pretraining.out / seed / "joint", wandb="faces"), World(), 4, 4, 0)
    assert [s["name"] for s in wandb.settings] == ["seed0/joint", "seed1/joint", "seed1/joint"]
    first, second, again = (s["id"] for s in wandb.settings)
    assert first != second == again
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="--wandb needs the package wandb, which is not installed: pip install wandb"):
        Log(replace(pretraining, wandb="faces"), World(), 4, 4, 0)


def test_the_share_of_the_gpus_arithmetic_is_logged_where_its_peak_is_known(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    for module in ("estimate", "logs"):
        monkeypatch.setattr(f"training.{module}.peak_tflops", lambda device: 2.0)
    monkeypatch.setattr("training.estimate.micro_batch", lambda model, rows, count, disentangle: Estimate(count * 10**9, 0, 0, 0))
    pretrain(replace(pretraining, batch=2, accumulate=2, steps=2))
    last = json.loads((pretraining.out / "log.jsonl").read_text().splitlines()[-1])
    assert last["mfu"] == pytest.approx(last["images/s"] * 10**9 / 2e12, rel=1e-6) and last["mfu"] > 0


def test_samples_are_made_with_a_bf16_denoiser_beside_fp32_modules(joint: JointConfig, short_report: Path, monkeypatch: pytest.MonkeyPatch):
    def in_fp32(self: FaceCrafterPipeline, latents: torch.Tensor, decode=FaceCrafterPipeline._decode) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):  # in bf16, a CPU without such instructions takes minutes for it
            return decode(self, latents.float())

    monkeypatch.setattr(FaceCrafterPipeline, "_decode", in_fp32)
    config = replace(joint, data=short_report, base=str(ROOT / "demo"))
    world = World()
    model = prepare_model(config, world, landmark=True, emotion=True, text_encoder=True)
    model.unet.to(torch.bfloat16)  # as on a GPU
    rows = report.Report(open_data(config)[1], ROOT / "demo", config.out, world.device, steps=1).sheet(model)
    assert np.stack([np.stack(row) for row in rows]).std() > 0.04
    assert {p.dtype for p in model.adapter.parameters()} == {torch.float32}  # the next step trains them


def test_sheets_lines_and_checkpoints_are_switched_off_by_0(pretraining: PretrainConfig, short_report: Path):
    pretrain(replace(pretraining, data=short_report, base=str(ROOT / "demo"), steps=2, log_every=0, sample_every=0, save_every=0))
    assert list(losses(pretraining.out)) == [2] and not (pretraining.out / "sheets").exists()
    assert [p.name for p in (pretraining.out / "checkpoints").iterdir()] == ["step_00000002.pt"]
    with pytest.raises(ConfigError, match="Expected at least 0 for --save-every, found -1"):
        replace(pretraining, save_every=-1)
