"""A linear model of the 478 landmarks: a neutral face, how each ARKit action moves its points, and how people differ.

The head's frame: x to the picture's right, y down, z away from the viewer (as MediaPipe's points), eye centres 1 apart. The model was fitted to
rendered people by training/fit_expressions.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import LandmarkError
from . import landmarks as groups
from .blendshapes import PAIRED, SINGLE

FILE = Path(__file__).with_name("face_model.npz")

RIGID = np.array(
    (10, 338, 297, 332, 284, 251, 389, 356, 454, 234, 127, 162, 21, 54, 103, 67, 109, 151, 9, 8, 168, 6, 197, 195, 5, 4, 33, 133, 362, 263)
)  # fmt: skip
"""Points that expressions hardly move: forehead, temples, nose ridge, corners of the eyes."""

GROUPS: dict[str, dict[str, float]] = {
    **{name: {name + "Left": 1.0, name + "Right": 1.0} for name in PAIRED},
    **{name: {name: 1.0} for name in SINGLE if name != "tongueOut"},
    **{name + side: {name + side: 1.0} for name in PAIRED for side in ("Left", "Right")},
    "smile": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
    "frown": {"mouthFrownLeft": 1.0, "mouthFrownRight": 1.0},
    "jaw": {"jawOpen": 1.0},
    "pucker": {"mouthPucker": 1.0},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "browUp": {"browInnerUp": 1.0, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0},
    "gazeLeft": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
    "gazeRight": {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
    "gazeUp": {"eyeLookUpLeft": 1.0, "eyeLookUpRight": 1.0},
    "gazeDown": {"eyeLookDownLeft": 1.0, "eyeLookDownRight": 1.0},
}
"""Names that an expression may use -> ARKit actions. A paired name without a side means both sides."""

MOVE_GROUPS: dict[str, tuple[int, ...]] = {
    "leftBrow": groups.LEFT_BROW,
    "rightBrow": groups.RIGHT_BROW,
    "leftEye": (*groups.LEFT_EYE, *groups.LEFT_IRIS, 473),
    "rightEye": (*groups.RIGHT_EYE, *groups.RIGHT_IRIS, 468),
    "nose": tuple(dict.fromkeys((*groups.NOSE_RIDGE[4:], *groups.NOSE_BASE))),
    "mouth": (*groups.OUTER_LIPS, *groups.INNER_LIPS),
    "chin": (152, 148, 176, 149, 377, 400, 378, 175, 199, 200),
}
"""Groups of points that can be moved in the picture."""

EXPRESSION_PRIOR, SHAPE_PRIOR = 0.05, 0.004
"""Variance of the noise by that of a weight: how reluctantly `explain` uses actions and shapes. Chosen on validation people."""


class Frame(NamedTuple):
    """Where a head is: points of the picture = scale * local @ rotation.T + centre."""

    rotation: np.ndarray  # [3, 3]
    scale: float
    centre: np.ndarray  # [3]

    def to_local(self, points: np.ndarray) -> np.ndarray:
        return (points - self.centre) @ self.rotation / self.scale

    def to_picture(self, local: np.ndarray) -> np.ndarray:
        return self.scale * local @ self.rotation.T + self.centre


@dataclass(frozen=True)
class FaceModel:
    """neutral [478, 3]; expressions [K, 478, 3] at weight 1 and their ARKit names; shapes [M, 478, 3], one deviation each."""

    neutral: np.ndarray
    expressions: np.ndarray
    shapes: np.ndarray
    names: tuple[str, ...]

    def frame(self, points: np.ndarray) -> Frame:
        """The frame of a head [478, 3]."""
        return similarity(self.neutral[RIGID], np.asarray(points, np.float64)[RIGID])

    def displacement(self, weights: dict[str, float]) -> np.ndarray:
        """Weights by ARKit name -> [478, 3]."""
        out = np.zeros_like(self.neutral)
        for name, weight in weights.items():
            out = out + weight * self.expressions[self.names.index(name)]
        return out

    def explain(self, local: np.ndarray) -> np.ndarray:
        """Expression weights [K] of a face in the head's frame: the most likely ones under Gaussian priors of expression and shape.

        Least squares over both kinds of components at once, so that a wide mouth is not taken for a smile where shape explains it.
        """
        return _solver() @ (np.asarray(local, np.float64) - self.neutral).ravel()


@cache
def face_model() -> FaceModel:
    """The one that comes with FaceCrafter, read once."""
    with np.load(FILE) as stored:
        parts = {name: stored[name].astype(np.float64) for name in ("neutral", "expressions", "shapes")}
        return FaceModel(**parts, names=tuple(stored["names"].tolist()))


@cache
def _solver() -> np.ndarray:
    """[K, 478 * 3]: deviation from the neutral face -> expression weights."""
    model = face_model()
    basis = np.concatenate([model.expressions, model.shapes]).reshape(len(model.expressions) + len(model.shapes), -1)
    prior = np.r_[np.full(len(model.expressions), EXPRESSION_PRIOR), np.full(len(model.shapes), SHAPE_PRIOR)]
    return np.linalg.solve(basis @ basis.T + np.diag(prior), basis)[: len(model.expressions)]


def similarity(source: np.ndarray, target: np.ndarray) -> Frame:
    """The rotation, scale and translation that bring points [P, 3] closest to others (Umeyama 1991).

    Raises:
        LandmarkError: points that all coincide, or are not finite.
    """
    a, b = source - source.mean(0), target - target.mean(0)
    spread = np.square(a).sum()
    if not np.isfinite(b).all() or not np.square(b).sum() > 0 or not spread > 0:
        raise LandmarkError("The landmarks span no volume, so that no head can be fitted to them. Extract them again.")
    u, s, v = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    rotation = (u * sign) @ v
    scale = float((s * sign).sum() / spread)
    return Frame(rotation, scale, target.mean(0) - scale * source.mean(0) @ rotation.T)
