"""Who is drawn and how pictures are framed: pure numbers, no assets needed."""

import numpy as np
import pytest

from facecrafter_core.faces.align import square_from_points
from training.synthetic.assets import Catalogue
from training.synthetic.background import backdrop
from training.synthetic.expressions import ACTIONS
from training.synthetic.generate import COLUMNS, draw_picture, label_row
from training.synthetic.people import sample_person
from training.synthetic.scene import camera, head_rotation, posed, sample_scene

CATALOGUE = Catalogue(
    targets=(
        "macrodetails/african-female-young", "macrodetails/asian-male-old", "macrodetails/caucasian-female-young",
        "nose/nose-hump-decr", "nose/nose-hump-incr", "eyes/l-eye-scale-decr", "eyes/l-eye-scale-incr", "eyes/r-eye-scale-decr",
        "eyes/r-eye-scale-incr",
    ),
    skins={"young_caucasian_female": ("female", "young", "caucasian"), "old_african_male": ("male", "old", "african"),
           "young_asian_male": ("male", "young", "asian")},
    pieces={"hair": ["hair/long01", "hair/short01"], "eyebrows": ["eyebrows/a", "eyebrows/b"], "eyelashes": ["eyelashes/a"],
            "teeth": ["teeth/a"]},
)  # fmt: skip


def test_a_number_is_always_the_same_person_and_another_number_another():
    assert sample_person(7, CATALOGUE) == sample_person(7, CATALOGUE)
    assert sample_person(7, CATALOGUE) != sample_person(8, CATALOGUE)
    assert sample_person(7, CATALOGUE, seed=1) != sample_person(7, CATALOGUE, seed=0)


def test_people_are_well_formed_and_varied():
    people = [sample_person(n, CATALOGUE) for n in range(150)]
    assert all(sum(p.ancestry) == pytest.approx(1) for p in people)
    assert all(0 < c < 1 for p in people for c in p.tone)
    assert {p.hair for p in people} == {None, "hair/long01", "hair/short01"}
    assert 0.3 < np.mean([p.male > 0.5 for p in people]) < 0.7
    assert all(p.beard == 0 for p in people if p.male < 0.5)
    assert any(p.targets.get("eyes/r-eye-scale-incr") for p in people), "right-sided shapes follow the left ones"


def test_a_picture_depends_on_its_number_and_index_alone():
    (actions, scene), (again, scene_2) = draw_picture(5, 3, 0), draw_picture(5, 3, 0)
    assert np.array_equal(actions, again) and scene.yaw == scene_2.yaw and scene.background == scene_2.background
    assert not np.array_equal(actions, draw_picture(5, 4, 0)[0])


def test_labels_stand_in_the_columns_that_are_named():
    actions, scene = draw_picture(401, 2, 0)
    row = dict(zip(COLUMNS, label_row(401, 2, actions, scene), strict=True))
    assert (row["person"], row["index"]) == (401, 2) and row["yaw"] == pytest.approx(scene.yaw)
    assert row["action_jawOpen"] == pytest.approx(actions[ACTIONS.index("jawOpen")])
    assert sum(
        row[e] for e in ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
    ) == pytest.approx(1)


def test_angles_follow_the_photograph():
    nose, crown = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert (head_rotation(30, 0, 0) @ nose)[0] > 0.4, "yaw > 0 turns to the picture's right"
    assert (head_rotation(0, 20, 0) @ nose)[1] > 0.3, "pitch > 0 looks up"
    assert (head_rotation(0, 0, 15) @ crown)[0] > 0.2, "roll > 0 tilts clockwise"


def test_poses_spread_as_documented():
    rng = np.random.default_rng(1)
    angles = np.array([(s.yaw, s.pitch, s.roll) for s in (sample_scene(rng) for _ in range(1500))])
    assert np.abs(angles[:, 0]).max() <= 50
    assert angles.std(0) == pytest.approx([19, 9.5, 6.1], rel=0.12)


@pytest.mark.parametrize(("scale", "dx", "dy"), [(1.0, 0.0, 0.0), (1.1, 0.05, -0.03)])
def test_the_camera_frames_the_ffhq_square_up_to_the_jitter(scale, dx, dy):
    from dataclasses import replace

    scene = replace(posed(sample_scene(np.random.default_rng(2)), 20.0), scale=scale, dx=dx, dy=dy)
    points = np.array(
        [[0.35, 7.3, 1.2], [-0.25, 7.25, 1.5], [0.3, 6.5, 1.3], [-0.2, 6.48, 1.5]]
    )  # left, right eye, corners
    _, matrix = camera(points, scene)
    clip = np.c_[points, np.ones(4)] @ matrix.T
    x, y = clip[:, 0] / clip[:, 3] * 0.5 + 0.5, 0.5 - clip[:, 1] / clip[:, 3] * 0.5
    left_eye, right_eye, left_mouth, right_mouth = np.stack([x, y], 1)
    centre, half, _ = square_from_points(right_eye, left_eye, right_mouth, left_mouth, rotate=False)
    assert centre == pytest.approx([0.5 + dx, 0.5 + dy], abs=1e-4)
    assert half == pytest.approx(0.5 * scale, rel=1e-4)


def test_backdrops_are_light_and_repeatable():
    first = backdrop(11)
    assert first.shape == (96, 96, 3) and first.min() > 0 and np.array_equal(first, backdrop(11))
    assert not np.array_equal(first, backdrop(12))
