"""Runs that stop, are killed or go wrong: what is kept, and how they go on."""

from __future__ import annotations

import copy
import errno
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from stage_world import ROOT, SEPARATE, arguments_of, losses, run, weights
from world import make_prepared

from facecrafter_core.errors import OutputError
from training.config import ConfigError, JointConfig, PretrainConfig
from training.loop import World
from training.pretrain import train as pretrain
from training.stage import Stage
from training.train_joint import train as train_joint


@pytest.mark.parametrize("stage", ["pretraining", "joint"])
def test_a_stopped_run_goes_on_bit_for_bit(stage: str, request: pytest.FixtureRequest):
    config, train = request.getfixturevalue(stage), {"pretraining": pretrain, "joint": train_joint}[stage]
    whole = replace(config, out=config.out / "whole")
    parts = replace(config, out=config.out / "parts")
    train(whole)
    train(replace(parts, steps=2))
    train(parts)
    assert losses(parts.out) == losses(whole.out)
    assert all(torch.equal(a, b) for a, b in zip(weights(parts.out).values(), weights(whole.out).values(), strict=True))


def test_a_run_killed_before_its_export_exports_when_it_is_started_again(joint: JointConfig, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr("training.stage.save_adapter", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_joint(replace(joint, steps=2))
    assert not (joint.out / "adapter.safetensors").exists()
    train_joint(replace(joint, steps=2))
    assert all((joint.out / name).is_file() for name in ("adapter.safetensors", "text_encoder/model.safetensors", "text_encoder/config.json", "settings.json"))
    with pytest.raises(ConfigError, match="has done 2 steps, more than --steps 1"):
        train_joint(replace(joint, steps=1))


def test_a_run_goes_on_with_the_images_and_the_base_it_began_with(pretraining: PretrainConfig, tmp_path: Path):
    pretrain(replace(pretraining, steps=1))
    others = {
        "fingerprint of --data": {"data": make_prepared(tmp_path / "other", people=5)},
        "fingerprint of --base": {"base": str(ROOT / "demo")},
    }
    for name, change in others.items():
        with pytest.raises(ConfigError, match=f"was made with {name} = "):
            pretrain(replace(pretraining, **change))
    moved = shutil.copytree(pretraining.data, tmp_path / "moved")
    pretrain(replace(pretraining, data=moved, steps=2))
    assert sorted(losses(pretraining.out)) == [1, 2]


def test_a_run_killed_while_it_saves_goes_on_bit_for_bit(prepared_folder: Path, tmp_path: Path):
    whole, killed = (arguments_of("pretrain", data=prepared_folder, out=tmp_path / name, batch=4, steps=6, save_every=1) for name in ("whole", "killed"))
    run(whole)
    folder = tmp_path / "killed/checkpoints"
    process = subprocess.Popen(killed, cwd=ROOT, env=SEPARATE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while process.poll() is None and time.time() < deadline:
        if list(folder.glob("step_*.pt")) and list(folder.glob(".step_*.part*")):
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.001)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed while saving"
    run(killed)
    assert not list(folder.glob(".*")) and losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_once_there_is_space(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    def full(state: dict, file: BinaryIO, save=torch.save) -> None:
        if state["step"] == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(state, file)

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="Could not write .*step_00000004.pt: No space left on device"):
        patch.setattr(torch, "save", full)
        pretrain(pretraining)
    assert [p.name for p in (pretraining.out / "checkpoints").iterdir()] == ["step_00000002.pt"]
    pretrain(pretraining)
    assert sorted(losses(pretraining.out)) == [1, 2, 3, 4] and (pretraining.out / "adapter.safetensors").is_file()


def test_a_loss_that_is_not_finite_stops_and_names_the_last_good_checkpoint(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    import training.pretrain as module

    original, calls = module.diffusion_loss, []

    def spoiled(*args):
        calls.append(1)
        return original(*args) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(module, "diffusion_loss", spoiled)
    with pytest.raises(SystemExit, match="The loss is nan in the steps before 4. The last good checkpoint is .*step_00000002.pt"):
        pretrain(replace(pretraining, steps=6, log_every=5))
    assert not (pretraining.out / "adapter.safetensors").exists()


def test_weights_that_a_gradient_spoiled_are_not_saved(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    import training.pretrain as module

    original, calls = module.diffusion_loss, []

    def spoiled(predicted, *args):
        calls.append(1)
        endless = (predicted * 0).square().sum().sqrt()  # 0, with a gradient that is not finite
        return original(predicted, *args) + (endless if len(calls) == 4 else 0)

    monkeypatch.setattr(module, "diffusion_loss", spoiled)
    with pytest.raises(SystemExit, match="The gradient's norm is nan at step 4. The last good checkpoint is .*step_00000002.pt"):
        pretrain(pretraining)
    assert [p.name for p in (pretraining.out / "checkpoints").iterdir()] == ["step_00000002.pt"]


def test_a_diverging_loss_stops(pretraining: PretrainConfig):
    with pytest.raises(SystemExit, match="The loss rose to"):
        pretrain(replace(pretraining, diverged=0.5))


def test_old_checkpoints_go_except_those_to_keep(pretraining: PretrainConfig):
    pretrain(replace(pretraining, steps=6, save_every=1, keep_last=1, keep_every=4))
    assert [p.name for p in sorted((pretraining.out / "checkpoints").iterdir())] == ["step_00000004.pt", "step_00000006.pt"]


def test_a_checkpoint_of_other_settings_is_refused(pretraining: PretrainConfig):
    pretrain(replace(pretraining, steps=1))
    with pytest.raises(ConfigError, match="was made with weight_decay = 0.01, this run has 0.1"):
        pretrain(replace(pretraining, weight_decay=0.1))
    with pytest.raises(ConfigError, match="was made with images a step = 4, this run has 2"):
        pretrain(replace(pretraining, batch=2))


def test_a_run_goes_on_with_another_learning_rate_and_smaller_micro_batches(pretraining: PretrainConfig, capsys: pytest.CaptureFixture):
    pretrain(replace(pretraining, steps=1))
    pretrain(replace(pretraining, steps=2, learning_rate=5e-4, batch=2, accumulate=2))
    printed = capsys.readouterr().out
    for note in ("learning_rate was 0.001 until there, and is 0.0005", "batch was 4 until there, and is 2", "accumulate was 1 until there, and is 2"):
        assert note in printed


def test_a_damaged_checkpoint_is_named_with_the_whole_one_before_it(pretraining: PretrainConfig, tmp_path: Path):
    from training.export import export

    pretrain(replace(pretraining, steps=2, save_every=1))
    older, newest = sorted((pretraining.out / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    for use in (lambda: pretrain(pretraining), lambda: export(pretraining.out, tmp_path / "hub", "apache-2.0")):
        with pytest.raises(ConfigError, match=f"{newest} is missing, cut or damaged. {older} is whole: remove {newest.name} .* The cause: RuntimeError: PytorchStreamReader"):
            use()
    older.write_bytes(b"")
    with pytest.raises(ConfigError, match="no older one that is whole"):
        pretrain(pretraining)


def test_a_checkpoint_for_which_memory_is_short_is_not_called_damaged(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    pretrain(replace(pretraining, steps=2))
    monkeypatch.setattr("training.checkpoints.load_checkpoint", lambda path: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        pretrain(pretraining)


def test_every_process_names_the_last_good_checkpoint(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    def second(config: PretrainConfig, world: World, *rest: object) -> Stage:
        other = copy.copy(world)
        other.rank = 1
        return Stage(config, other, *rest)

    pretrain(replace(pretraining, steps=1))
    monkeypatch.setattr("training.pretrain.Stage", second)
    with pytest.raises(SystemExit, match="The last good checkpoint is .*step_00000001.pt"):
        pretrain(replace(pretraining, diverged=0.0))
