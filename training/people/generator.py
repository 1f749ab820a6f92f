"""MobileStyleGAN (Belousov 2021, arXiv:2104.04767) in torch: pictures of people who do not exist.

The weights come from the PyPI package random-face, which carries them as OpenVINO files; training/people/fetch_generator.py gets them without what
else the package asks for. The network was distilled from StyleGAN2 trained on FFHQ; its pictures are for research and non-commercial use.

Shapes: B pictures, C channels, S = 23 style inputs. Each level doubles the side by an inverse Haar wavelet transform of its channels.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear

from facecrafter_core.errors import FaceCrafterError
from facecrafter_core.search import cache_folder, sha256

STYLE_DIM = 512
STYLE_INPUTS = 23
"""One for the constant, three a level for seven levels, one for the picture."""

SHAPE_INPUTS = 9
"""The first style inputs: pose, shape and features. The others are hair, skin and light."""

SIDE = 512
"""Of the pictures. The network's own 1024 are the next step of the transform; their 2 x 2 means are what is made here."""

PACKAGE = "random-face==2021.7.21.1"

FILES = {
    "MappingNetwork.xml": (59_865, "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b"),
    "MappingNetwork.bin": (8_405_040, "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305"),
    "SynthesisNetwork.xml": (425_183, "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd"),
    "SynthesisNetwork.bin": (32_025_440, "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645"),
}
"""The package's data files: their bytes and their SHA-256."""

FETCH = "python -m training.people.fetch_generator"


class GeneratorError(FaceCrafterError):
    """The generator's weights are missing or are not what they should be."""


class Mapping(nn.Module):
    """z [B, 512], standard normal -> style w [B, 512]."""

    def __init__(self, weights: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        for i, (weight, bias) in enumerate(weights):
            self.register_buffer(f"weight_{i}", weight)
            self.register_buffer(f"bias_{i}", bias)
        self.layers = len(weights)

    def forward(self, z: Tensor) -> Tensor:
        x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for i in range(self.layers):
            x = leaky_relu(linear(x, getattr(self, f"weight_{i}"), getattr(self, f"bias_{i}")), 0.2) * 2**0.5
        return x


class Synthesis(nn.Module):
    """Styles -> pictures. Weights are buffers: the network is never trained, but gradients flow through it to the styles."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            self.register_buffer(name, weight)

    def forward(self, styles: Tensor) -> Tensor:
        """styles [B, 512], or [B, 23, 512] with one for each input -> pictures [B, 3, 512, 512], about -1 to 1."""
        if styles.dim() == 2:
            styles = styles[:, None].expand(-1, STYLE_INPUTS, -1)
        return self.synthesize([self.scales(i, styles[:, i]) for i in range(STYLE_INPUTS)])

    def scales(self, index: int, style: Tensor) -> Tensor:
        """One style input [B, 512] -> the factors [B, C, 1, 1] of the channels that it drives."""
        return linear(style, getattr(self, f"style_{index}"), getattr(self, f"style_bias_{index}"))[:, :, None, None]

    def synthesize(self, scales: list[Tensor]) -> Tensor:
        """The factors of all 23 inputs -> pictures [B, 3, 512, 512]."""
        x = scales[0] * self.constant
        x = self._finish(conv2d(x, self.conv_0, padding=1), 0)
        for level in range(7):
            up, first, second = scales[1 + 3 * level : 4 + 3 * level]
            x = inverse_haar(x * up)
            for place, scale in ((2 * level + 1, first), (2 * level + 2, second)):
                x = conv2d(x * scale, getattr(self, f"depthwise_{place}"), padding=1, groups=x.shape[1])
                x = self._finish(conv2d(x, getattr(self, f"conv_{place}")), place)
        bands = conv2d(x * scales[-1], self.picture, self.picture_bias)
        return bands[:, :3] / 2

    def _finish(self, x: Tensor, place: int) -> Tensor:
        return leaky_relu(x + getattr(self, f"noise_{place}") + getattr(self, f"bias_{place}"), 0.2)


def inverse_haar(x: Tensor) -> Tensor:
    """Wavelet bands [B, 4 C, H, W] (C low, then C times three high) -> [B, C, 2 H, 2 W]."""
    b, channels, h, w = x.shape
    c = channels // 4
    low, (down, right, both) = x[:, :c], x[:, c:].reshape(b, c, 3, h, w).unbind(2)
    corners = (low + down + right + both, low + down - right - both, low - down + right - both, low - down - right + both)
    return nn.functional.pixel_shuffle(torch.stack(corners, 2).reshape(b, channels, h, w) / 2, 2)


def load_generator(folder: Path | None = None) -> tuple[Mapping, Synthesis]:
    """Mapping and synthesis network in fp32 on the CPU.

    Args:
        folder: where the four FILES are; None: see find_folder.

    Raises:
        GeneratorError: a file is missing, cut, or of another network.
    """
    folder = find_folder() if folder is None else Path(folder)
    check_files(folder)
    return Mapping(_mapping_weights(folder)), Synthesis(_synthesis_weights(folder))


def find_folder() -> Path:
    """The folder of the installed package random-face, or else the one that fetch_generator writes.

    Raises:
        GeneratorError: there is neither.
    """
    package = find_spec("random_face")
    if package is not None and package.submodule_search_locations:
        return Path(package.submodule_search_locations[0]) / "data"
    if fetched_folder().is_dir():
        return fetched_folder()
    raise GeneratorError(f"The generator's weights are not in {fetched_folder()}, and the package random-face is not installed. Run: {FETCH}")


def fetched_folder() -> Path:
    """Where fetch_generator puts the files unless it is told another place; need not exist."""
    return cache_folder() / "generator"


def check_files(folder: Path) -> None:
    """The networks' descriptions must be the package's, byte for byte, and the weights as long as they say. (fetch_generator compares all bytes.)

    Raises:
        GeneratorError: a file is missing, cannot be read, or is another one.
    """
    for name, (size, expected) in FILES.items():
        path = folder / name
        try:
            length, found = path.stat().st_size, sha256(path) if path.suffix == ".xml" else expected
        except OSError as error:
            raise GeneratorError(f"The generator's file {path} cannot be read ({error.strerror}). Run: {FETCH} --out {folder}") from error
        if (length, found) != (size, expected):
            raise GeneratorError(
                f"{path} is cut or belongs to another network: expected {size:,} bytes of {PACKAGE}, found {length:,} bytes"
                f"{' and other content' if length == size else ''}. Run: {FETCH} --out {folder}"
            )


def _mapping_weights(folder: Path) -> list[tuple[Tensor, Tensor]]:
    constants = list(_constants(folder / "MappingNetwork"))
    matrices = [w for kind, w in constants if kind == "MatMul"]
    biases = [w for kind, w in constants if kind == "Reshape" and w.shape == (STYLE_DIM,)]
    return list(zip(matrices, biases, strict=True))


def _synthesis_weights(folder: Path) -> dict[str, Tensor]:
    """Constants in the order of the network -> the buffers of Synthesis."""
    by: dict[str, list[Tensor]] = {"style": [], "style_bias": [], "depthwise": [], "conv": [], "noise": [], "bias": [], "gain": [], "constant": []}
    for kind, w in _constants(folder / "SynthesisNetwork"):
        if kind == "MatMul":
            by["style"].append(w)
        elif kind == "GroupConvolution":
            by["depthwise"].append(w.reshape(-1, 1, 3, 3))
        elif kind == "Convolution":
            by["conv"].append(w)
        elif kind == "Multiply":
            by["gain"].append(w)
        elif kind == "Broadcast" and w.dim() == 4:
            by["constant"].append(w)
        elif kind == "Add" and w.dim() == 2:
            by["style_bias"].append(w.reshape(-1))
        elif kind == "Add":
            by["noise" if w.shape[1] == 1 else "bias"].append(w)
    gains = iter(by["gain"])
    result = {"constant": by["constant"][0], "picture": by["conv"].pop(), "picture_bias": by["bias"].pop().reshape(-1)}
    for i, (weight, bias) in enumerate(zip(by["style"], by["style_bias"], strict=True)):
        # the first input, the two convolutions of each level and the picture's have a gain; the transform's has none
        gain = next(gains).item() if i == 0 or i == STYLE_INPUTS - 1 or i % 3 != 1 else 1.0
        result |= {f"style_{i}": weight * gain, f"style_bias_{i}": bias * gain}
    for i in range(15):
        result |= {f"conv_{i}": by["conv"][i], f"noise_{i}": by["noise"][i], f"bias_{i}": by["bias"][i]}
        if i:
            result[f"depthwise_{i}"] = by["depthwise"][i - 1]
    return result


def _constants(path: Path) -> Iterator[tuple[str, Tensor]]:
    """(kind of the layer that reads it, constant) in the order of the network, from PATH.xml and PATH.bin, which check_files has seen."""
    root, blob = ElementTree.parse(path.with_suffix(".xml")).getroot(), path.with_suffix(".bin").read_bytes()
    layers = {layer.get("id"): layer for layer in root.iter("layer")}
    readers = []
    for edge in root.iter("edge"):
        source, target = layers[edge.get("from-layer")], layers[edge.get("to-layer")]
        if source.get("type") == "Const" and source.find("data").get("element_type") == "f32":
            place = int(re.search(r"_(\d+)", target.get("name")).group(1)) if "_" in target.get("name") else 10**6
            readers.append((place, int(edge.get("to-port")), target.get("type"), source.find("data")))
    for _, _, kind, data in sorted(readers, key=lambda r: r[:2]):
        shape = [int(n) for n in data.get("shape").split(",")] if data.get("shape") else []
        start, size = int(data.get("offset")), int(data.get("size"))
        yield kind, torch.from_numpy(np.frombuffer(blob, np.float32, size // 4, start).reshape(shape).copy())
