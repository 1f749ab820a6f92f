"""Faces are found whichever way up a photo lies, and small ones beside large ones; an upright face costs one look."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from facecrafter_core.diffusion.families import DEMO_FOLDER
from facecrafter_core.errors import FaceChoiceError
from facecrafter_core.faces.face import Pose, rotation_of_pose
from facecrafter_core.faces.identity import DemoIdentityEncoder, encode_identity
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.faces.looking import View
from facecrafter_core.faces.mediapipe_tasks import Tasks


def portrait(number: int, side: int) -> Image.Image:
    return Image.open(DEMO_FOLDER / "samples" / f"portrait_{number}.jpg").convert("RGB").resize((side, side))


@pytest.fixture(scope="module")
def encoder() -> DemoIdentityEncoder:
    return DemoIdentityEncoder(DEMO_FOLDER / "identity" / "model.safetensors")


@pytest.fixture(scope="module")
def selfie() -> np.ndarray:
    """One large face, and four of 75 to 91 pixels beside it."""
    photo = Image.new("RGB", (1600, 900), (90, 120, 90))
    photo.paste(portrait(1, 700), (50, 100))
    for i in range(4):
        photo.paste(portrait(i + 2, 130), (850 + i * 170, 300))
    return np.asarray(photo)


@pytest.mark.parametrize("anticlockwise", [90, 135, 180, 225, 270])
def test_a_turned_photo_is_of_the_same_person_and_says_its_roll(landmarker, encoder, anticlockwise):
    for number in range(1, 7):
        upright = portrait(number, 512)
        turned = np.asarray(upright.rotate(anticlockwise, expand=True, fillcolor=(120, 120, 120)))
        face, before = landmarker.find_face(turned), landmarker.find_face(np.asarray(upright))
        expected = rotation_of_pose(Pose(0, 0, -anticlockwise)) @ rotation_of_pose(before.pose)
        apart = np.degrees(np.arccos((np.trace(rotation_of_pose(face.pose).T @ expected) - 1) / 2))
        assert apart < 25  # the camera's view of a face beside the middle included
        assert encode_identity([turned], landmarker, encoder) @ encode_identity([np.asarray(upright)], landmarker, encoder) > 0.8


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_points_of_a_turned_photo_are_those_of_the_upright_one(astronaut, face, landmarker, turns):
    found = landmarker.find_face(np.ascontiguousarray(np.rot90(astronaut, turns)))
    x, y = face.landmarks[:, 0], face.landmarks[:, 1]
    expected = {1: (y, 512 - x), 2: (512 - x, 512 - y), 3: (512 - y, x)}[turns]
    assert np.abs(found.landmarks[:, :2] - np.stack(expected, 1)).mean() < 2
    assert np.abs(found.blendshapes - face.blendshapes).max() < 0.3


def test_a_view_leads_back_to_the_photo():
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[12, 45] = 255  # (45.5, 12.5)
    for turns in range(4):
        for view in (View(photo, 0, 0, 1.0).turned(turns), View.cut(photo, np.array([50, 5]), 30).turned(turns), View(photo, 0, 0, 1.0).bordered().turned(turns)):
            (y,), (x,) = np.nonzero(view.picture[..., 0] == 255)
            np.testing.assert_allclose(view.to_photo(np.array([[x + 0.5, y + 0.5]])), [[45.5, 12.5]])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_every_face_is_found_beside_a_large_one_and_without_it(landmarker, selfie, turns):
    for photo, sizes in ((selfie, (75, 84, 85, 91, 448)), (selfie[:, 800:], (75, 84, 85, 91))):
        found = landmarker.find_faces(np.ascontiguousarray(np.rot90(photo, turns)))
        assert sorted(face.size for face in found) == pytest.approx(sizes, rel=0.06)


def test_small_faces_count_where_one_is_chosen(landmarker, selfie):
    assert landmarker.find_face(selfie, 3).size == pytest.approx(91, abs=4)
    with pytest.raises(FaceChoiceError, match="found 5"):
        landmarker.find_face(selfie, "only")
    assert landmarker.find_face(selfie).size == pytest.approx(448, abs=4)


def test_faces_too_small_to_use_have_no_number(landmarker):
    photo = Image.new("RGB", (800, 600), (90, 120, 90))
    photo.paste(portrait(1, 500), (20, 50))
    photo.paste(portrait(2, 40), (600, 200))  # a face of 28 pixels
    assert sorted(round(face.size) for face in landmarker.detect(np.asarray(photo)))[0] < 32
    assert landmarker.find_face(np.asarray(photo), "only").size > 300


def test_an_upright_face_costs_one_mesh_and_one_detection(landmarker, selfie, astronaut, monkeypatch):
    calls = []
    real = Tasks._run
    monkeypatch.setattr(Tasks, "_run", staticmethod(lambda task, picture: calls.append(type(task).__name__) or real(task, picture)))
    for photo in (selfie, astronaut, np.asarray(portrait(4, 512))):
        calls.clear()
        FaceLandmarker().find_face(photo)
        assert sorted(calls) == ["FaceDetector", "FaceLandmarker"]
