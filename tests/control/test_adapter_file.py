"""The adapter file: what is saved comes back, and nothing else is accepted."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from facecrafter_core.control.adapter import load_adapter, new_adapter, read_adapter_metadata, save_adapter
from facecrafter_core.errors import AdapterError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "adapter.safetensors"
    save_adapter(new_adapter("demo"), path, stage="joint", license="apache-2.0")
    return path


def rewrite(path: Path, tensors=None, **metadata: str) -> None:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as f:
        header = {**f.metadata(), **metadata}
    save_file(tensors if tensors is not None else load_file(str(path)), str(path), metadata=header)


def test_what_is_saved_comes_back(file: Path):
    torch.manual_seed(0)
    saved, found = new_adapter("demo").state_dict(), load_adapter(file).state_dict()
    assert saved.keys() == found.keys() and all(torch.equal(saved[k], found[k]) for k in saved)
    header = read_adapter_metadata(file)
    assert header["stage"] == "joint" and header["license"] == "apache-2.0" and header["config"].family == "demo"


def test_a_file_with_one_condition_only(tmp_path: Path):
    save_adapter(new_adapter("demo", emotion=False), tmp_path / "a.safetensors")
    adapter = load_adapter(tmp_path / "a.safetensors")
    assert adapter.emotion is None and adapter.landmark is not None
    with pytest.raises(AdapterError, match="no emotion module"):
        adapter.encode_emotion(torch.zeros(1, 10))


def test_half_precision_files_load_as_fp32(tmp_path: Path):
    save_adapter(new_adapter("demo"), tmp_path / "a.safetensors", torch.float16)
    assert {p.dtype for p in load_adapter(tmp_path / "a.safetensors").parameters()} == {torch.float32}


def test_missing_file(tmp_path: Path):
    with pytest.raises(AdapterError, match="There is no adapter file"):
        load_adapter(tmp_path / "none.safetensors")


def test_truncated_file(file: Path):
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(AdapterError, match="not a whole safetensors file"):
        load_adapter(file)


def test_text_file_named_safetensors(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    path.write_text("<html>404: not found</html>" * 100)
    with pytest.raises(AdapterError, match="not a whole safetensors file"):
        load_adapter(path)


def test_foreign_safetensors_file(tmp_path: Path):
    path = tmp_path / "lora.safetensors"
    save_file({"lora_up.weight": torch.zeros(2, 2)}, str(path))
    with pytest.raises(AdapterError, match="no FaceCrafter adapter: expected the metadata format=facecrafter-adapter, found none"):
        load_adapter(path)


def test_unknown_version(file: Path):
    rewrite(file, format_version="7")
    with pytest.raises(AdapterError, match="format version 7, this version of FaceCrafter reads version 1"):
        load_adapter(file)


def test_another_emotion_order(file: Path):
    rewrite(file, emotions=json.dumps(["anger", "neutral"]))
    with pytest.raises(AdapterError, match="orders emotions as"):
        load_adapter(file)


def test_wrong_shape_names_the_key_and_both_shapes(file: Path):
    tensors = load_file(str(file))
    tensors["emotion.layers.0.weight"] = torch.zeros(3, 10)
    rewrite(file, tensors)
    with pytest.raises(AdapterError, match=r"emotion.layers.0.weight should have shape \(64, 10\), found \(3, 10\)"):
        load_adapter(file)


def test_missing_and_unknown_keys(file: Path):
    tensors = load_file(str(file))
    del tensors["landmark.norm.bias"]
    rewrite(file, tensors)
    with pytest.raises(AdapterError, match="landmark.norm.bias .* found none"):
        load_adapter(file)


def test_broken_configuration(file: Path):
    rewrite(file, config=json.dumps({"family": "demo", "surprise": 1}))
    with pytest.raises(AdapterError, match="metadata of adapter.safetensors cannot be read"):
        load_adapter(file)


def test_an_old_file_survives_a_failed_save(file: Path, monkeypatch: pytest.MonkeyPatch):
    before = file.read_bytes()

    def full_disk(temporary, path):
        assert load_adapter(temporary)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(AdapterError, match="No space left on device.*Nothing was changed"):
        save_adapter(new_adapter("demo"), file)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]
