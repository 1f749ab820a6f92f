"""Every shipped preset and the base: stopped two steps after the warm-up, a run goes on bit for bit and can be exported."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stage_world import ROOT, losses, weights

from facecrafter_core.control.adapter import load_adapter
from training import train_base
from training.checkpoints import Checkpoints
from training.config import PRESETS, JointConfig, PretrainConfig, from_yaml
from training.export import export
from training.pretrain import train as pretrain
from training.train_joint import train as train_joint

WARMUP, STOP, STEPS = 1, 3, 4
STAGES = {"pretrain": (PretrainConfig, pretrain, {"batch": 4}), "joint": (JointConfig, train_joint, {"images_per_batch": 2, "replicas": 4})}


class Stopped(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, step: int) -> None:
    """`name` saves what so many steps have made; after that, the run ends as if it had been killed."""
    save = getattr(owner, name)

    def saves(*arguments: object, **named: object) -> object:
        done = save(*arguments, **named)
        if step in (*arguments, *named.values()):
            raise Stopped
        return done

    monkeypatch.setattr(owner, name, saves)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_a_preset_stopped_after_its_warmup_goes_on_bit_for_bit_and_is_exported(preset: str, prepared_folder: Path, tmp_path: Path):
    kind, train, small = next(stage for name, stage in STAGES.items() if preset.endswith(name))
    quick = {"data": prepared_folder, "base": "random", "family": "demo", "device": "cpu", "workers": 0, "warmup": WARMUP, "steps": STEPS, "save_every": 1, "log_every": 1}
    config = replace(from_yaml(kind, preset), **quick, **small, out=tmp_path / "whole")
    train(config)
    parts = replace(config, out=tmp_path / "parts")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, Checkpoints, "save", STOP)
        train(parts)
    train(parts)
    assert losses(parts.out) == losses(config.out) and list(losses(parts.out)) == [1, 2, 3, 4]
    assert all(torch.equal(a, b) for a, b in zip(weights(parts.out).values(), weights(config.out).values(), strict=True))
    assert load_adapter(export(parts.out, tmp_path / "hub", "mit", base="random") / "adapter.safetensors").landmark is not None


def base_arguments(data: Path, out: Path, **settings: object) -> list[str]:
    given = {"data": data, "models": ROOT / "demo", "out": out, "batch": 5, "warmup": WARMUP, "steps": STEPS, "report-every": STOP, **settings}
    return ["train_base", *(part for name, value in given.items() for part in (f"--{name}", str(value)))]


def test_the_base_stopped_after_its_warmup_goes_on_bit_for_bit(prepared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train_base, "Report", lambda *_: lambda model, done: None)  # sheets take minutes
    for name in ("whole", "parts"):
        monkeypatch.setattr(sys, "argv", base_arguments(prepared_folder, tmp_path / name))
        if name == "parts":
            with monkeypatch.context() as patch, pytest.raises(Stopped):
                stop_after(patch, train_base, "save_checkpoint", STOP)
                train_base.main()
        train_base.main()
    whole, parts = (torch.load(tmp_path / name / "checkpoints/base.pt", weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == STEPS
    assert all(torch.equal(whole["model"][k], parts["model"][k]) for k in whole["model"])
    assert all(torch.equal(a, b) for a, b in zip(whole["average"], parts["average"], strict=True))
    assert all((tmp_path / "parts" / name).is_file() for name in ("unet/config.json", "text_encoder/model.safetensors", "scheduler/scheduler_config.json"))
    assert not list((tmp_path / "parts").glob(".*"))


@pytest.mark.parametrize(("setting", "value", "sentence"), [
    ("learning-rate", "nan", "expected more than 0 and at most 1, found nan"),
    ("drop-identity", "2", "expected from 0 to 1, found 2"),
    ("timestep-power", "0", "expected from 0.01 to 100, found 0"),
    ("batch", "0", "expected at least 1, found 0"),
    ("minutes", "-1", "expected more than 0, found -1"),
])  # fmt: skip
def test_numbers_of_the_base_have_ranges(setting: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(sys, "argv", base_arguments(Path("nowhere"), Path("nowhere"), **{setting: value}))
    with pytest.raises(SystemExit):
        train_base.main()
    assert f"argument --{setting}: {sentence}" in capsys.readouterr().err


def test_a_damaged_checkpoint_of_the_base_is_one_sentence(prepared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run/checkpoints/base.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    monkeypatch.setattr(sys, "argv", base_arguments(prepared_folder, tmp_path / "run"))
    with pytest.raises(SystemExit, match="error: .*base.pt is missing, cut or damaged. .* begin again with another --out. The cause: "):
        train_base.main()
