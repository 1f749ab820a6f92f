"""The two stages on the demo's network with random features and 8 x 8 latents."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stage_world import QUICK, ROOT, arguments_of, logged, losses, norms, run, weights

from facecrafter_core.control.adapter import load_adapter, read_adapter_metadata
from facecrafter_core.diffusion.families import DEMO
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from training import train_base
from training.base import load_base
from training.batches import step_seed
from training.config import ConfigError, JointConfig, PretrainConfig
from training.loop import World
from training.losses import attention_disentanglement_loss
from training.model import Rows
from training.pretrain import train as pretrain
from training.stage import prepare_model
from training.train_joint import by_condition
from training.train_joint import train as train_joint


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


def test_without_its_weight_the_disentanglement_loss_is_measured_and_trains_nothing(joint: JointConfig, monkeypatch: pytest.MonkeyPatch):
    with_it, without = (replace(joint, out=joint.out / str(weight), ad_weight=weight) for weight in (1.0, 0.0))
    train_joint(with_it)
    with monkeypatch.context() as patch:
        patch.setattr("training.train_joint.attention_disentanglement_loss", lambda similarity, *_: seen.append(similarity.requires_grad) or loss(similarity, *_))
        seen, loss = [], attention_disentanglement_loss
        train_joint(without)
    assert set(seen) == {False} and logged(without.out, "loss") == logged(without.out, "diffusion")
    assert logged(without.out, "ad")[1] == logged(with_it.out, "ad")[1] > 0  # of the first step, before the two differ
    assert logged(without.out, "norm")[1] != logged(with_it.out, "norm")[1]


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
    with pytest.raises(ConfigError, match=r"each adapter file gives a module that is wanted \(landmark\).*emotion/adapter.safetensors gives none"):
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


def test_processes_with_folders_of_their_own_are_told_to_share_one(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(World, "everyones", lambda self, value: [value, 4.0])
    with pytest.raises(ConfigError, match="The processes found 0 and 4 finished steps in .* Give --out a folder that all machines share"):
        pretrain(pretraining)


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"))]
)
@pytest.mark.parametrize(
    ("stage", "size", "more"),
    [("pretrain", "batch", {}), ("train_joint", "images_per_batch", {"replicas": 4, "ad_weight": 0.05, "drop_identity": 0.5})],
)
def test_two_processes_have_the_losses_of_one(stage: str, size: str, more: dict, device: str, prepared_folder: Path, tmp_path: Path):
    settings = QUICK | more | {"data": prepared_folder, "learning_rate": 1e-5, "steps": 3, "device": device, "precision": "fp32", "compile": False}
    train, kind = {"pretrain": (pretrain, PretrainConfig), "train_joint": (train_joint, JointConfig)}[stage]
    train(kind(**settings, **{size: 4}, out=tmp_path / "1"))
    run(arguments_of(stage, 2, **settings, **{size: 2}, out=tmp_path / "2"))
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-4)
    assert norms(tmp_path / "2") == pytest.approx(norms(tmp_path / "1"), rel=1e-3)


def test_gradient_accumulation_and_checkpointing_change_nothing_but_memory(joint: JointConfig):
    others = {"plain": {}, "accumulated": {"accumulate": 2, "images_per_batch": 1}, "checkpointed": {"gradient_checkpointing": True}}
    for name, other in others.items():
        train_joint(replace(joint, out=joint.out / name, ad_weight=0.05, drop_identity=0.5, learning_rate=1e-5, steps=3, **other))
    for name in ("accumulated", "checkpointed"):
        assert losses(joint.out / name) == pytest.approx(losses(joint.out / "plain"), rel=1e-4)
        assert norms(joint.out / name) == pytest.approx(norms(joint.out / "plain"), rel=1e-3)


def test_the_base_trains_with_its_first_adapter_and_resumes(tmp_path: Path, short_report: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = ["train_base", "--data", str(short_report), "--models", str(ROOT / "demo"), "--out", str(tmp_path), "--batch", "8", "--report-every", "2"]
    for steps in (2, 3):
        monkeypatch.setattr(sys, "argv", [*arguments, "--steps", str(steps)])
        train_base.main()
    state = torch.load(tmp_path / "checkpoints/base.pt", weights_only=True)
    assert state["step"] == 3 and not any(mean.requires_grad for mean in state["average"])
    load_base(str(tmp_path), DEMO)
    assert load_adapter(tmp_path / "adapter.safetensors").landmark is not None and len(list((tmp_path / "sheets").iterdir())) == 2


def test_any_seed_trains_and_small_ones_draw_what_they_always_drew():
    assert step_seed(5, 7) == (5 << 40) + 7
    seeds = {step_seed(seed, step) for seed in (0, 2**24 - 1, 2**24, 20250101, 2**40) for step in (0, 1, 10**6)}
    assert len(seeds) == 15 and max(seeds) < 2**64


def test_a_base_of_the_other_family_is_refused():
    with pytest.raises(ConfigError, match="Choose the other family"):
        from facecrafter_core.diffusion.families import FULL

        load_base(str(ROOT / "demo"), FULL)
    assert load_base("random", DEMO)[0].config.cross_attention_dim == 128
