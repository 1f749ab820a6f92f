"""dlib's recogniser in torch, against what dlib 20.0.1 itself gives (dlib_astronaut.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from facecrafter_core.errors import ModelError
from facecrafter_core.faces.dlib_resnet import WEIGHTS, DlibResNet
from training.people.convert_dlib import convert, read

DLIB = json.loads(Path(__file__).with_name("dlib_astronaut.json").read_text())
"""cut: dlib's vector of astronaut[30:180, 150:300]. aligned: of the chip that dlib cuts by five_points."""


@pytest.fixture(scope="module")
def network() -> DlibResNet:
    return DlibResNet.load()


@pytest.fixture(scope="module")
def chip(astronaut: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(astronaut[30:180, 150:300].copy()).permute(2, 0, 1)[None].float() / 255


def test_the_vector_is_dlibs(network: DlibResNet, chip: torch.Tensor) -> None:
    assert np.abs(network(chip)[0].numpy() - DLIB["cut"]).max() < 1e-3


@pytest.mark.parametrize(("dtype", "distance"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_weights_of_half_the_size_read_nearly_the_same(chip: torch.Tensor, dtype: torch.dtype, distance: float) -> None:
    assert np.linalg.norm(DlibResNet.load(dtype=dtype)(chip)[0].float().numpy() - DLIB["cut"]) < distance


def test_a_batch_gives_each_chip_its_own_vector(network: DlibResNet, chip: torch.Tensor) -> None:
    both = network(torch.cat([chip.flip(-1), chip]))
    assert torch.allclose(both[1:], network(chip), atol=1e-5) and (both[0] - both[1]).abs().max() > 1e-3


def test_a_step_along_the_gradient_brings_two_faces_together(network: DlibResNet, chip: torch.Tensor) -> None:
    aim, moving = network(chip), chip.flip(-1).requires_grad_(True)
    distance = (network(moving) - aim).norm()
    distance.backward()
    with torch.no_grad():
        moved = moving - 0.5 * moving.grad / moving.grad.norm()
        assert (network(moved) - aim).norm() < 0.97 * distance


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3, 112, 112), torch.zeros(3, 150, 150), torch.zeros(1, 3, 150, 150, dtype=torch.uint8)])
def test_other_chips_are_refused(network: DlibResNet, wrong: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"Expected chips as floats of shape \[B, 3, 150, 150\]"):
        network(wrong)


def test_missing_and_damaged_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no recogniser weights"):
        DlibResNet.load(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(ModelError, match="does not hold the weights of dlib's recogniser"):
        DlibResNet.load(tmp_path / "cut.safetensors")


def test_the_file_names_its_author_and_licence() -> None:
    with safe_open(WEIGHTS, "pt") as file:
        assert (file.metadata()["author"], file.metadata()["license"]) == ("Davis King", "CC0-1.0")


def integer(value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 7) // 8, "little")
    return bytes([len(content)]) + content


def layer(name: str, tensor: torch.Tensor, sizes: tuple[int, ...], before: bytes = b"") -> bytes:
    """As dlib writes one: name, tensor (version, sizes, floats), and numbers that nobody needs."""
    return bytes([1, len(name)]) + name.encode() + before + b"".join(map(integer, (2, *sizes))) + tensor.numpy().astype("<f4").tobytes() + b"\x01\x00\x01\x07"


@pytest.fixture(scope="module")
def dlib_file() -> tuple[bytes, dict[str, torch.Tensor]]:
    """A file in dlib's format with random weights, and the state that it stands for."""
    torch.manual_seed(0)
    content, state = b"\x01\x01\x01\x15input_rgb_image_sized", {}
    for name, module in DlibResNet().named_modules():
        if isinstance(module, torch.nn.Conv2d):
            filters, bias, scale, shift = torch.randn(module.weight.shape), *torch.randn(3, module.out_channels)
            values = torch.cat([filters.flatten(), bias])
            content += layer("con_4", values, (len(values), 1, 1, 1)) + layer("affine_", torch.cat([scale, shift]), (1, 2 * len(scale), 1, 1))
            state |= {f"{name}.weight": filters * scale.view(-1, 1, 1, 1), f"{name}.bias": bias * scale + shift}
    head = torch.randn(256, 128)
    return content + layer("fc_2", head, (256, 128, 1, 1), integer(128) + integer(256)), state | {"head.weight": head.T}


def test_the_converter_reads_dlibs_format(dlib_file: tuple[bytes, dict[str, torch.Tensor]]) -> None:
    content, state = dlib_file
    found = convert(content)
    assert found.keys() == state.keys() == DlibResNet().state_dict().keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_the_converter_refuses_damaged_and_other_files(dlib_file: tuple[bytes, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    for content in (dlib_file[0][:-1000], dlib_file[0][:100], b"something else"):
        with pytest.raises(ModelError, match="Use an undamaged dlib_face"):
            convert(content)
    with pytest.raises(ModelError, match="There is no file"):
        read(tmp_path / "none.dat")
