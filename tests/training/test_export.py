"""A finished run as a folder for others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facecrafter_core.control.adapter import load_adapter, read_adapter_metadata
from training.config import ConfigError, JointConfig, PretrainConfig
from training.pretrain import train as pretrain
from training.train_joint import train as train_joint


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
