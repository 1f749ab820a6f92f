"""The plan of a benchmark: who and what is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facecrafter_core.diffusion.families import DEMO_FOLDER
from facecrafter_core.errors import MetricError, NoFaceError
from facecrafter_core.faces.identity import DemoIdentityEncoder
from facecrafter_core.faces.landmarker import FaceLandmarker
from training.benchmark import Wanted, directions, load_plan, make_plan, save_plan
from training.finder import Finder
from training.methods import Conditions
from training.sources import open_source


def test_no_one_is_asked_for_with_a_photo_of_their_own(people: Path):
    plan = make_plan(open_source(people)[1], Wanted("control", "", "all", 128, 0, identities=2, targets=2, count=10), Finder(1))
    assert len(set(zip(plan.identity.tolist(), plan.target.tolist(), strict=True))) == len(plan) >= 2


class Forgetful(FaceLandmarker):
    """Loses the face in the first square that is cut."""

    lost = False

    def find_face(self, photo, choose="largest"):
        if photo.shape[0] == 128 and not self.lost:
            self.lost = True
            raise NoFaceError("none")
        return super().find_face(photo, choose)


def test_heads_are_sorted_by_the_side_to_which_they_are_turned_furthest():
    """Beyond 12 degrees of yaw and 8 of pitch; the camera that looks from above (5 degrees in all photos) turns nobody."""
    angles = np.array([[0, 0], [-20, 4], [30, -4], [5, -15], [-13, 25], [11, 7], [0, 0]], np.float32) - (0, 5)
    assert directions(angles).tolist() == [0, 1, 2, 3, 4, 0, 0]


def test_what_is_passed_over_and_what_there_is_too_little_of_is_told(people: Path, tmp_path: Path):
    shutil.copytree(people, tmp_path / "people")
    (tmp_path / "people/person_0/broken.png").write_bytes(b"no picture")
    Image.new("RGB", (64, 64)).save(tmp_path / "people/person_1/black.png")
    wanted = Wanted("control", "", "all", 128, 0, identities=2, targets=9, count=50)
    plan = make_plan(open_source(tmp_path / "people")[1], wanted, Finder(1, Forgetful()))
    looked, fewer = plan.notes
    assert "1 unreadable" in looked and "1 without a face" in looked and "1 whose face is lost in its square" in looked
    assert fewer == f"Fewer than asked for: {len(plan.targets)} of 9 targets, {len(plan)} of 50 pairs."
    save_plan(plan, tmp_path / "out")
    again = load_plan(tmp_path / "out")
    assert (again.wanted, again.notes, again.settings) == (plan.wanted, plan.notes, plan.settings)


def test_an_identity_that_the_recogniser_cannot_read_is_named(people: Path, monkeypatch: pytest.MonkeyPatch):
    plan = make_plan(open_source(people)[1], Wanted("identity", "", "all", 128, 0, identities=2, each=1), Finder(1))
    found = iter([torch.ones(1, 128)])

    def blind(self: DemoIdentityEncoder, crops: torch.Tensor) -> torch.Tensor:
        if (vector := next(found, None)) is None:
            raise NoFaceError("InsightFace's detector found no face.")
        return vector

    monkeypatch.setattr(DemoIdentityEncoder, "encode", blind)
    with pytest.raises(MetricError, match="identities/001.png of the plan cannot be read: InsightFace's detector found no face. Leave that person out"):
        _ = Conditions(plan, "demo", DEMO_FOLDER, Finder(1)).identities


def test_in_a_flat_folder_each_photo_is_a_person_compared_with_the_same_photo(people: Path, tmp_path: Path):
    """Synth-500's layout."""
    for i, portrait in enumerate(sorted(people.rglob("*.png"))):
        shutil.copy(portrait, tmp_path / f"{i}.png")
    wanted = Wanted("identity", "", "all", 128, 0, identities=500, each=2)
    plan = make_plan(open_source(tmp_path)[1], wanted, Finder(1))
    assert len(plan) == 2 * 6 and not plan.targets and plan.other_photo == 0 and "6 of 500 identities" in plan.notes[1]
    assert all((a == b).all() for a, b in zip(plan.identities, plan.references, strict=True))
    several = make_plan(open_source(people)[1], wanted, Finder(1))
    assert several.other_photo == 3 and not any((a == b).all() for a, b in zip(several.identities, several.references, strict=True))
