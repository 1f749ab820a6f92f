"""The emotion vector is always valid, and names, points and distributions lead to each other."""

import numpy as np
import pytest

from facecrafter_core.cli import EMOTION_NAMES
from facecrafter_core.errors import EmotionError
from facecrafter_core.faces.emotion import EMOTIONS, VALENCE_AROUSAL, Emotion


def test_the_order_is_the_papers():
    assert EMOTIONS == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt") == EMOTION_NAMES
    assert list(VALENCE_AROUSAL) == list(EMOTIONS)


@pytest.mark.parametrize("name", EMOTIONS)
def test_a_preset_is_its_class_at_its_centroid(name):
    emotion = Emotion.preset(name)
    assert (emotion.valence, emotion.arousal) == pytest.approx(VALENCE_AROUSAL[name])
    assert emotion.label == name and emotion.vector.shape == (10,) and emotion.vector.dtype == np.float32


@pytest.mark.parametrize("name", EMOTIONS)
def test_the_point_of_a_class_is_read_as_that_class_and_back(name):
    read = Emotion.from_valence_arousal(*VALENCE_AROUSAL[name])
    assert read.label == name
    assert Emotion.from_distribution(Emotion.preset(name).distribution).valence == pytest.approx(VALENCE_AROUSAL[name][0])


def test_intensity_goes_from_neutral_to_the_class():
    assert Emotion.preset("anger", 0) == Emotion.preset("neutral")
    half = Emotion.preset("anger", 0.5)
    assert half.valence == pytest.approx(-0.3) and half.distribution[0] == pytest.approx(0.5)


def test_a_blend_is_between_its_ends():
    happy, sad = Emotion.preset("happy"), Emotion.preset("sad")
    assert happy.blend(sad, 0) == happy and happy.blend(sad, 1) == sad
    assert sad.valence < happy.blend(sad, 0.5).valence < happy.valence
    assert sum(happy.blend(sad, 0.3).distribution) == pytest.approx(1)


def test_a_vector_survives_the_round_trip():
    emotion = Emotion.from_valence_arousal(0.3, -0.2)
    np.testing.assert_allclose(Emotion.from_vector(emotion.vector).vector, emotion.vector, atol=1e-6)


EVEN = [1 / 8] * 8


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Emotion(0, 0, [0.5] * 8), "sum to 1, found a sum of 4.000"),
        (lambda: Emotion(0, 0, [0.0] * 8), "sum to 1"),
        (lambda: Emotion(0, 0, [1.5, -0.5, 0, 0, 0, 0, 0, 0]), "from 0 to 1"),
        (lambda: Emotion(0, 0, [np.nan, 1, 0, 0, 0, 0, 0, 0]), "from 0 to 1"),
        (lambda: Emotion(0, 0, [1.0]), "Expected 8 probabilities"),
        (lambda: Emotion(1.5, 0, EVEN), "valence from -1 to 1, found 1.5"),
        (lambda: Emotion(0, float("nan"), EVEN), "arousal from -1 to 1"),
        (lambda: Emotion.from_vector(np.zeros(9)), "10 numbers, found 9"),
        (lambda: Emotion.preset("joy"), "found 'joy'"),
        (lambda: Emotion.preset("happy", 2), "intensity from 0 to 1"),
        (lambda: Emotion.preset("happy", float("nan")), "intensity from 0 to 1"),
        (lambda: Emotion.from_valence_arousal(0, 2), "arousal from -1 to 1"),
        (lambda: Emotion.preset("happy").blend(Emotion.preset("sad"), -1), "blend from 0 to 1"),
    ],
)
def test_a_wrong_emotion_is_refused_in_one_sentence(make, words):
    with pytest.raises(EmotionError, match=words):
        make()
