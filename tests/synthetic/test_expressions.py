"""Facial actions and the emotion vector that follows from them."""

import numpy as np
import pytest

from facecrafter_core.faces.blendshapes import ACTIONS, BLENDSHAPES
from facecrafter_core.faces.emotion import EMOTIONS, VALENCE_AROUSAL
from training.synthetic.expressions import (
    EMOTION_ACTIONS,
    PROTOTYPES_E52,
    action_vector,
    emotion_intensities,
    emotion_vector,
    sample_actions,
)


def test_there_are_52_actions_and_mediapipe_scores_all_but_the_tongue():
    assert len(ACTIONS) == len(set(ACTIONS)) == 52
    assert len(BLENDSHAPES) == 52 and BLENDSHAPES[0] == "_neutral" and "tongueOut" not in BLENDSHAPES


def test_a_paired_name_moves_both_sides_and_an_unknown_one_is_refused():
    smile = action_vector({"mouthSmile": 0.5})
    assert {ACTIONS[i] for i in np.flatnonzero(smile)} == {"mouthSmileLeft", "mouthSmileRight"}
    with pytest.raises(ValueError, match="52 facial actions"):
        action_vector({"smile": 1.0})


def test_a_face_at_rest_is_neutral():
    vector = emotion_vector(np.zeros(52))
    assert vector[:3].tolist() == [0.0, 0.0, 1.0] and not vector[3:].any()


@pytest.mark.parametrize("emotion", EMOTIONS[1:])
@pytest.mark.parametrize("intensity", [0.25, 0.6, 1.0])
def test_an_unmixed_emotion_is_read_back_at_its_intensity(emotion, intensity):
    vector = emotion_vector(intensity * action_vector(EMOTION_ACTIONS[emotion]))
    assert vector[2 + EMOTIONS.index(emotion)] == pytest.approx(intensity, abs=0.01)
    assert vector[:2] == pytest.approx(np.array(VALENCE_AROUSAL[emotion]) * intensity, abs=0.02)


def test_a_blend_holds_both_emotions():
    surprise, happy = EMOTIONS.index("surprise"), EMOTIONS.index("happy")
    read = emotion_intensities(0.4 * PROTOTYPES_E52[surprise - 1] + 0.5 * PROTOTYPES_E52[happy - 1])
    assert read[surprise - 1] == pytest.approx(0.4, abs=0.01) and read[happy - 1] == pytest.approx(0.5, abs=0.01)


def test_looking_aside_is_no_emotion():
    vector = emotion_vector(action_vector({"eyeLookInLeft": 0.8, "eyeLookOutRight": 0.8, "eyeLookUp": 0.5}))
    assert vector[2] == pytest.approx(1.0)


def test_drawn_expressions_are_plausible_and_their_vectors_valid():
    rng = np.random.default_rng(0)
    drawn = np.stack([sample_actions(rng) for _ in range(400)])
    vectors = np.stack([emotion_vector(a) for a in drawn])
    assert drawn.min() >= 0 and drawn.max() <= 1.15
    assert np.abs(vectors[:, :2]).max() <= 1 and vectors[:, 2:].min() >= 0
    assert vectors[:, 2:].sum(1) == pytest.approx(1.0, abs=1e-5)
    strongest = vectors[:, 2:].argmax(1)
    assert set(strongest) == set(range(8)), "every class leads in some drawn expression"
    blink = drawn[:, ACTIONS.index("eyeBlinkLeft")]
    assert not drawn[blink > 0.9][:, ACTIONS.index("eyeWideLeft")].any(), "a closed eye is not wide"
