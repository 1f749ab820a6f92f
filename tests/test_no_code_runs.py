"""Files of others are never executed: each loader is given a pickle, or a base, that would run code."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from facecrafter_core.control.adapter import load_adapter
from facecrafter_core.diffusion.arc2face import load_vae
from facecrafter_core.diffusion.families import DEMO
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.diffusion.text_encoder import load_text_encoder, read_weights
from facecrafter_core.errors import FaceCrafterError, ModelError
from facecrafter_core.faces.emonet import load_emonet
from facecrafter_core.faces.identity import load_face_network
from facecrafter_core.files import read_landmarks
from facecrafter_core.metrics import perceptual
from facecrafter_core.metrics.flame import read_flame
from training import baselines, methods, readings
from training.base import load_autoencoder, load_base, load_trained_encoder
from training.checkpoints import read_checkpoint
from training.export import export
from training.prepare import Chunk, merge
from training.prepared import ARRAYS, Prepared

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent / "training"))

from world import make_prepared  # noqa: E402


class Code:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def as_torch(path: Path, code: Code) -> None:
    torch.save({"state_dict": code}, path)


def as_plain_pickle(path: Path, code: Code) -> None:
    path.write_bytes(pickle.dumps({"state_dict": code}, protocol=2))


def as_npy(path: Path, code: Code) -> None:
    np.save(path, np.array([code], dtype=object), allow_pickle=True)


def as_npz(path: Path, code: Code) -> None:
    np.savez(path, **{name: np.array([code], dtype=object) for name in ("manifest", "expression", "inception")})


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path / "code has run")


def part_of_a_base(tmp_path: Path, part: str, file: str) -> tuple[Path, Path]:
    """A copy of the demo's base without one part's weights, and where these are to be as a pickle."""
    base = shutil.copytree(ROOT / "demo", tmp_path / "base", ignore=shutil.ignore_patterns("samples", "evaluators"))
    for weights in (base / part).glob("*.safetensors"):
        weights.unlink()
    return base, base / part / file


def fake_package(name: str, install: str) -> Any:
    """torch-fidelity, facenet-pytorch and lpips as far as they read files themselves, as torch did before 2.6."""
    read = lambda *_, feature_extractor_weights_path=None, **__: torch.load(feature_extractor_weights_path, weights_only=False)  # noqa: E731
    network = SimpleNamespace(load_state_dict=dict, net=SimpleNamespace(state_dict=dict, load_state_dict=dict))
    return SimpleNamespace(FeatureExtractorInceptionV3=read, InceptionResnetV1=lambda **_: network, LPIPS=lambda **_: network)


FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "checkpoint": ("run/checkpoints/step_00000002.pt", read_checkpoint),
    "export": ("run/checkpoints/step_00000002.pt", lambda path: export(path.parent.parent, path.parent / "out", "mit")),
    "weights of Arc2Face": ("arc2face.bin", lambda path: _as_model_error(read_weights, path)),
    "autoencoder": ("vae.ckpt", load_vae),
    "adapter": ("adapter.safetensors", load_adapter),
    "face network": ("model.safetensors", lambda path: load_face_network(path, 128)),
    "EmoNet": ("emonet_8.pth", load_emonet),
    "Inception": ("inception.pth", perceptual.Inception),
    "FaceNet": ("facenet.pt", perceptual.FaceNet),
    "LPIPS": ("alexnet.pth", perceptual.Perceptual),
    "IP-Adapter": ("ip-adapter-faceid.bin", baselines._ip_adapter_weights),
    "weights to count": ("weights.ckpt", lambda path: methods.count_parameters([path])),
}  # fmt: skip


def _as_model_error(load: Callable[[Path], Any], path: Path) -> Any:
    try:
        return load(path)
    except pickle.UnpicklingError as error:  # its callers make a sentence of it
        raise ModelError(str(error)) from error


@pytest.mark.parametrize("write", [as_torch, as_plain_pickle])
@pytest.mark.parametrize("loader", FILES)
def test_weights_that_hold_code_are_refused(loader: str, write: Callable[[Path, Code], None], code: Code, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(perceptual, "_package", fake_package)
    name, load = FILES[loader]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, code)
    with pytest.raises(FaceCrafterError):
        load(path)
    assert not code.marker.exists()


def test_the_file_would_run_its_code_if_it_were_let(code: Code, tmp_path: Path):
    as_torch(tmp_path / "file", code)
    torch.load(tmp_path / "file", weights_only=False)
    assert code.marker.is_dir()


PARTS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "UNet of a base": ("unet", "diffusion_pytorch_model.bin", lambda base: load_base(str(base), DEMO)),
    "text encoder of a base": ("text_encoder", "pytorch_model.bin", lambda base: load_base(str(base), DEMO)),
    "text encoder": ("text_encoder", "pytorch_model.bin", lambda base: load_text_encoder(base / "text_encoder")),
    "trained text encoder": ("text_encoder", "pytorch_model.bin", lambda base: load_trained_encoder(base / "text_encoder", DEMO)),
    "autoencoder of a base": ("vae", "diffusion_pytorch_model.bin", load_autoencoder),
    "image encoder": ("text_encoder", "pytorch_model.bin", lambda base: baselines._image_encoder(base / "text_encoder")),
}


@pytest.mark.parametrize("write", [as_torch, as_plain_pickle])
@pytest.mark.parametrize("loader", PARTS)
def test_parts_of_a_base_that_hold_code_are_refused(loader: str, write: Callable[[Path, Code], None], code: Code, tmp_path: Path):
    part, file, load = PARTS[loader]
    base, path = part_of_a_base(tmp_path, part, file)
    write(path, code)
    with pytest.raises(FaceCrafterError):
        load(base)
    assert not code.marker.exists()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_pipeline_runs_no_code_of_its_parts(part: str, code: Code, tmp_path: Path):
    base, path = part_of_a_base(tmp_path, part, "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin")
    as_torch(path, code)
    with pytest.raises((FaceCrafterError, OSError, ValueError)):
        FaceCrafterPipeline.from_pretrained(base)
    assert not code.marker.exists()


@pytest.mark.parametrize("place", ["unet", "."])
def test_python_files_of_a_base_are_refused(place: str, tmp_path: Path):
    base, _ = part_of_a_base(tmp_path, "samples", "")
    index = json.loads((base / "model_index.json").read_text())
    index["_class_name" if place == "." else place] = ["theirs", "Class"]
    (base / "model_index.json").write_text(json.dumps(index))
    (base / place / "theirs.py").write_text("raise SystemExit('it has run')")
    with pytest.raises(ModelError, match="theirs.py is code of this base, and files of others are never executed"):
        FaceCrafterPipeline.from_pretrained(base)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_a_prepared_folder_that_holds_code_is_refused(name: str, code: Code, tmp_path: Path):
    folder = make_prepared(tmp_path / "prepared", people=3, each=1)
    as_npy(folder / f"{name}.npy", code)
    with pytest.raises(FaceCrafterError, match=f"{name}.npy is cut or damaged"):
        Prepared.open(folder, "demo")
    assert not code.marker.exists()


ARRAY_FILES: dict[str, tuple[str, Callable[[Path, Code], None], Callable[[Path], Any]]] = {
    "part of a preparation": ("parts/00000000.npz", as_npz, lambda path: merge([Chunk(0, [])], path.parent.parent, {})),
    "readings": ("00000.npz", as_npz, readings._load),
    "landmarks": ("face.npy", as_npy, read_landmarks),
    "FLAME": ("flame.npz", as_npz, lambda path: read_flame(path, ["0"])),
}


@pytest.mark.parametrize("loader", ARRAY_FILES)
def test_arrays_that_hold_code_are_refused(loader: str, code: Code, tmp_path: Path):
    name, write, load = ARRAY_FILES[loader]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, code)
    with pytest.raises(FaceCrafterError):
        load(path)
    assert not code.marker.exists()


def calls(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Calls such as torch.load in a file, and their arguments by name, as far as they are plain values."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            found.append((f"{node.func.value.id}.{node.func.attr}", {k.arg: getattr(k.value, "value", None) for k in node.keywords}))
    return found


def test_no_other_way_of_loading_is_used():
    ours = [path for folder in ("facecrafter_core", "nodes", "training", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    everything = [(str(path.relative_to(ROOT)), name, given) for path in ours for name, given in calls(path)]
    assert sum(name == "torch.load" for _, name, _ in everything) >= 8
    assert not [where for where, name, given in everything if name == "torch.load" and given.get("weights_only") is not True]
    assert not [where for where, name, given in everything if name == "np.load" and given.get("allow_pickle")]
    assert not [where for where, name, _ in everything if name in ("yaml.load", "yaml.unsafe_load", "torch.hub", "joblib.load", "pickle.load", "dill.loads")]
    assert {where for where, name, _ in everything if name == "pickle.loads"} <= {"training/prepare.py"}  # what a process of ours has sent
