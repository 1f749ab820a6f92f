"""Directions in style space: the regression, the optimisation, the file, and the whole command with a small generator."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from facecrafter_core.errors import ModelError
from facecrafter_core.faces.edit import neutral_landmarks
from training.people import fit_directions, measure_directions, reader
from training.people.directions import AIMS, BREAK_THE_FACE, FILE, SCORES, Directions, style_inputs
from training.people.fit_directions import Settings, fit_ridge, optimise, random_edits
from training.people.generator import GeneratorError
from training.people.maker import Found, Maker
from training.people.reader import Reader, train_reader
from training.people.warp import warp_faces

from .world import tiny_mapping, tiny_synthesis

SMALL = Settings(people=8, reader_steps=4, reader_batch=4, steps=2, pool=2, batch=2, check=4)


class StandInFinder:
    """Faces whose scores are brightnesses of the picture's parts. Every fifth picture has none."""

    def __init__(self, *_: object) -> None:
        self.seen = 0

    def __call__(self, pictures: list[np.ndarray]) -> list[SimpleNamespace | None]:
        return [self.face(picture) for picture in pictures]

    def face(self, picture: np.ndarray) -> SimpleNamespace | None:
        assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
        self.seen += 1
        if self.seen % 5 == 0:
            return None
        parts = picture[:, :, 0].reshape(8, 32, 8, 32).mean((1, 3)).ravel() / 255
        return SimpleNamespace(landmarks=256 * neutral_landmarks(), pose=60 * parts[:3] - 30, blendshapes=parts[3:55])

    def close(self) -> None:
        pass


class StandInRecogniser(torch.nn.Module):
    """A vector from the chip's brightness in 8 x 16 parts."""

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(chips.mean(1, keepdim=True), (8, 16)).flatten(1)


def directions_of(seed: int = 0) -> Directions:
    r = np.random.default_rng(seed)
    names, optnames = ("yaw", "browInnerUp", "eyeBlinkLeft", "eyeBlinkRight"), ("jaw", "smile")
    arrays = {"ridge": (512, 4), "sd": (4,), "mean": (512,), "opt": (2, 9, 512)}
    return Directions(**{name: r.random(shape, np.float32) + 0.1 for name, shape in arrays.items()}, names=names, optnames=optnames)


def people_of(count: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Styles made of three scores and of an identity that goes with the first of them; the three scores' directions [512, 3]."""
    r = np.random.default_rng(1)
    ways, person = r.normal(size=(512, 3)), r.normal(size=(512, 6))
    identities = r.normal(size=(count, 6))
    scores = np.zeros((count, len(SCORES)))
    scores[:, :3] = r.normal(size=(count, 3)) * (12, 6, 2)
    scores[:, 0] += 8 * identities[:, 0]
    styles = scores[:, :3] @ ways.T + 30 * identities @ person.T
    return styles, scores, np.pad(identities, ((0, 0), (0, 122))), ways


def test_a_scores_direction_leaves_the_identity_that_goes_with_it() -> None:
    styles, scores, identities, ways = people_of()
    ridge, names, sd = fit_ridge(styles, scores, identities)
    assert names == ("yaw", "pitch", "roll") and ridge.dtype == np.float32
    off = np.abs(ridge / sd - ways).max() / np.abs(ways).max()
    without = fit_ridge(styles, scores, np.random.default_rng(2).normal(size=identities.shape))[0]
    assert off < 0.2 < np.abs(without / sd - ways).max() / np.abs(ways).max()


def test_a_score_that_does_not_vary_has_no_direction_and_adds_nothing() -> None:
    directions = directions_of()
    assert not directions.along({"noseSneerLeft": 0.3}).any()
    assert np.allclose(directions.along({"yaw": 20.0, "noseSneerLeft": 0.3}), directions.ridge[:, 0] * 20 / directions.sd[0])


def test_random_edits_move_both_sides_alike_and_raise_what_cannot_fall() -> None:
    directions = directions_of()
    changes = random_edits(directions, 400, np.random.default_rng(3)) @ np.linalg.pinv(directions.ridge.T) * directions.sd
    assert changes[:, 0].std() == pytest.approx(22, rel=0.1) and changes[:, 1].min() > -1e-4
    assert np.allclose(changes[:, 2], changes[:, 3], atol=1e-4) and np.mean(abs(changes[:, 1]) > 1e-4) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("name", "free"), [("lookD", ("eyeBlinkLeft",)), ("yaw", ())])
def test_an_optimised_direction_does_what_is_asked_and_keeps_the_rest(name: str, free: tuple[str, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    to_scores, to_vector = (torch.randn(512, n, generator=random) / 512**0.5 for n in (len(SCORES), 128))
    unit = torch.tensor([10.0] * 3 + [0.2] * 52)

    def see(styles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert styles.shape[1:] == (23, 512)
        style = styles[:, :9].mean(1)
        return style @ to_scores * unit, style @ to_vector * 0.3

    pool = torch.randn(8, 512, generator=random)
    settings = Settings(steps=300, batch=8)
    change = optimise(see, pool, torch.zeros(512), AIMS[name], unit, settings, random, free)
    before, after = see(style_inputs(pool)), see(style_inputs(pool, change[None]))
    moved = ((after[0] - before[0]) / unit).mean(0)
    for i, score in enumerate(SCORES):
        asked = AIMS[name].get(score, 0.0) / unit[i].item()
        if score not in free:
            assert moved[i].item() == pytest.approx(asked, abs=0.15 * max(1, abs(asked))), score
    assert change.shape == (9, 512) and (after[1] - before[1]).norm(dim=1).max() < 0.3


def test_edits_reach_the_first_nine_inputs_alone() -> None:
    styles, edit = torch.randn(3, 512), torch.randn(1, 512)
    plain, edited = style_inputs(styles), style_inputs(styles, edit)
    assert torch.equal(edited[:, 9:], plain[:, 9:]) and torch.equal(edited[:, :9], plain[:, :9] + edit)
    assert torch.equal(edited, style_inputs(styles, edit.expand(1, 9, 512))) and torch.equal(plain, styles[:, None].expand(3, 23, 512))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of few channels, and warps on a coarse grid."""
    monkeypatch.setattr(reader, "WIDTHS", (8, 16, 16, 16, 16))
    monkeypatch.setattr(fit_directions, "warp_faces", partial(warp_faces, grid_side=16))


def test_the_reader_learns_what_is_in_the_pictures(narrow: None) -> None:
    random = torch.Generator().manual_seed(0)
    level = torch.randint(20, 236, (128, 3, 1, 1), generator=random)
    pictures = level.expand(-1, -1, 128, 128).byte()
    scores = torch.zeros(128, len(SCORES))
    scores[:, 0] = (level[:, 0] - level[:, 1]).flatten() / 10
    network, explained = train_reader(pictures, scores, 60, 16, random)
    assert isinstance(network, Reader) and explained > 0.5 and not any(p.requires_grad for p in network.parameters())
    assert network(torch.zeros(2, 3, 128, 128)).shape == (2, len(SCORES))


def test_the_committed_file_holds_every_aim() -> None:
    directions = Directions.load(FILE)
    assert directions.optnames == tuple(AIMS) and set(BREAK_THE_FACE) < set(AIMS) and set(directions.names) < set(SCORES)


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = directions_of()
    read = Directions.load(written.save(tmp_path / "directions.npz"))
    assert all(np.array_equal(getattr(read, name), getattr(written, name)) for name in Directions.__dataclass_fields__)
    with np.load(tmp_path / "directions.npz") as new, np.load(FILE) as old:
        assert {name: (array.dtype.kind, array.ndim) for name, array in new.items()} == {name: (array.dtype.kind, array.ndim) for name, array in old.items()}


@pytest.mark.parametrize("wrong", ["missing", "cut", "another", "shapes"])
def test_another_file_is_told(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "directions.npz"
    if wrong == "cut":
        path.write_bytes(FILE.read_bytes()[:5000])
    elif wrong == "another":
        np.save(path.open("wb"), np.zeros(3))
    elif wrong == "shapes":
        Directions(**{**vars(directions_of()), "sd": np.zeros(3)}).save(path)
    with pytest.raises(ModelError, match="directions.npz.* Reinstall FaceCrafter or run training.people.fit_directions"):
        Directions.load(path)


def test_people_are_the_same_again_and_others_with_another_seed() -> None:
    maker = Maker(tiny_mapping(), tiny_synthesis(), StandInRecogniser(), StandInFinder(), torch.device("cpu"))
    assert torch.equal(maker.styles(3, 0.8, 1), maker.styles(3, 0.8, 1)) and not torch.equal(maker.styles(3, 0.8, 1), maker.styles(3, 0.8, 2))
    assert torch.allclose(maker.styles(3, 0.4, 1) - maker.mean, (maker.styles(3, 0.8, 1) - maker.mean) / 2, atol=1e-5)


def test_pictures_without_a_face_are_left_out() -> None:
    maker = Maker(tiny_mapping(), tiny_synthesis(), StandInRecogniser(), StandInFinder(), torch.device("cpu"), batch=2)
    found = Found.join([seen for _, seen in maker.survey(maker.styles(6, 0.8, 0), chunk=4)])
    assert found.kept.tolist() == [True] * 4 + [False, True]
    assert [len(part) for part in (found.landmarks, found.scores, found.identity, found.small)] == [5] * 4
    maker.find = lambda pictures: [None] * len(pictures)
    with pytest.raises(GeneratorError, match="No face was found in any of 4 generated pictures"):
        Found.join([seen for _, seen in maker.survey(maker.styles(4, 0.8, 0))])


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """The command with a small generator and stand-ins for MediaPipe and the recogniser."""
    monkeypatch.setattr(fit_directions, "load_generator", lambda _: (tiny_mapping(), tiny_synthesis()))
    monkeypatch.setattr(fit_directions, "Finder", StandInFinder)
    monkeypatch.setattr(fit_directions, "DlibResNet", SimpleNamespace(load=StandInRecogniser))
    monkeypatch.setattr(fit_directions, "AIMS", {name: AIMS[name] for name in ("jaw", "yaw")})
    small = [text for name, value in vars(SMALL).items() for text in (f"--{name.replace('_', '-')}", str(value))]
    monkeypatch.setattr(sys, "argv", ["fit_directions", *small, "--device", "cpu", *options])
    fit_directions.main()


def test_the_command_writes_directions_a_sheet_and_a_table(
    narrow: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, sheet = tmp_path / "new/directions.npz", tmp_path / "sheet.jpg"
    run(monkeypatch, "--out", str(out), "--sheet", str(sheet))
    directions = Directions.load(out)
    assert directions.optnames == ("jaw", "yaw") and directions.opt.any(axis=(1, 2)).all() and np.isfinite(directions.opt).all()
    assert Image.open(sheet).size == (4 * 256, 3 * 256)
    table = capsys.readouterr().out.split("asked and found\n")[1].splitlines()
    assert [line.split()[0] for line in table] == ["jaw", "yaw"] and "jawOpen +0.50 " in table[0] and "yaw +38.00 " in table[1]
    assert [p.name for p in out.parent.iterdir()] == ["directions.npz"]


def test_a_file_is_measured_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(measure_directions, "load_generator", lambda _: (tiny_mapping(), tiny_synthesis()))
    monkeypatch.setattr(measure_directions, "Finder", StandInFinder)
    monkeypatch.setattr(measure_directions, "DlibResNet", SimpleNamespace(load=StandInRecogniser))
    path = replace(directions_of(), opt=np.zeros((2, 9, 512))).save(tmp_path / "directions.npz")
    monkeypatch.setattr(sys, "argv", ["measure_directions", "--directions", str(path), "--people", "3", "--device", "cpu"])
    measure_directions.main()
    assert " 0.00      1.00  jawOpen +0.50 +0.00\n" in capsys.readouterr().out  # nothing moved


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--people", "0"), r"error: Expected --people of at least 2, found 0\."),
        (("--sheet", "x.gif"), r"error: Expected a picture file ending in"),
        (("--out", "file/directions.npz"), r"error: Could not make the folder .*file"),
    ],
)
def test_wrong_options_are_told_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(fit_directions, "fit", lambda *_: pytest.fail("the work has begun"))
    with pytest.raises(SystemExit, match=sentence):
        run(monkeypatch, "--out", "directions.npz", *options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: There is no CUDA GPU for --device cuda"):
        run(monkeypatch, "--out", str(tmp_path / "d.npz"), "--device", "cuda")
