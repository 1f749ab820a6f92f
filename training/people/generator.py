"""MobileStyleGAN (Belousov 2021, arXiv:2104.04767) in torch: pictures of people who do not exist.

The weights come from the PyPI package random-face, which carries them as OpenVINO files. The network was distilled from StyleGAN2 trained on
FFHQ; its pictures are for research and non-commercial use.

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

STYLE_DIM = 512
STYLE_INPUTS = 23
"""One for the constant, three a level for seven levels, one for the picture."""

SIDE = 512
"""Of the pictures. The network's own 1024 are the next step of the transform; their 2 x 2 means are what is made here."""

_KINDS = {"f32": np.float32, "i64": np.int64}


class GeneratorError(ValueError):
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
        folder: where MappingNetwork.xml, SynthesisNetwork.xml and their .bin files are; None: the installed package random-face.

    Raises:
        GeneratorError: the package or a file is missing, or a file is cut or of another network.
    """
    if folder is None:
        found = find_spec("random_face")
        if found is None:
            raise GeneratorError('The generator comes from the package random-face, which is not installed. Run: pip install -e ".[people]"')
        folder = Path(found.submodule_search_locations[0]) / "data"
    return Mapping(_mapping_weights(folder)), Synthesis(_synthesis_weights(folder))


def _mapping_weights(folder: Path) -> list[tuple[Tensor, Tensor]]:
    constants = list(_constants(folder / "MappingNetwork"))
    matrices = [w for kind, w in constants if kind == "MatMul"]
    biases = [w for kind, w in constants if kind == "Reshape" and w.shape == (STYLE_DIM,)]
    if len(matrices) != 8 or len(biases) != 8:
        raise GeneratorError(f"Expected 8 layers in {folder / 'MappingNetwork.xml'}, found {len(matrices)}. Install random-face 2021.7.21.1.")
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
    found = {name: len(many) for name, many in by.items()}
    expected = {"style": 23, "style_bias": 23, "depthwise": 14, "conv": 16, "noise": 15, "bias": 16, "gain": 16, "constant": 1}
    if found != expected:
        raise GeneratorError(f"Expected {expected} weights in {folder / 'SynthesisNetwork.xml'}, found {found}. Install random-face 2021.7.21.1.")
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
    """(kind of the layer that reads it, constant) in the order of the network, from PATH.xml and PATH.bin."""
    xml, binary = path.with_suffix(".xml"), path.with_suffix(".bin")
    try:
        root, blob = ElementTree.parse(xml).getroot(), binary.read_bytes()
    except (OSError, ElementTree.ParseError) as error:
        raise GeneratorError(f"{xml} and {binary.name} cannot be read ({error}). Install random-face 2021.7.21.1 again.") from error
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
        if start + size > len(blob):
            raise GeneratorError(f"Expected at least {start + size} bytes in {binary}, found {len(blob)}. Install random-face 2021.7.21.1 again.")
        yield kind, torch.from_numpy(np.frombuffer(blob, np.float32, size // 4, start).reshape(shape).copy())
