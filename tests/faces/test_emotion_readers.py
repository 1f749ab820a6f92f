"""EmoNet and HSEmotion: from files of their publishers' layout with random weights (the real ones are not shipped)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facecrafter_core import assets
from facecrafter_core.errors import AssetError, EmotionError, ModelError
from facecrafter_core.faces import hsemotion
from facecrafter_core.faces.emonet import EmoNet, EmoNetEstimator
from facecrafter_core.faces.emotion import EMOTIONS, ESTIMATORS, load_emotion_estimator

PHOTO = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)


class Found:
    """A face whose landmarks fill a box."""

    landmarks = np.stack([np.linspace(60, 220, 478)] * 3, axis=1)


@pytest.fixture(scope="module")
def emonet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("emonet") / "emonet_8.pth"
    torch.save({f"module.{k}": v for k, v in EmoNet().state_dict().items()}, path)
    return path


def test_emonet_has_the_layout_and_the_size_of_the_published_file(emonet_file: Path):
    shapes = {k: tuple(v.shape) for k, v in EmoNet().state_dict().items()}
    for key, shape in {
        "conv1.weight": (64, 3, 7, 7), "conv2.downsample.2.weight": (128, 64, 1, 1), "conv3.bn3.running_mean": (32,), "m0.b2_plus_1.conv1.weight": (128, 256, 3, 3),
        "m1.b1_4.conv3.weight": (64, 64, 3, 3), "top_m_1.bn1.weight": (256,), "conv_last0.bias": (256,), "bn_end1.weight": (256,), "l1.weight": (68, 256, 1, 1),
        "bl0.weight": (256, 256, 1, 1), "al0.weight": (256, 68, 1, 1), "conv1x1_input_emo_2.weight": (256, 768, 1, 1), "emo_net_2.6.conv2.weight": (64, 128, 3, 3),
        "emo_fc_2.0.weight": (128, 256), "emo_fc_2.1.running_var": (128,), "emo_fc_2.3.weight": (10, 128),
    }.items():  # fmt: skip
        assert shapes[key] == shape
    assert "bl1.weight" not in shapes and "conv3.downsample.2.weight" not in shapes
    published = next(a for a in assets.ASSETS.values() if a.name == "emonet").size
    assert sum(4 * int(np.prod(shape)) for shape in shapes.values()) == pytest.approx(published, rel=0.01)


def test_emonet_reads_an_emotion_from_a_photo(emonet_file: Path):
    emotion = EmoNetEstimator(emonet_file).estimate(Found(), PHOTO)
    assert -1 <= emotion.valence <= 1 and sum(emotion.distribution) == pytest.approx(1)
    other = EmoNetEstimator(emonet_file).estimate(Found(), 255 - PHOTO)
    assert not np.allclose(emotion.vector, other.vector, atol=1e-6)


def test_emonets_order_is_ours_and_valence_and_arousal_come_last(emonet_file: Path, monkeypatch: pytest.MonkeyPatch):
    estimator = EmoNetEstimator(emonet_file)
    out = torch.tensor([[0.0, 9, 0, 0, 0, 0, 0, 0, 0.5, -0.25]])  # the published order: neutral, happy, sad, surprise, fear, disgust, anger, contempt
    monkeypatch.setattr(estimator, "network", lambda pictures: out.expand(len(pictures), -1))
    emotion = estimator.estimate(Found(), PHOTO)
    assert (emotion.label, emotion.valence, emotion.arousal) == ("happy", 0.5, -0.25)
    assert EMOTIONS == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")


def hsemotion_file(path: Path, numbers: list[float], outputs: int = 10) -> Path:
    """A network of HSEmotion's shape whose answer is its bias."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["output"]),
    ]
    weights = [
        helper.make_tensor("weight", onnx.TensorProto.FLOAT, (3, outputs), np.zeros(3 * outputs, np.float32)),
        helper.make_tensor("bias", onnx.TensorProto.FLOAT, (outputs,), np.array(numbers, np.float32)),
    ]
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("input", [None, 3, 224, 224]), ("output", [None, outputs]))]
    graph = helper.make_graph(nodes, "hsemotion", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("name", hsemotion.CLASSES)
def test_hsemotions_classes_are_put_into_our_order(tmp_path: Path, name: str):
    logits = [9.0 * (name == other) for other in hsemotion.CLASSES]
    emotion = hsemotion.HSEmotionEstimator(hsemotion_file(tmp_path / "h.onnx", [*logits, 0.25, -2.0])).estimate(Found(), PHOTO)
    assert (emotion.label, emotion.valence, emotion.arousal) == (name, 0.25, -1.0)
    assert sorted(hsemotion.CLASSES) == sorted(EMOTIONS)


def test_wrong_files_are_named(tmp_path: Path):
    (tmp_path / "broken").write_bytes(b"no")
    with pytest.raises(ModelError, match="EmoNet's weights for eight classes"):
        EmoNetEstimator(tmp_path / "broken")
    with pytest.raises(ModelError, match="not HSEmotion's network|needs onnxruntime"):
        hsemotion.HSEmotionEstimator(tmp_path / "broken")
    with pytest.raises(ModelError, match="10 numbers"):
        hsemotion.HSEmotionEstimator(hsemotion_file(tmp_path / "h.onnx", [0.0] * 8, 8)).estimate(Found(), PHOTO)


def test_a_missing_file_says_how_to_get_it_and_an_unknown_name_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assets, "search_folders", lambda: [tmp_path])
    for name in ESTIMATORS[1:]:
        with pytest.raises(AssetError, match=f"assets download {name}"):
            load_emotion_estimator(name, tmp_path)
    with pytest.raises(EmotionError, match="demo, emonet, hsemotion"):
        load_emotion_estimator("fer", tmp_path)
