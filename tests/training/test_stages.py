"""The two stages on the demo's network with random features and 8 x 8 latents."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from world import make_prepared

from facecrafter_core.control.adapter import load_adapter, read_adapter_metadata
from facecrafter_core.diffusion.families import DEMO
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.errors import ModelError, OutputError
from training import report, train_base
from training.base import load_base
from training.batches import step_seed
from training.config import ConfigError, JointConfig, PretrainConfig, from_yaml, read_config
from training.estimate import Estimate
from training.logs import Log
from training.loop import World
from training.model import Rows
from training.prepared import PreparedError
from training.pretrain import main as pretrain_command
from training.pretrain import train as pretrain
from training.stage import Stage, command, micro_batch, open_data, open_world, prepare_model
from training.train_joint import by_condition
from training.train_joint import train as train_joint

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"base": "random", "family": "demo", "workers": 0, "log_every": 1, "save_every": 2, "steps": 4, "learning_rate": 1e-3, "warmup": 1}


@pytest.fixture
def pretraining(prepared_folder: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(data=prepared_folder, out=tmp_path / "run", batch=4, **QUICK)


@pytest.fixture
def joint(prepared_folder: Path, tmp_path: Path) -> JointConfig:
    return JointConfig(data=prepared_folder, out=tmp_path / "run", replicas=4, images_per_batch=2, **QUICK)


def logged(out: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines}


def losses(out: Path) -> dict[int, float]:
    return logged(out, "loss")


def norms(out: Path) -> dict[int, float]:
    """Of the gradients: equal only if they are."""
    return logged(out, "norm")


def weights(out: Path) -> dict[str, torch.Tensor]:
    newest = sorted((out / "checkpoints").glob("step_*.pt"))[-1]
    return torch.load(newest, weights_only=True)["weights"]


@pytest.mark.parametrize("module", ["landmark", "emotion"])
def test_pretraining_trains_one_module_and_its_projections(pretraining: PretrainConfig, module: str):
    pretrain(replace(pretraining, module=module))
    trained = {name.split(".")[1] for name in weights(pretraining.out)}
    assert trained == {module, f"{module}_branch"}
    adapter = load_adapter(pretraining.out / "adapter.safetensors")
    assert (adapter.landmark is None) == (module == "emotion") and (adapter.emotion is None) == (module == "landmark")
    assert read_adapter_metadata(pretraining.out / "adapter.safetensors")["stage"] == module


def test_the_joint_stage_trains_both_modules_and_the_text_encoder(joint: JointConfig):
    train_joint(joint)
    trained = weights(joint.out)
    assert {name.split(".")[0] for name in trained} == {"adapter", "text_encoder"}
    assert {name.split(".")[1] for name in trained if name.startswith("adapter")} == {"landmark", "landmark_branch", "emotion", "emotion_branch"}
    names = load_file(joint.out / "text_encoder/model.safetensors")
    assert all(name.startswith("text_model.") for name in names)  # what ComfyUI's Load CLIP looks for
    pipe = FaceCrafterPipeline.from_pretrained(ROOT / "demo", joint.out / "adapter.safetensors")
    assert torch.equal(pipe.text_encoder.get_input_embeddings().weight, names["text_model.embeddings.token_embedding.weight"])


def test_without_its_weight_the_disentanglement_loss_is_not_computed(joint: JointConfig):
    train_joint(replace(joint, ad_weight=0.0))
    assert "ad" not in json.loads((joint.out / "log.jsonl").read_text().splitlines()[0])


def test_the_joint_stage_starts_from_both_pretrained_modules(pretraining: PretrainConfig, joint: JointConfig, capsys: pytest.CaptureFixture):
    files = []
    for module in ("landmark", "emotion"):
        config = replace(pretraining, module=module, out=pretraining.out / module)
        pretrain(config)
        files.append(config.out / "adapter.safetensors")
    capsys.readouterr()
    model = prepare_model(replace(joint, init=tuple(files)), World(), landmark=True, emotion=True, text_encoder=True)
    ours, theirs = model.adapter.state_dict(), {k: v for f in files for k, v in load_adapter(f).state_dict().items()}
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert capsys.readouterr().out == f"start: landmark from {files[0]}, emotion from {files[1]}, text encoder of the base\n"
    with pytest.raises(ConfigError, match=r"each file of --init gives a module that this stage trains \(landmark\).*emotion/adapter.safetensors gives none"):
        prepare_model(replace(pretraining, init=tuple(files)), World(), landmark=True, emotion=False, text_encoder=False)


def test_the_joint_stage_starts_with_the_text_encoder_beside_a_joint_adapter(joint: JointConfig, capsys: pytest.CaptureFixture):
    train_joint(replace(joint, steps=1))
    capsys.readouterr()
    model = prepare_model(replace(joint, init=(joint.out / "adapter.safetensors",)), World(), landmark=True, emotion=True, text_encoder=True)
    ours, theirs = model.text_encoder.state_dict(), load_file(joint.out / "text_encoder/model.safetensors")
    assert all(torch.equal(ours.get(k, ours.get(k.removeprefix("text_model."))), v) for k, v in theirs.items())
    assert f"text encoder from {joint.out / 'text_encoder'}" in capsys.readouterr().out


def test_each_image_has_a_quarter_of_its_rows_under_each_condition():
    rows = Rows.mixed(images=3, replicas=2)
    assert (rows.landmark, rows.emotion) == (slice(6, 18), slice(12, 24))
    image = by_condition(torch.arange(3)[:, None].expand(3, 8))
    assert image.tolist() == [0, 0, 1, 1, 2, 2] * 4


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


def arguments_of(stage: str, processes: int = 1, **settings: object) -> list[str]:
    """The command line of a stage, under torchrun if there are several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    flags = [part for name, value in {**QUICK, **settings}.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, *launcher, "-m", f"training.{stage}", *flags]


SEPARATE = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}


def run(arguments: list[str]) -> None:
    found = subprocess.run(arguments, cwd=ROOT, env=SEPARATE, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-3000:]


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


def test_processes_with_folders_of_their_own_are_told_to_share_one(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(World, "everyones", lambda self, value: [value, 4.0])
    with pytest.raises(ConfigError, match="The processes found 0 and 4 finished steps in .* Give --out a folder that all machines share"):
        pretrain(pretraining)


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
    whole, killed = (arguments_of("pretrain", data=prepared_folder, out=tmp_path / name, batch=4, steps=10, save_every=1) for name in ("whole", "killed"))
    run(whole)
    folder = tmp_path / "killed/checkpoints"
    process = subprocess.Popen(killed, cwd=ROOT, env=SEPARATE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while process.poll() is None and time.time() < deadline:
        if list(folder.glob("step_*.pt")) and list(folder.glob(".step_*.part")):
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.001)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed while saving"
    run(killed)
    assert not list(folder.glob(".*")) and losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    ("stage", "size", "more"),
    [("pretrain", "batch", {}), ("train_joint", "images_per_batch", {"replicas": 4, "ad_weight": 0.05, "drop_identity": 0.5})],
)
def test_two_processes_have_the_losses_of_one(stage: str, size: str, more: dict, prepared_folder: Path, tmp_path: Path):
    for count in (1, 2):
        more |= {size: 4 // count, "learning_rate": 1e-5, "steps": 3}
        run(arguments_of(stage, count, data=prepared_folder, out=tmp_path / str(count), **more))
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-4)
    assert norms(tmp_path / "2") == pytest.approx(norms(tmp_path / "1"), rel=1e-3)


def test_gradient_accumulation_and_checkpointing_change_nothing_but_memory(joint: JointConfig):
    others = {"plain": {}, "accumulated": {"accumulate": 2, "images_per_batch": 1}, "checkpointed": {"gradient_checkpointing": True}}
    for name, other in others.items():
        train_joint(replace(joint, out=joint.out / name, ad_weight=0.05, drop_identity=0.5, learning_rate=1e-5, steps=3, **other))
    for name in ("accumulated", "checkpointed"):
        assert losses(joint.out / name) == pytest.approx(losses(joint.out / "plain"), rel=1e-4)
        assert norms(joint.out / name) == pytest.approx(norms(joint.out / "plain"), rel=1e-3)


@pytest.fixture
def short_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Few people and steps; a prepared folder with latents of the size that pictures are made of."""
    monkeypatch.setattr(report, "PEOPLE", 2)
    monkeypatch.setattr(report, "IMAGES", 4)
    monkeypatch.setattr(report.Report.__init__, "__defaults__", (2,))
    return make_prepared(tmp_path / "prepared", side=32)


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
    for module in ("stage", "logs"):
        monkeypatch.setattr(f"training.{module}.peak_tflops", lambda device: 2.0)
    monkeypatch.setattr("training.stage.micro_batch", lambda model, rows, count, disentangle: Estimate(count * 10**9, 0, 0, 0))
    pretrain(replace(pretraining, batch=2, accumulate=2, steps=2))
    last = json.loads((pretraining.out / "log.jsonl").read_text().splitlines()[-1])
    assert last["mfu"] == pytest.approx(last["images/s"] * 10**9 / 2e12, rel=1e-6) and last["mfu"] > 0


def test_samples_are_made_with_a_bf16_denoiser_beside_fp32_modules(joint: JointConfig, short_report: Path, monkeypatch: pytest.MonkeyPatch):
    def in_fp32(self: FaceCrafterPipeline, latents: torch.Tensor, decode=FaceCrafterPipeline._decode) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):  # in bf16, a CPU without such instructions takes minutes for it
            return decode(self, latents.float())

    monkeypatch.setattr(FaceCrafterPipeline, "_decode", in_fp32)
    monkeypatch.setattr(report, "EMOTIONS", ("happy",))
    config = replace(joint, data=short_report, base=str(ROOT / "demo"))
    world = World()
    model = prepare_model(config, world, landmark=True, emotion=True, text_encoder=True)
    model.unet.to(torch.bfloat16)  # as on a GPU
    rows = report.Report(open_data(config)[1], ROOT / "demo", config.out, world.device, steps=1).sheet(model)
    assert np.stack([np.stack(row) for row in rows]).std() > 0.04
    assert {p.dtype for p in model.adapter.parameters()} == {torch.float32}  # the next step trains them


def test_the_base_trains_with_its_first_adapter_and_resumes(tmp_path: Path, short_report: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = ["train_base", "--data", str(short_report), "--models", str(ROOT / "demo"), "--out", str(tmp_path), "--batch", "8", "--report-every", "2"]
    for steps in (2, 3):
        monkeypatch.setattr(sys, "argv", [*arguments, "--steps", str(steps)])
        train_base.main()
    state = torch.load(tmp_path / "checkpoints/base.pt", weights_only=True)
    assert state["step"] == 3 and not any(mean.requires_grad for mean in state["average"])
    load_base(str(tmp_path), DEMO)
    assert load_adapter(tmp_path / "adapter.safetensors").landmark is not None and len(list((tmp_path / "sheets").iterdir())) == 2


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
        with pytest.raises(ConfigError, match=f"{newest} is missing, cut or damaged. {older} is whole: remove {newest.name}"):
            use()
    older.write_bytes(b"")
    with pytest.raises(ConfigError, match="no older one that is whole"):
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


def test_sheets_lines_and_checkpoints_are_switched_off_by_0(pretraining: PretrainConfig, short_report: Path):
    pretrain(replace(pretraining, data=short_report, base=str(ROOT / "demo"), steps=2, log_every=0, sample_every=0, save_every=0))
    assert list(losses(pretraining.out)) == [2] and not (pretraining.out / "sheets").exists()
    assert [p.name for p in (pretraining.out / "checkpoints").iterdir()] == ["step_00000002.pt"]
    with pytest.raises(ConfigError, match="Expected at least 0 for --save-every, found -1"):
        replace(pretraining, save_every=-1)


def test_any_seed_trains_and_small_ones_draw_what_they_always_drew():
    assert step_seed(5, 7) == (5 << 40) + 7
    seeds = {step_seed(seed, step) for seed in (0, 2**24 - 1, 2**24, 20250101, 2**40) for step in (0, 1, 10**6)}
    assert len(seeds) == 15 and max(seeds) < 2**64


@pytest.mark.parametrize("stage", ["pretraining", "joint"])
def test_short_memory_is_one_sentence(stage: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    config = request.getfixturevalue(stage)

    def full(config: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    (config.out / "checkpoints").mkdir(parents=True)
    (config.out / "checkpoints/step_00000004.pt").touch()
    monkeypatch.setattr(sys, "argv", ["stage", "--data", str(config.data), "--base", "random", "--out", str(config.out)])
    size = {"pretraining": "--batch", "joint": "--images-per-batch"}[stage]
    with pytest.raises(SystemExit, match=f"Halve {size} and double --accumulate.*--gradient-checkpointing.*goes on after .*step_00000004.pt"):
        command(full, type(config), None)


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
    from training.loop import World

    model = prepare_model(pretraining, World(), landmark=True, emotion=False, text_encoder=False)
    one, two = (micro_batch(model, Rows(slice(0, n), slice(0, n)), n, False) for n in (1, 2))
    assert two.flops == pytest.approx(2 * one.flops, rel=0.01) and one.flops > 5e9 and two.activations > 1.8 * one.activations
    assert all(p.grad is None for p in model.parameters())


def test_a_base_of_the_other_family_is_refused():
    with pytest.raises(ConfigError, match="Choose the other family"):
        from facecrafter_core.diffusion.families import FULL

        load_base(str(ROOT / "demo"), FULL)
    assert load_base("random", DEMO)[0].config.cross_attention_dim == 128


def test_a_run_is_exported_with_its_card(joint: JointConfig, tmp_path: Path):
    from training.export import export

    train_joint(replace(joint, steps=2))
    folder = export(joint.out, tmp_path / "hub", "apache-2.0")
    header = read_adapter_metadata(folder / "adapter.safetensors")
    assert (header["stage"], header["steps"], header["license"]) == ("joint", "2", "apache-2.0")
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n") and "landmark and emotion" in card and str(tmp_path) not in card
    example = card.split("```python\n")[1].split("```")[0]
    assert compile(example, "card", "exec") and "landmarks=" in example and "emotion=" in example and "base_model" not in card
    run, hub = load_adapter(joint.out / "adapter.safetensors").state_dict(), load_adapter(folder / "adapter.safetensors").state_dict()
    assert all(torch.equal(run[k], hub[k]) for k in run) and (folder / "text_encoder/config.json").is_file()
    with pytest.raises(ConfigError, match="Expected checkpoints of a training run"):
        export(tmp_path, tmp_path / "other", "apache-2.0")


def test_the_card_names_arc2face_where_it_was_the_base(pretraining: PretrainConfig, tmp_path: Path):
    from training.export import export

    pretrain(replace(pretraining, steps=1))
    [path] = (pretraining.out / "checkpoints").iterdir()
    state = torch.load(path, weights_only=True)
    torch.save({**state, "settings": {**state["settings"], "base": "arc2face"}}, path)
    assert "\nbase_model: FoivosPar/Arc2Face\n" in (export(pretraining.out, tmp_path / "hub", "mit") / "README.md").read_text()
    assert "\nbase_model: mine/base\n" in (export(pretraining.out, tmp_path / "own", "mit", base_model="mine/base") / "README.md").read_text()
