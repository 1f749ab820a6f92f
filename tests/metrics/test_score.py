"""Scores of single pictures."""

import numpy as np
import pytest

from facecrafter_core.errors import MetricError
from facecrafter_core.faces.edit import express, neutral_landmarks, turn
from facecrafter_core.metrics.score import Score, as_table, best, compare_faces, score_pictures

EVERY = {"likeness": 1.0, "pose": 1.0, "expression": 1.0, "emotion": 1.0}


def reading(faces: list) -> dict[str, np.ndarray]:
    """Readings of faces [478, 3] or None; the person is (1, 0), the emotion happy."""
    seen = np.array([f is not None for f in faces])
    happy = np.r_[0.8, 0.2, 0, 1, np.zeros(6)]
    def column(value): return np.where(seen[:, None], value, np.nan)
    return {
        "pose": column(np.zeros(3)), "identity": column(np.array([1.0, 0.0])), "emotion": column(happy),
        "landmarks": np.stack([np.full((478, 3), np.nan) if f is None else f for f in faces]),
    }  # fmt: skip


def test_a_turned_head_is_a_pose_error_and_no_expression_error():
    neutral = neutral_landmarks()
    pose, expression = compare_faces(turn(neutral, 12), neutral)
    assert pose == pytest.approx(12 / np.sqrt(3), abs=0.1) and expression < 0.1


def test_an_open_jaw_is_an_expression_error_and_hardly_a_pose_error():
    pose, expression = compare_faces(express(neutral_landmarks(), {"jaw": 1.0}), neutral_landmarks())
    assert pose < 2 and expression > 5


def test_what_was_not_asked_for_is_not_scored():
    [score] = score_pictures(reading([neutral_landmarks()]))
    assert score == Score(True, shown="happy")


def test_everything_asked_for_is_scored():
    asked = np.r_[0.8, 0.6, 0, 0, 1, np.zeros(5)][None]
    [score] = score_pictures(reading([neutral_landmarks()]), np.array([0.6, 0.8]), neutral_landmarks()[None], asked)
    assert score.likeness == pytest.approx(60) and score.pose == pytest.approx(0, abs=1e-6)
    assert score.emotion == pytest.approx(0.4) and score.same_class is False


def test_a_picture_without_a_face_comes_last_and_is_counted():
    scores = score_pictures(reading([None, turn(neutral_landmarks(), 30), neutral_landmarks()]), landmarks=neutral_landmarks()[None])
    assert best(scores, EVERY, 3) == [2, 1, 0]
    assert "| 0 | no face" in as_table(scores) and "No face in 1 of 3 pictures." in as_table(scores)


def test_a_weight_of_0_leaves_its_error_out():
    scores = [Score(True, likeness=90, pose=20), Score(True, likeness=80, pose=0)]
    assert best(scores, EVERY, 1) == [1] and best(scores, {**EVERY, "pose": 0.0}, 1) == [0]


def test_bad_requests_are_told():
    seen = reading([neutral_landmarks()] * 3)
    with pytest.raises(MetricError, match="Expected 1 or 3 landmarks for 3 pictures, found 2"):
        score_pictures(seen, landmarks=np.stack([neutral_landmarks()] * 2))
    with pytest.raises(MetricError, match="keep 1 to 3 of the 3 pictures, found 4"):
        best(score_pictures(seen), EVERY, 4)
    with pytest.raises(MetricError, match="No estimator that measures identity"):
        score_pictures({"pose": seen["pose"], "landmarks": seen["landmarks"]}, identity=np.array([1.0, 0]))
