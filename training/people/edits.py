"""How one person's style is edited: directions of pose, expression and gaze that hold the identity, and how edits are drawn.

Two kinds of direction, both fitted by training/people/fit_directions.py and kept in directions.npz. `ridge` is linear regression of the style on
attributes and on the recogniser's vector: its columns move one attribute and hold the others. `optimised` was found by gradient through the
generator, for actions that its pictures seldom show. Edits go to the first SHAPE_INPUTS of the 23 style inputs; hair, skin and light keep theirs.

Shapes: N pictures, D = 512.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facecrafter_core.faces.emotion import EMOTIONS

FILE = Path(__file__).with_name("directions.npz")

SHAPE_INPUTS = 9
"""The first style inputs: pose, shape and features. The others are hair, skin and light."""

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
# Strength of the optimised directions at intensity 1. frown and wide break the face and are not used.
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


@dataclass(frozen=True)
class Directions:
    """ridge [D, K]: change of the style for one unit of each attribute. names: the K attributes. optimised: [SHAPE_INPUTS, D] by name."""

    ridge: Tensor
    names: tuple[str, ...]
    optimised: dict[str, Tensor]

    @classmethod
    def load(cls, path: Path = FILE, device: str | torch.device = "cpu") -> Directions:
        with np.load(path) as stored:
            ridge = torch.from_numpy(stored["ridge"] / stored["sd"]).float().to(device)
            optimised = {str(n): torch.from_numpy(d).float().to(device) for n, d in zip(stored["optnames"], stored["opt"], strict=True)}
            return cls(ridge, tuple(str(n) for n in stored["names"]), optimised)

    def shift(self, edits: list[Edit]) -> Tensor:
        """Edits -> what is added to the first style inputs: [N, SHAPE_INPUTS, D]."""
        asked = np.zeros((len(edits), len(self.names)), np.float32)
        for row, edit in zip(asked, edits, strict=True):
            for name, change in edit.attributes.items():
                for each in (name,) if name in self.names else (f"{name}Left", f"{name}Right"):
                    if each in self.names:
                        row[self.names.index(each)] += change
        device = self.ridge.device
        shift = (torch.from_numpy(asked).to(device) @ self.ridge.T)[:, None].repeat(1, SHAPE_INPUTS, 1)
        for name, direction in self.optimised.items():
            strengths = torch.tensor([edit.directions.get(name, 0.0) for edit in edits], device=device)
            if strengths.any():
                shift = shift + strengths[:, None, None] * direction
        return shift


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
