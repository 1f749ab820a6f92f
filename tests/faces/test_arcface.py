"""Identity at full size, with a recogniser of the true input and output shape and random weights; the published weights cannot be had here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facecrafter_core import search
from facecrafter_core.errors import AssetError, ModelError, NoFaceError
from facecrafter_core.faces.arcface import ArcFaceEncoder, session
from facecrafter_core.faces.identity import face_crop, load_identity_encoder
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.faces.photo import load_photo

insightface = pytest.importorskip("insightface", reason="SKIPPED: ArcFace is not tested, insightface is not installed")
onnx = pytest.importorskip("onnx", reason="SKIPPED: ArcFace is not tested, onnx is not installed")
PORTRAIT = Path(__file__).resolve().parents[2] / "demo/samples/portrait_4.jpg"


def recogniser(path: Path, width: int = 512) -> Path:
    """A convolution, a mean and a linear layer: [N, 3, 112, 112] -> [N, width]."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(16, 3, 7, 7)), "m": rng.normal(size=(16, width))}
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["a"], strides=[7, 7]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "m"], ["out"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("data", ["N", 3, 112, 112]), ("out", ["N", width]))]
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "arcface", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


class FivePoints:
    """In SCRFD's place: MediaPipe's eyes, nose tip and corners of the mouth."""

    def __init__(self) -> None:
        self.landmarker, self.sizes = FaceLandmarker(), []

    def detect(self, picture: np.ndarray, input_size: tuple[int, int]):
        self.sizes.append(input_size)
        faces = self.landmarker.detect(np.ascontiguousarray(picture[:, :, ::-1]))
        points = [f.landmarks[[468, 473, 4, 61, 291], :2] for f in faces]
        return np.zeros((len(points), 5)), np.array(points) if points else None


@pytest.fixture
def encoder(tmp_path: Path) -> ArcFaceEncoder:
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX

    path = recogniser(tmp_path / "arcface.onnx")
    return ArcFaceEncoder(FivePoints(), ArcFaceONNX(model_file=str(path), session=session(path, "cpu")))


@pytest.fixture(scope="module")
def crop() -> torch.Tensor:
    photo = load_photo(PORTRAIT)
    return face_crop(photo, FaceLandmarker().find_face(photo), ArcFaceEncoder.crop_size)


def test_vectors_are_unit_and_do_not_depend_on_the_batch(encoder: ArcFaceEncoder, crop: torch.Tensor):
    together = encoder.encode(torch.stack([crop, crop.flip(-1)]))
    assert together.shape == (2, 512) and torch.allclose(together.norm(dim=1), torch.ones(2))
    assert torch.allclose(together[:1], encoder.encode(crop[None]), atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4
    assert set(encoder.detector.sizes) == {(640, 640)}


def test_the_recogniser_sees_arcfaces_crop_in_rgb(encoder: ArcFaceEncoder, crop: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(encoder.recogniser, "get_feat", lambda crops: (seen.extend(crops), np.ones((len(crops), 512), np.float32))[1])
    encoder.encode(crop[None])
    assert seen[0].shape == (112, 112, 3) and seen[0].dtype == np.uint8
    points = FivePoints().detect(np.ascontiguousarray(np.array(torch.nn.functional.interpolate(((crop[None].flip(1) + 1) * 127.5), 512)[0].permute(1, 2, 0).numpy(), np.uint8)), (640, 640))[1][0]
    assert np.linalg.norm(points[1] - points[0]) > 50, "the crop shows a face"
    red, blue = seen[0][..., 2].mean(), seen[0][..., 0].mean()
    assert red > blue, "BGR, as InsightFace expects it: skin has more red"


def test_a_square_without_a_face_is_told(encoder: ArcFaceEncoder):
    with pytest.raises(NoFaceError, match="InsightFace's detector found no face"):
        encoder.encode(torch.zeros(1, 3, 512, 512))


def test_a_recogniser_of_another_width_is_told(tmp_path: Path, crop: torch.Tensor):
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX

    path = recogniser(tmp_path / "other.onnx", 256)
    with pytest.raises(ModelError, match="vectors of 512 numbers, found 256"):
        ArcFaceEncoder(FivePoints(), ArcFaceONNX(model_file=str(path), session=session(path, "cpu"))).encode(crop[None])


def test_missing_files_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "_search_folders", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(AssetError, match="facecrafter assets download antelopev2"):
        load_identity_encoder("full", tmp_path / "base")


def test_the_wrong_recogniser_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "_search_folders", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "base/antelopev2"
    folder.mkdir(parents=True)
    recogniser(folder / "arcface.onnx")
    monkeypatch.setattr(search, "find_asset", lambda name, real=search.find_asset: folder / "scrfd.onnx" if name == "antelopev2" else real(name))
    with pytest.raises(AssetError, match="arcface"):
        load_identity_encoder("full", tmp_path / "base")


def test_a_file_that_is_no_model_is_told(tmp_path: Path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(AssetError, match="cannot be read by ONNX Runtime"):
        session(tmp_path / "x.onnx", "cpu")


def test_a_gpu_that_onnx_runtime_lacks_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("SKIPPED: this ONNX Runtime has CUDA")
    assert session(recogniser(tmp_path / "a.onnx"), "cuda:0").get_providers() == ["CPUExecutionProvider"]
    assert "runs on the CPU" in caplog.text


def test_a_gpu_whose_libraries_are_missing_is_said_and_the_card_that_was_asked_for_is_used(tmp_path, monkeypatch, caplog):
    import onnxruntime

    asked = []

    class Session:
        def __init__(self, path, providers):
            asked.append(providers)

        def get_providers(self):
            return ["CPUExecutionProvider"]  # what ONNX Runtime falls back to where it cannot load cuDNN

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    session(tmp_path / "arcface.onnx", "cuda:1")
    assert asked == [[("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]]
    assert "cuDNN's libraries are missing): arcface.onnx runs on the CPU" in caplog.text
