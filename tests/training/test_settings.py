"""What a run is told, by presets and on the command line; what it is refused for; --dry-run."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from facecrafter_core.errors import ModelError, OutputError
from training.config import ConfigError, JointConfig, PretrainConfig, from_yaml, read_config
from training.estimate import micro_batch
from training.loop import World
from training.model import Rows
from training.pairs import PairRules
from training.prepared import PreparedError
from training.pretrain import main as pretrain_command
from training.pretrain import train as pretrain
from training.ranges import Range
from training.stage import command, open_world, prepare_model
from training.train_joint import train as train_joint


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--base", "arc2face"], "error: .*facecrafter assets download sd_vae"),
    (["--base", "random", "--init", "nowhere.safetensors"], "error: There is no adapter file at nowhere.safetensors"),
])  # fmt: skip
def test_a_missing_file_is_one_sentence(pretraining: PretrainConfig, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("facecrafter_core.search.search_folders", lambda: [])
    settings = ["--preset", "demo_pretrain", "--module", "landmark", "--data", str(pretraining.data), "--out", str(pretraining.out)]
    monkeypatch.setattr(sys, "argv", ["pretrain", *settings, *arguments])
    with pytest.raises(SystemExit, match=sentence):
        pretrain_command()


def cuda_out_of_memory() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


MORE_THAN_THERE_IS = 2**60
FULL = {
    "GPU": cuda_out_of_memory,
    "torch": lambda: torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8),
    "NumPy": lambda: np.empty(MORE_THAN_THERE_IS, np.uint8),
}


@pytest.mark.parametrize("memory", FULL)
@pytest.mark.parametrize("stage", ["pretraining", "joint"])
def test_short_memory_is_one_sentence(stage: str, memory: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    config = request.getfixturevalue(stage)

    def full(config: object) -> None:
        FULL[memory]()

    (config.out / "checkpoints").mkdir(parents=True)
    (config.out / "checkpoints/step_00000004.pt").touch()
    monkeypatch.setattr(sys, "argv", ["stage", "--data", str(config.data), "--base", "random", "--out", str(config.out)])
    size = {"pretraining": "--batch", "joint": "--images-per-batch"}[stage]
    whose = "GPU" if memory == "GPU" else "computer"
    with pytest.raises(SystemExit, match=f"error: The {whose}'s memory was short. Halve {size} and double --accumulate.*--gradient-checkpointing.*goes on after .*step_00000004.pt"):
        command(full, type(config), None)


def test_another_error_of_torch_stays_what_it_is(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["stage", "--data", str(pretraining.data), "--base", "random", "--out", str(pretraining.out)])
    with pytest.raises(RuntimeError, match="must match the size"):
        command(lambda config: torch.zeros(2) + torch.zeros(3), PretrainConfig, None)


def test_the_full_family_trains_on_the_cpu_only_if_that_is_asked_for(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="Expected a GPU for the full family"):
        open_world(replace(pretraining, family="full"))
    assert open_world(replace(pretraining, family="full", device="cpu")).device.type == "cpu"
    assert capsys.readouterr().out == "device: CPU, 1 process\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_asked_for_and_missing_is_named(pretraining: PretrainConfig):
    with pytest.raises(ModelError, match="device 'cuda' cannot be used"):
        pretrain(replace(pretraining, device="cuda"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"base": "nowhere"}, ConfigError, "Expected a base at nowhere"),
        ({"data": Path("nowhere")}, PreparedError, "Expected a folder made by training/prepare.py at nowhere"),
        ({"family": "full", "device": "cpu"}, PreparedError, "prepared for the demo family, expected full"),
        ({"init": (Path("nowhere.safetensors"),)}, ValueError, "no adapter file at nowhere"),
        ({"out": Path("/proc/run")}, OutputError, "Could not make the folder /proc/run: No such file or directory. Choose another --out"),
    ],
)
def test_bad_settings_are_one_sentence(pretraining: PretrainConfig, change: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        pretrain(replace(pretraining, **change))


@pytest.mark.parametrize(("kind", "setting", "value", "expected"), [
    (JointConfig, "drop_identity", 2.0, "from 0 to 1"),
    (JointConfig, "ad_weight", -1.0, "from 0 to 1000"),
    (JointConfig, "ad_weight", float("nan"), "from 0 to 1000"),
    (PretrainConfig, "timestep_power", 0.0, "from 0.01 to 100"),
    (PretrainConfig, "learning_rate", float("nan"), "more than 0 and at most 1"),
    (PretrainConfig, "learning_rate", 0.0, "more than 0 and at most 1"),
    (PretrainConfig, "clip", float("inf"), "more than 0"),
    (PretrainConfig, "warmup", -1, "at least 0"),
    (PretrainConfig, "seed", 2**64, "from 0 to 18446744073709551615"),
    (PretrainConfig, "keep_last", 0, "at least 1"),
    (JointConfig, "replicas", 0, "at least 4"),
])  # fmt: skip
def test_a_number_out_of_its_range_is_refused_before_anything_is_read(kind: type, setting: str, value: float, expected: str):
    flag = "--" + setting.replace("_", "-")
    with pytest.raises(ConfigError, match=f"^Expected {expected} for {flag}, found {value}.$"):
        kind(data=Path("nowhere"), base="nowhere", out=Path("nowhere"), **{setting: value}, dry_run=True)


@pytest.mark.parametrize("kind", [PretrainConfig, JointConfig, PairRules])
def test_every_number_among_the_settings_has_a_range(kind: type):
    numbers = {name: hint for name, hint in get_type_hints(kind, include_extras=True).items() if {int, float} & {hint, *_parts(hint)}}
    assert numbers and not [name for name, hint in numbers.items() if not any(isinstance(part, Range) for part in get_args(hint))]


def _parts(hint: object) -> set[object]:
    return {part for arg in get_args(hint) for part in (arg, *_parts(arg))}


def test_the_command_line_says_which_range(capsys: pytest.CaptureFixture):
    arguments = ["--data", "d", "--base", "b", "--out", "o", "--learning-rate", "nan", "--dry-run"]
    with pytest.raises(SystemExit):
        read_config(PretrainConfig, None, arguments)
    assert "Expected more than 0 and at most 1 for --learning-rate, found nan." in " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().err).split())


def test_replicas_that_four_conditions_cannot_share_are_refused(joint: JointConfig):
    with pytest.raises(ConfigError, match="found 6"):
        train_joint(replace(joint, replicas=6))


def test_numbers_in_a_preset_may_be_written_as_on_the_command_line(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("learning_rate: 1e-4\nclip: 2\nrules: {max_pose: 3}\ninit: [a.safetensors]\n")
    config = from_yaml(PretrainConfig, str(tmp_path / "mine.yaml"))
    assert (config.learning_rate, config.clip, config.rules.max_pose, config.init) == (1e-4, 2.0, 3.0, (Path("a.safetensors"),))


@pytest.mark.parametrize(("text", "message"), [
    ("family: demo\n  x: [", "mine.yaml is no YAML that can be read"),
    ("- family", "Expected settings as NAME: VALUE in mine.yaml"),
    ("rules: {max_pse: 3}", r"rules in mine.yaml has unknown settings \['max_pse'\]"),
    ("module: landmrk", "Expected landmark or emotion for module in mine.yaml, found 'landmrk'"),
    ("steps: 1e5", "Expected a whole number for steps in mine.yaml, found '1e5'"),
    ("warmup: [1]", "Expected a whole number for warmup"),
    ("ema: much", "Expected a number for ema"),
    ("init: a.safetensors", "Expected a list for init"),
    ("batch: 0", "Expected at least 1 for --batch, found 0"),
])  # fmt: skip
def test_a_preset_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, message: str):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        from_yaml(PretrainConfig, str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("name", ["demo_pretrain", "full_pretrain"])
def test_presets_are_read(name: str):
    assert from_yaml(PretrainConfig, name).family == name.split("_")[0]


def test_an_unknown_setting_in_a_preset_is_named(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("famly: demo\n")
    with pytest.raises(ConfigError, match="unknown settings \\['famly'\\]"):
        from_yaml(PretrainConfig, str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match="Expected a preset out of"):
        from_yaml(JointConfig, "nothing")


def test_the_paper_s_settings_are_the_full_presets():
    pretraining, joint = from_yaml(PretrainConfig, "full_pretrain"), from_yaml(JointConfig, "full_joint")
    assert (pretraining.steps, pretraining.batch, joint.steps, joint.replicas, joint.images_per_batch, joint.ad_weight) == (100_000, 16, 50_000, 16, 1, 5e-4)


def test_a_dry_run_prints_sizes_and_trains_nothing(pretraining: PretrainConfig, capsys: pytest.CaptureFixture):
    pretrain(replace(pretraining, dry_run=True, gradient_checkpointing=True))
    printed = capsys.readouterr().out
    assert "trained" in printed and "steps an epoch" in printed and not pretraining.out.exists()
    assert '"min_pose": 8.0' in printed and "null" not in printed  # the rules of the stage
    assert "memory, bf16 on a GPU:" in printed and "with gradient checkpointing" in printed


@pytest.mark.parametrize("kind", [PretrainConfig, JointConfig])
def test_every_setting_says_what_it_is(kind: type, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        read_config(kind, None, ["--help"])
    printed = capsys.readouterr().out
    assert "arc2face" in printed and not re.search(r"│ +\(default", printed)


def test_the_estimate_counts_the_arithmetic_of_the_network(pretraining: PretrainConfig):

    model = prepare_model(pretraining, World(), landmark=True, emotion=False, text_encoder=False)
    one, two = (micro_batch(model, Rows(slice(0, n), slice(0, n)), n, False) for n in (1, 2))
    assert two.flops == pytest.approx(2 * one.flops, rel=0.01) and one.flops > 5e9 and two.activations > 1.8 * one.activations
    assert all(p.grad is None for p in model.parameters())
