"""Plans of many portraits, and balanced sets on disk."""

import csv
from collections import Counter

import pytest
from PIL import Image

from facecrafter_core.errors import FaceCrafterError, OutputError
from facecrafter_core.faces.edit import head_pose
from facecrafter_core.plan import MANIFEST, fill_set, make_plan, parse_emotions, parse_poses

EMOTIONS, POSES = parse_emotions("neutral, happy 0.8\n-0.5 0.3"), parse_poses("-25, 0, 20 10")


def draw(some):
    return [Image.new("RGB", (32, 32), (p.seed % 256, 0, 0)) for p in some]


def rows(folder):
    with open(folder / MANIFEST, newline="") as file:
        return list(csv.DictReader(file))


def test_a_plan_has_every_combination_equally_often_with_its_own_seed():
    plan = make_plan(4, EMOTIONS, POSES, 2, seed=100)
    assert len(plan) == 4 * 3 * 3 * 2 and len({p.seed for p in plan}) == len({p.path for p in plan}) == len(plan)
    counts = Counter((p.person, p.text, p.pose) for p in plan)
    assert set(counts.values()) == {2}


def test_landmarks_have_the_pose_and_show_the_emotion():
    neutral, happy = make_plan(1, EMOTIONS[:2], POSES[2:], 1, 0)
    assert head_pose(neutral.landmarks) == pytest.approx((20, 10, 0), abs=0.1)
    corners = [p.landmarks[[61, 291], 1].mean() - p.landmarks[[0, 17], 1].mean() for p in (neutral, happy)]
    assert corners[1] < corners[0] - 0.01, "the corners of the mouth go up"


def test_a_set_is_a_folder_with_a_manifest_that_training_reads(tmp_path):
    from training.sources import open_source

    plan = make_plan(2, EMOTIONS, POSES, 1, 0)
    assert list(fill_set(tmp_path, plan, draw, batch=4)) == [0, 4, 8, 12, 16, 18]
    kind, items = open_source(tmp_path / MANIFEST)
    assert kind == "manifest" and len(items) == 18 and {i.person for i in items} == {"0000", "0001"}
    assert items[2 * 3].affect == (-0.5, 0.3)


def test_a_stopped_run_goes_on_and_makes_nothing_twice(tmp_path):
    plan = make_plan(1, EMOTIONS, POSES, 1, 0)
    run = fill_set(tmp_path, plan, draw, batch=2)
    assert [next(run) for _ in range(3)] == [0, 2, 4]
    run.close()
    (tmp_path / plan[1].path).unlink()  # and one was lost
    made = []
    assert list(fill_set(tmp_path, plan, lambda some: made.extend(some) or draw(some), batch=10)) == [3, 9]
    assert [p.path for p in made] == [plan[1].path, *(p.path for p in plan[4:])]
    assert all((tmp_path / p.path).is_file() for p in plan)
    assert sorted(row["path"] for row in rows(tmp_path)) == sorted(p.path for p in plan)


def test_a_folder_of_another_plan_is_refused(tmp_path):
    list(fill_set(tmp_path, make_plan(1, EMOTIONS, POSES, 1, 0), draw, 9))
    with pytest.raises(OutputError, match="holds pictures of another plan"):
        list(fill_set(tmp_path, make_plan(1, EMOTIONS, POSES, 1, 7), draw, 9))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: parse_emotions(" "), "at least one emotion"),
        (lambda: parse_emotions("glad"), "found 'glad'"),
        (lambda: parse_poses(""), "at least one pose"),
        (lambda: parse_poses("left"), "found 'left'"),
        (lambda: parse_poses("120"), "from -90 to 90 degrees"),
        (lambda: parse_poses("1 2 3"), "yaw, or yaw and pitch"),
        (lambda: make_plan(0, EMOTIONS, POSES, 1, 0), "at least one person"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(call, sentence):
    with pytest.raises(FaceCrafterError, match=sentence):
        call()
