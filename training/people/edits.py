"""How one person's pictures differ: edits of the style along directions.py's, and how edits are drawn. Shapes: N pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecrafter_core.faces.emotion import EMOTIONS

from .directions import SCORES, Directions
from .generator import SHAPE_INPUTS, STYLE_DIM

CLASS_SHARES = (0.12, 0.16, 0.13, 0.13, 0.12, 0.12, 0.13, 0.09)
"""How often each of EMOTIONS is asked for. The generator smiles of itself, so happiness needs less."""

# Asked change of the attribute at intensity 1, by emotion. MediaPipe's scores; about half of what is asked is found.
_RIDGE: dict[str, dict[str, float]] = {
    "neutral": {"mouthSmile": -0.6},
    "happy": {"mouthSmile": 0.75, "jawOpen": 0.1},
    "sad": {"mouthSmile": -1.0, "jawOpen": -0.1},
    "surprise": {"mouthSmile": -0.6, "browInnerUp": 0.45, "browOuterUp": 0.5},
    "fear": {"mouthSmile": -0.6, "browOuterUp": 0.15},
    "disgust": {"mouthSmile": -0.7},
    "anger": {"mouthSmile": -0.9, "jawOpen": -0.1},
    "contempt": {"mouthSmile": -0.3},
}
# Strength of the optimised directions at intensity 1. Those of directions.BREAK_THE_FACE are not used.
_OPTIMISED: dict[str, dict[str, float]] = {
    "sad": {"innerup": 0.95},
    "surprise": {"jaw": 0.85},
    "fear": {"innerup": 0.75, "stretch": 0.6, "jaw": 0.25},
    "disgust": {"sneer": 0.8, "browdown": 0.6},
    "anger": {"browdown": 1.1, "press": 0.25},
    "contempt": {"contempt": 1.0},
}
_GAZE = ("lookL", "lookR", "lookU", "lookD")


@dataclass(frozen=True)
class Edit:
    """What is asked of one picture.

    Attributes:
        emotion: one of EMOTIONS. intensity: 0..1.
        attributes: change of MediaPipe's scores and of yaw and pitch in degrees, by name; a paired name without side means both.
        directions: strength of optimised directions, by name.
    """

    emotion: str
    intensity: float
    attributes: dict[str, float]
    directions: dict[str, float]


def shift(directions: Directions, edits: list[Edit]) -> np.ndarray:
    """Edits -> what is added to the first style inputs: float32 [N, 9, 512]."""
    added = np.zeros((len(edits), SHAPE_INPUTS, STYLE_DIM), np.float32)
    for row, edit in zip(added, edits, strict=True):
        changes = {each: change for name, change in edit.attributes.items() for each in _sides(name)}
        row += directions.along(changes)
        for name, strength in edit.directions.items():
            row += np.float32(strength) * directions.optimised(name)
    return added


def _sides(name: str) -> tuple[str, ...]:
    return (name,) if name in SCORES else (f"{name}Left", f"{name}Right")


def draw_edit(rng: np.random.Generator) -> Edit:
    """One picture's edit: an emotion at some intensity, a pose, and at times a gaze, a blink or a pucker."""
    emotion = EMOTIONS[rng.choice(len(EMOTIONS), p=CLASS_SHARES)]
    intensity = rng.uniform(0.4, 1.0)
    attributes = {name: change * intensity for name, change in _RIDGE[emotion].items()}
    directions = {name: strength * intensity for name, strength in _OPTIMISED.get(emotion, {}).items()}
    for name, deviation in (("yaw", 19.0), ("pitch", 9.0), ("mouthSmile", 0.1), ("browInnerUp", 0.1), ("browDown", 0.12), ("eyeSquint", 0.15)):
        attributes[name] = attributes.get(name, 0.0) + rng.normal(0, deviation)
    if rng.random() < 0.25:
        attributes["jawOpen"] = attributes.get("jawOpen", 0.0) + abs(rng.normal(0, 0.14))
    if rng.random() < 0.28:
        name = _GAZE[rng.integers(len(_GAZE))]
        directions[name] = rng.uniform(0.2, 1.0)
    other = rng.random()
    if other < 0.06:
        directions["blink"] = rng.uniform(0.4, 1.0)
    elif other < 0.14:
        directions["pucker"] = rng.uniform(0.5, 1.5)
    return Edit(emotion, intensity, attributes, directions)
