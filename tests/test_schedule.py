"""Keyframes and tracks."""

import numpy as np
import pytest

from facecrafter_core.errors import FaceCrafterError, ScheduleError
from facecrafter_core.faces.edit import head_pose, neutral_landmarks, turn
from facecrafter_core.faces.emotion import Emotion
from facecrafter_core.schedule import (
    blend_emotions,
    both,
    emotion_track,
    face_track,
    fill_missing,
    keyframes,
    number_track,
    resample,
    smooth,
)


def test_numbers_go_from_keyframe_to_keyframe_and_stay_at_the_ends():
    assert number_track("1: 0, 3: 1", 5) == (0, 0, 0.5, 1, 1)
    assert number_track("1: 0, 3: 1", 5, "hold") == (0, 0, 0, 1, 1)
    assert number_track("0: 0; 4: 1", 5, "smooth") == (0, 0.15625, 0.5, 0.84375, 1)
    assert number_track("7: 2.5", 3) == (2.5, 2.5, 2.5)
    assert number_track("  ", 3) is None


def test_keyframes_may_be_in_any_order_and_on_lines_of_their_own():
    assert keyframes("12 = b\n0: a,") == [(0, "a"), (12, "b")]


def test_emotions_are_names_or_points():
    track = emotion_track("0: neutral, 2: Happy 0.8, 4: -0.5 0.25", 5)
    assert track[0] == Emotion.preset("neutral") and track[2] == Emotion.preset("happy", 0.8)
    assert track[1].valence == pytest.approx(track[2].valence / 2)
    assert (track[4].valence, track[4].arousal) == (-0.5, 0.25)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: number_track("0 2.0", 4), "Expected keyframes such as '0: 2.0, 24: 0.5', found '0 2.0'"),
        (lambda: number_track("0: high", 4), "Expected a number in a keyframe"),
        (lambda: number_track("0: nan", 4), "Expected a number in a keyframe"),
        (lambda: number_track("0: 1, 0: 2", 4), r"Expected each frame once, found \[0, 0\]"),
        (lambda: number_track("0: 1", 4, "bouncy"), "Expected an easing out of linear, smooth, hold"),
        (lambda: number_track("0: 1", 0), "at least one frame, found 0"),
        (lambda: emotion_track("0: glad", 4), "Expected an emotion .*found 'glad'"),
        (lambda: emotion_track("0: happy 2", 4), "intensity from 0 to 1"),
        (lambda: emotion_track("0: 3 0", 4), "valence from -1 to 1"),
        (lambda: fill_missing([None, None]), "No face was found in any of the 2 pictures"),
        (lambda: smooth(np.zeros((2, 478, 3)), -1), "at least 0 frames"),
        (lambda: both(1, None, "emotion"), "only one emotion"),
        (lambda: blend_emotions(np.zeros((2, 10)), np.zeros((3, 10)), 0.5), "1 or 3 entries of the first emotions, found 2"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(call, sentence: str):
    with pytest.raises(FaceCrafterError, match=sentence):
        call()


def test_a_video_is_spread_over_the_frames():
    video = np.stack([turn(neutral_landmarks(), yaw) for yaw in (-20, 0, 20)])
    assert [round(head_pose(face).yaw) for face in resample(video, 5)] == [-20, -10, 0, 10, 20]
    assert len(resample(video[:1], 4)) == 4


def test_motion_goes_on_top_of_the_face():
    track = face_track(None, 3, {"yaw": (0.0, 10.0, 20.0), "smile": (0.0, 0.0, 1.0)})
    assert [round(head_pose(face).yaw) for face in track[:2]] == [0, 10]
    assert np.array_equal(track[0], neutral_landmarks())
    assert face_track(None, 3, {}) is None
    assert len(face_track(neutral_landmarks()[None], 3, {})) == 3


def test_smoothing_takes_jitter_and_keeps_a_straight_way():
    rng = np.random.default_rng(0)
    way = neutral_landmarks()[None] + np.linspace(0, 0.2, 40)[:, None, None]
    noisy = way + rng.normal(size=way.shape) * 0.01
    calm = smooth(noisy, 2.0)
    assert np.abs(calm - way)[8:-8].std() < 0.5 * np.abs(noisy - way)[8:-8].std()
    assert np.abs(smooth(way, 2.0) - way)[8:-8].max() < 1e-5
    assert np.array_equal(smooth(noisy, 0.0), noisy.astype(np.float32))


def test_gaps_are_filled_between_their_neighbours_and_counted():
    faces = [None, turn(neutral_landmarks(), -10), None, turn(neutral_landmarks(), 10), None]
    filled, count = fill_missing(faces)
    assert count == 3 and [round(head_pose(face).yaw) for face in filled] == [-10, -10, 0, 10, 10]


def test_an_error_of_a_schedule_is_a_facecrafter_error():
    assert issubclass(ScheduleError, FaceCrafterError)
