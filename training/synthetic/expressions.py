"""Facial actions and emotions: which actions make an emotion, how expressions are drawn, and the vector of an expression.

The eight emotions as facial actions follow FACS conventions (Ekman and Friesen 1978); their valence and arousal anchors,
in facecrafter_core.faces.emotion, follow the circumplex (Russell 1980). Both tables are a choice: no rater has checked them.
"""

from __future__ import annotations

import numpy as np

from facecrafter_core.faces.blendshapes import ACTIONS, EMOTION_ACTIONS
from facecrafter_core.faces.emotion import EMOTIONS, VALENCE_AROUSAL

# The actions of the Face Units pack differ in strength: these are weak, so that weight 1 shows this many times as much.
STRENGTH: dict[str, float] = {
    "browInnerUp": 1.5, "browOuterUp": 1.4, "mouthFrown": 1.7, "noseSneer": 1.5, "eyeWide": 1.25, "mouthStretch": 1.2, "cheekPuff": 1.3,
}  # fmt: skip

# Actions that say little about emotion count less when an expression is read: speech, gaze and blinking.
_EVIDENCE = {
    "jawOpen": 0.5, "eyeBlink": 0.3, "eyeLookDown": 0.3, "eyeLookUp": 0.0, "eyeLookIn": 0.0, "eyeLookOut": 0.0, "jawLeft": 0.2,
    "jawRight": 0.2, "jawForward": 0.4, "mouthLeft": 0.2, "mouthRight": 0.2, "mouthPucker": 0.4, "mouthFunnel": 0.4,
    "mouthClose": 0.2, "cheekPuff": 0.3, "tongueOut": 0.2,
}  # fmt: skip
GAZE = tuple(a for a in ACTIONS if a.startswith("eyeLook"))
# How often each of the seven is drawn: pleasant faces more, so that valence is not skewed.
_FREQUENCY = (0.26, 0.13, 0.17, 0.11, 0.10, 0.13, 0.10)
_NUMBER = {name: i for i, name in enumerate(ACTIONS)}


def action_vector(weights: dict[str, float]) -> np.ndarray:
    """Named weights as float32 [52]; a paired name without side sets both sides.

    Raises:
        ValueError: an unknown action.
    """
    vector = np.zeros(len(ACTIONS), np.float32)
    for name, weight in weights.items():
        names = (name,) if name in _NUMBER else (name + "Left", name + "Right")
        if names[0] not in _NUMBER:
            raise ValueError(f"Expected one of the 52 facial actions, found {name!r}.")
        for each in names:
            vector[_NUMBER[each]] += weight
    return vector


PROTOTYPES_E52 = np.stack([action_vector(EMOTION_ACTIONS[e]) for e in EMOTIONS[1:]])
"""The seven emotions beside neutral as action vectors: float32 [7, 52]."""
_WEIGHT_52 = np.array(
    [_EVIDENCE.get(a, _EVIDENCE.get(a.removesuffix("Left").removesuffix("Right"), 1.0)) for a in ACTIONS]
)
_GRAM = (PROTOTYPES_E52 * _WEIGHT_52) @ PROTOTYPES_E52.T


STRENGTH_52 = np.array(
    [STRENGTH.get(a, STRENGTH.get(a.removesuffix("Left").removesuffix("Right"), 1.0)) for a in ACTIONS], np.float32
)


def emotion_intensities(actions_52: np.ndarray) -> np.ndarray:
    """How much of each of the seven emotions an expression holds: float32 [7], each at least 0.

    The non-negative mixture of the prototypes that is nearest to the actions (least squares under the evidence weights);
    exact for an unmixed prototype at any intensity.
    """
    target = (PROTOTYPES_E52 * _WEIGHT_52) @ np.asarray(actions_52, np.float64)
    mixture = np.zeros(len(target))
    for _ in range(60):  # coordinate descent; the problem is strictly convex with seven unknowns
        for e in range(len(target)):
            rest = target[e] - _GRAM[e] @ mixture + _GRAM[e, e] * mixture[e]
            mixture[e] = max(0.0, rest / _GRAM[e, e])
    return mixture.astype(np.float32)


def emotion_vector(actions_52: np.ndarray) -> np.ndarray:
    """The emotion of an expression: float32 [10], valence and arousal in [-1, 1], then eight shares that sum to 1.

    With u the intensities, each emotion's share is u / max(1, sum u), neutral has the rest, and valence and arousal
    are the share-weighted anchors of VALENCE_AROUSAL.
    """
    shares = emotion_intensities(actions_52)
    shares = shares / max(1.0, float(shares.sum()))
    eight = np.concatenate([[1.0 - shares.sum()], shares]).clip(0.0, 1.0)
    eight /= eight.sum()
    anchors = np.array([VALENCE_AROUSAL[e] for e in EMOTIONS])
    return np.concatenate([(eight @ anchors).clip(-1, 1), eight]).astype(np.float32)


def sample_actions(rng: np.random.Generator) -> np.ndarray:
    """Draws an expression: float32 [52].

    A sixth is neutral, most are one emotion at varied intensity (some asymmetric), a fifth blends two; then gaze,
    blinks, speech-like mouth shapes and a few random single actions come on top.
    """
    actions = np.zeros(len(ACTIONS))
    kind = rng.random()
    if kind > 0.16:
        count = 2 if kind > 0.8 else 1
        for e in rng.choice(len(PROTOTYPES_E52), count, replace=False, p=_FREQUENCY):
            side = 1.0 + np.clip(rng.normal() * 0.12, -0.3, 0.3) * _side()
            actions += PROTOTYPES_E52[e] * side * rng.uniform(0.2, 1.2) / count**0.5
        actions *= np.exp(rng.normal(size=len(ACTIONS)) * 0.15)
    _add_gaze(actions, rng)
    if rng.random() < 0.12:
        actions += action_vector({"eyeBlink": rng.choice([1.0, rng.uniform(0.2, 0.9)])})
    elif rng.random() < 0.03:
        actions += action_vector({"eyeBlink" + rng.choice(["Left", "Right"]): rng.uniform(0.6, 1.0)})
    if rng.random() < 0.3:
        actions[_NUMBER["jawOpen"]] += rng.uniform(0.05, 0.6) * rng.random()
    single = rng.random(len(ACTIONS)) < 0.05
    for a in np.flatnonzero(single):
        if ACTIONS[a] not in GAZE and ACTIONS[a] != "tongueOut":
            actions[a] += rng.uniform(0.1, 0.7)
            other = ACTIONS[a].replace("Left", "?").replace("Right", "Left").replace("?", "Right")
            if (
                other in _NUMBER
                and rng.random() < 0.7
                and not ACTIONS[a].startswith(("jaw", "mouthLeft", "mouthRight"))
            ):
                actions[_NUMBER[other]] += rng.uniform(0.1, 0.7)
    return _plausible(actions).astype(np.float32)


def _side() -> np.ndarray:
    return np.array([1.0 if a.endswith("Left") else -1.0 if a.endswith("Right") else 0.0 for a in ACTIONS])


def _add_gaze(actions: np.ndarray, rng: np.random.Generator) -> None:
    """Both eyes look at one point: mostly near the camera, sometimes away."""
    spread = 0.12 if rng.random() < 0.65 else 0.4
    across, up = rng.normal(size=2) * spread
    weights = {"eyeLookOutLeft": across, "eyeLookInRight": across, "eyeLookInLeft": -across, "eyeLookOutRight": -across}
    weights |= {"eyeLookUp": up, "eyeLookDown": -up}
    actions += action_vector({name: min(weight, 0.9) for name, weight in weights.items() if weight > 0})


def _plausible(actions: np.ndarray) -> np.ndarray:
    """Keeps weights in [0, 1.15] and takes back actions that exclude each other."""
    actions = actions.clip(0.0, 1.15)
    for side in ("Left", "Right"):
        blink, wide = _NUMBER["eyeBlink" + side], _NUMBER["eyeWide" + side]
        actions[blink] = min(actions[blink], 1.0)
        actions[wide] *= max(0.0, 1.0 - 1.5 * actions[blink])
        squint = _NUMBER["eyeSquint" + side]
        actions[squint] *= 1.0 - 0.6 * min(1.0, actions[blink])
        smile, frown = _NUMBER["mouthSmile" + side], _NUMBER["mouthFrown" + side]
        actions[frown] *= max(0.0, 1.0 - actions[smile])
    jaw = actions[_NUMBER["jawOpen"]]
    for name in ("mouthClose", "mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper"):
        actions[_NUMBER[name]] *= max(0.0, 1.0 - 1.6 * jaw)
    actions[_NUMBER["mouthClose"]] = min(actions[_NUMBER["mouthClose"]], jaw)
    pucker = max(actions[_NUMBER["mouthPucker"]], actions[_NUMBER["mouthFunnel"]])
    for name in ("mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"):
        actions[_NUMBER[name]] *= 1.0 - 0.5 * min(1.0, pucker)
    return actions
