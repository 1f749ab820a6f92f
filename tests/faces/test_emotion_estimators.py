"""Who reads an emotion off a photo. EmoNet and HSEmotion are tested with random weights in the layout of the published files, which cannot be had here."""

from __future__ import annotations

import io
import re
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch

from facecrafter_core import search
from facecrafter_core.assets import ASSETS
from facecrafter_core.cli import ESTIMATOR_NAMES
from facecrafter_core.diffusion.families import DEMO_FOLDER
from facecrafter_core.errors import AssetError, ModelError
from facecrafter_core.faces.emonet import OUTLINE, EmoNet, EmoNetEstimator, emonet_crop
from facecrafter_core.faces.emotion import EMOTIONS, Emotion
from facecrafter_core.faces.emotion_estimators import (
    ESTIMATORS,
    HSEMOTION_NAMES,
    DemoEmotionEstimator,
    HSEmotionEstimator,
    emotion_weights,
    load_emotion_estimator,
    read_emotions,
)
from facecrafter_core.faces.landmarker import Face

EMONET_ORDER = "Neutral, Happy, Sad, Surprise, Fear, Disgust, Anger, Contempt"
"""As its README lists the eight classes."""


def emonet_layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes in emonet_8.pth, less the "module." before each."""
    out: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        out.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        out[f"{name}.num_batches_tracked"] = ()

    def conv(name: str, a: int, b: int, side: int, bias: bool) -> None:
        out[f"{name}.weight"] = (b, a, side, side)
        out.update({f"{name}.bias": (b,)} if bias else {})

    def block(name: str, a: int, b: int) -> None:
        for i, (left, right) in enumerate([(a, b // 2), (b // 2, b // 4), (b // 4, b // 4)], start=1):
            norm(f"{name}.bn{i}", left)
            conv(f"{name}.conv{i}", left, right, 3, bias=False)
        if a != b:
            norm(f"{name}.downsample.0", a)
            conv(f"{name}.downsample.2", a, b, 1, bias=False)

    conv("conv1", 3, 64, 7, bias=True)
    norm("bn1", 64)
    for name, a, b in (("conv2", 64, 128), ("conv3", 128, 128), ("conv4", 128, 256)):
        block(name, a, b)
    for i in range(2):
        for name in [*(f"b{n}_{level}" for level in (4, 3, 2, 1) for n in (1, 2, 3)), "b2_plus_1"]:
            block(f"m{i}.{name}", 256, 256)
        block(f"top_m_{i}", 256, 256)
        conv(f"conv_last{i}", 256, 256, 1, bias=True)
        norm(f"bn_end{i}", 256)
        conv(f"l{i}", 256, 68, 1, bias=True)
    conv("bl0", 256, 256, 1, bias=True)
    conv("al0", 68, 256, 1, bias=True)
    conv("conv1x1_input_emo_2", 768, 256, 1, bias=True)
    for i in (0, 2, 4, 6):
        block(f"emo_net_2.{i}", 256, 256)
    out |= {"emo_fc_2.0.weight": (128, 256), "emo_fc_2.0.bias": (128,), "emo_fc_2.3.weight": (10, 128), "emo_fc_2.3.bias": (10,)}
    norm("emo_fc_2.1", 128)
    return out


def random_weights() -> dict[str, torch.Tensor]:
    """Under which the ten numbers depend on the picture and do not leave their ranges."""
    rng, out = np.random.default_rng(0), {}
    for name, shape in emonet_layout().items():
        if name.endswith("num_batches_tracked"):
            out[f"module.{name}"] = torch.tensor(1)
            continue
        spread = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.02
        values = (spread * rng.standard_normal(shape)).astype(np.float32)
        values += np.float32("running_var" in name or (".weight" in name and len(shape) == 1))
        out[f"module.{name}"] = torch.from_numpy(values * np.float32(SMALLER.get(name, 1)))
    return out


SMALLER = {"l1.weight": 2e-4, "conv1x1_input_emo_2.weight": 0.05, "emo_fc_2.3.weight": 0.4}

PICTURE = (np.add.outer(np.arange(256), np.arange(256) * 3)[..., None] * [1, 2, 5] // 3 % 256).astype(np.uint8)


def saved(path: Path, weights: dict[str, torch.Tensor], zipped: bool = False) -> Path:
    """As torch 1.2 wrote files, when EmoNet was published, or as it writes them now."""
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.fixture(scope="module")
def emonet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("emonet") / "emonet_8.pth", random_weights())


@pytest.fixture(scope="module")
def emonet(emonet_file: Path) -> EmoNetEstimator:
    return EmoNetEstimator(emonet_file)


def test_emonet_has_the_names_and_shapes_of_its_file():
    there = {name: tuple(value.shape) for name, value in EmoNet().state_dict().items()}
    assert there == emonet_layout() and len(there) == 682
    assert sum(p.numel() for p in EmoNet().parameters()) == 13_963_410


def test_a_file_of_this_layout_has_the_size_of_the_published_one():
    """To some hundred bytes of names in 56 MB; one tensor more or less is at least 160 bytes, the batch counters are 17,000."""
    file = io.BytesIO()
    torch.save(random_weights(), file, _use_new_zipfile_serialization=False)
    assert abs(file.tell() - ASSETS["emonet"].size) < 2000


@pytest.mark.parametrize("change", ["several GPUs", "one GPU", "a new file", "no batch counters"])
def test_every_way_to_save_emonet_loads_with_the_same_result(tmp_path: Path, emonet: EmoNetEstimator, change: str):
    weights = random_weights()
    if change == "one GPU":
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    if change == "no batch counters":
        weights = {name: value for name, value in weights.items() if "num_batches" not in name}
    loaded = EmoNetEstimator(saved(tmp_path / "emonet_8.pth", weights, zipped=change == "a new file"))
    assert np.array_equal(loaded.estimate([PICTURE]), emonet.estimate([PICTURE]))


def test_emonet_computes_what_the_authors_network_computes(emonet: EmoNetEstimator):
    """The expected numbers are those of face-analysis/emonet at 49eef30, with the same random weights and picture."""
    x = torch.from_numpy(PICTURE).permute(2, 0, 1)[None].float() / 255
    expected = [0.56147, 0.03575, 0.81196, 0.06984, 0.36907, -0.14165, -0.36622, -0.47675, 0.35874, 0.73314]
    assert np.allclose(emonet.network(x)[0].numpy(), expected, atol=2e-4)
    [read] = emonet.estimate([PICTURE])
    assert np.allclose(read[:2], expected[-2:], atol=2e-4) and np.allclose(read[2:], torch.tensor(expected[:8]).softmax(0), atol=2e-4)


def test_emonet_reads_pixels_and_does_not_mix_up_a_batch(emonet: EmoNetEstimator):
    crops = [PICTURE, 255 - PICTURE, 0 * PICTURE]
    together = emonet.estimate(crops)
    assert together.shape == (3, 10) and together.dtype == np.float32
    assert np.allclose(together[1], emonet.estimate(crops[1:2])[0], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.01
    assert emonet.estimate([]).shape == (0, 10)
    for vector in together:
        Emotion.from_vector(vector)


def test_classes_come_in_one_order_everywhere(tmp_path: Path):
    assert tuple(EMONET_ORDER.lower().split(", ")) == EMOTIONS
    assert sorted(HSEMOTION_NAMES.values()) == sorted(EMOTIONS) and ESTIMATORS == ESTIMATOR_NAMES
    weights = random_weights()
    weights["module.emo_fc_2.3.weight"] = torch.zeros(10, 128)
    weights["module.emo_fc_2.3.bias"] = torch.tensor([*np.log(np.arange(1, 9) / 36), 0.25, -7.0])
    [found] = EmoNetEstimator(saved(tmp_path / "emonet_8.pth", weights)).estimate([np.zeros((256, 256, 3), np.uint8)])
    assert np.allclose(found, [0.25, -1.0, *(np.arange(1, 9) / 36)], atol=1e-5), "valence, arousal within -1..1, then the file's classes in their order"


def test_emonets_crop_is_the_square_of_its_authors(astronaut: np.ndarray, face: Face):
    """Their box is that of 68 landmarks, without the forehead; side (width + height) / 1.1; black outside the photo."""
    marked = astronaut.copy()
    box = face.landmarks[list(OUTLINE), :2]
    (x0, y0), (x1, y1) = box.min(0), box.max(0)
    side = (x1 - x0 + y1 - y0) / 1.1
    assert y0 > face.box[1] + 0.1 * face.size, "the forehead is in the box"
    grid = np.stack(np.meshgrid(np.arange(512) + 0.5, np.arange(512) + 0.5), -1)
    crop = emonet_crop(np.concatenate([grid / 2, np.full((512, 512, 1), 255)], -1).astype(np.uint8), face)
    assert crop.shape == (256, 256, 3) and crop.dtype == np.uint8
    assert np.allclose(2 * crop[128, 128, :2].astype(float), [(x0 + x1) / 2, (y0 + y1) / 2], atol=3)
    across, down = 2 * (crop[128, 250, 0].astype(float) - crop[128, 5, 0]), 2 * (crop[250, 128, 1].astype(float) - crop[5, 128, 1])
    assert across == pytest.approx(side * 245 / 256, abs=4) and down == pytest.approx(side * 245 / 256, abs=4)
    close = np.ascontiguousarray(marked[int(y0) :, int(x0) :])
    moved = Face(face.landmarks - np.float32([int(x0), int(y0), 0]), face.blendshapes, face.head_matrix, close.shape[:2])
    cut = emonet_crop(close, moved)
    assert (cut[:20] == 0).all() and (cut[:, :20] == 0).all() and cut[128, 128].any()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no EmoNet weights"),
        (b"<html>not found</html>", "does not hold EmoNet's weights"),
        ({"a": torch.zeros(1)}, "does not hold EmoNet's weights"),
        ({**random_weights(), "module.emo_fc_2.3.weight": torch.zeros(7, 128)}, "8 classes .* found 5 classes"),
        ({**random_weights(), "module.conv1.weight": torch.zeros(64, 1, 7, 7)}, "681 of 682 tensors fit"),
        ({name: value for name, value in random_weights().items() if "module.m1" not in name}, "of 682 tensors fit"),
    ],
    ids=["missing", "a web page", "another model", "five classes", "a wrong shape", "cut"],
)
def test_a_file_that_is_not_emonets_is_told_in_one_sentence(tmp_path: Path, content: object, words: str):
    path = tmp_path / "emonet_8.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        saved(path, content)
    with pytest.raises(ModelError, match=words) as caught:
        EmoNetEstimator(path)
    assert "\n" not in str(caught.value) and "facecrafter assets" in str(caught.value)


def hsemotion_model(path: Path, bias: list[float], features: int = 3) -> Path:
    """The mean of each normalised colour, and the layer that the package takes off the end: [N, 3, 224, 224] -> [N, len(bias)]."""
    onnx = pytest.importorskip("onnx", reason="SKIPPED: HSEmotion is not tested, onnx is not installed")
    from onnx import TensorProto, helper, numpy_helper

    weight = 0.01 * np.random.default_rng(0).normal(size=(len(bias), features)).astype(np.float32)
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.float32(bias), "b")]
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["output"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("input", ["N", 3, 224, 224]), ("output", ["N", len(bias)]))]
    model = helper.make_model(helper.make_graph(nodes, "hsemotion", ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package with a home of its own; it cannot download."""
    pytest.importorskip("emotiefflib", reason="SKIPPED: HSEmotion is not tested, emotiefflib is not installed")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()

    def refuse(*_: object) -> None:
        raise AssertionError("something was downloaded")

    monkeypatch.setattr(urllib.request, "urlretrieve", refuse)


ALPHABET = ("anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""HSEmotion's order."""


def test_hsemotions_classes_are_put_in_our_order_without_a_download(no_network: None, folder: Path, astronaut: np.ndarray, face: Face):
    path = hsemotion_model(folder / "enet_b0_8_va_mtl.onnx", [*np.log(np.arange(1, 9) / 36), 0.5, -3.0])
    estimator = HSEmotionEstimator(path)
    [found] = estimator.estimate([estimator.look(astronaut, face)])
    for i, name in enumerate(EMOTIONS):
        assert found[2 + i] == pytest.approx((1 + ALPHABET.index(name)) / 36, abs=0.02)
    assert found[0] == pytest.approx(0.5, abs=0.05) and found[1] == -1
    [read] = read_emotions(estimator, [astronaut], [face])
    assert read.label == "surprise" and estimator.estimate([]).shape == (0, 10)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def test_hsemotion_sees_the_whole_face_in_rgb(no_network: None, folder: Path, astronaut: np.ndarray, face: Face):
    estimator = HSEmotionEstimator(hsemotion_model(folder / "enet_b0_8_va_mtl.onnx", [0.0] * 10))
    look = estimator.look(astronaut, face)
    assert look.shape == (224, 224, 3) and look.dtype == np.uint8
    assert look[112, 112, 0] > look[112, 112, 2], "skin has more red than blue"
    x0, y0, x1, y1 = (int(v) for v in face.box)
    marks = np.zeros((512, 512, 3), np.uint8)
    marks[y0:y1, x0:x1] = 255
    seen = estimator.look(marks, face)[..., 0] > 127
    assert seen.any(1).sum() >= 222 or seen.any(0).sum() >= 222, "the longer side of the face fills the square"


def test_a_path_that_the_package_misreads_is_told(no_network: None, folder: Path):
    path = hsemotion_model(folder / "disk_7/enet_b0_8_va_mtl.onnx", [0.0] * 10)
    with pytest.raises(ModelError, match="takes .* for another one. Name the file enet_b0_8_va_mtl.onnx"):
        HSEmotionEstimator(path)
    with pytest.raises(ModelError, match="Name the file enet_b0_8_va_mtl.onnx"):
        HSEmotionEstimator(hsemotion_model(folder / "emotion.onnx", [0.0] * 10))


def test_a_file_that_is_not_hsemotions_is_told(no_network: None, folder: Path):
    with pytest.raises(ModelError, match="no HSEmotion weights at"):
        HSEmotionEstimator(folder / "enet_b0_8_va_mtl.onnx")
    with pytest.raises(ModelError, match="10 outputs, found 8"):
        HSEmotionEstimator(hsemotion_model(folder / "enet_b0_8_va_mtl.onnx", [0.0] * 8))
    (folder / "enet_b0_8_va_mtl.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be read as HSEmotion's model") as caught:
        HSEmotionEstimator(folder / "enet_b0_8_va_mtl.onnx")
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "emotiefflib.facial_analysis", None)
    (folder / "enet_b0_8_va_mtl.onnx").write_bytes(b"")
    with pytest.raises(AssetError, match="pip install emotiefflib"):
        HSEmotionEstimator(folder / "enet_b0_8_va_mtl.onnx")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(search, "_search_folders", [])
    monkeypatch.setattr(search, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path


def test_automatic_is_what_the_family_is_trained_with(nowhere: Path):
    assert emotion_weights("automatic", "demo") == emotion_weights("demo", "full", nowhere) == DEMO_FOLDER / "emotion/model.safetensors"
    assert emotion_weights("automatic", "demo", nowhere) == nowhere / "emotion/model.safetensors"
    assert isinstance(load_emotion_estimator("automatic", "demo"), DemoEmotionEstimator)
    with pytest.raises(AssetError, match=r"emonet_8.pth .* licence: CC BY-NC-ND 4.0.* `facecrafter assets download emonet`"):
        load_emotion_estimator("automatic", "full", nowhere)
    with pytest.raises(AssetError, match=r"enet_b0_8_va_mtl.onnx .* licence: Apache-2.0.* `facecrafter assets download hsemotion`"):
        load_emotion_estimator("hsemotion", "demo")
    with pytest.raises(ModelError, match="one of automatic, demo, emonet, hsemotion, found 'fer'"):
        load_emotion_estimator("fer", "demo")


def test_an_estimator_says_the_licence_of_its_asset():
    for kind, name in ((EmoNetEstimator, "emonet"), (HSEmotionEstimator, "hsemotion")):
        assert kind.licence == ASSETS[name].licence


def test_the_demos_network_reads_expression_scores(astronaut: np.ndarray, face: Face):
    [emotion] = read_emotions(load_emotion_estimator("demo", "demo"), [astronaut], [face])
    assert emotion.label == "happy" and emotion.valence > 0.2
    assert re.match(r"happy 0\.\d\d", emotion.describe())
