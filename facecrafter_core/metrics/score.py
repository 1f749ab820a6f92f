"""How well single pictures did what was asked: for choosing among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import MetricError
from ..faces.edit import head_pose
from ..faces.emotion import EMOTIONS
from ..faces.face_model import face_model
from . import control
from .reading import Reading

SCALES = {"likeness": 50.0, "pose": 10.0, "expression": 5.0, "emotion": 0.5}
"""What counts as one unit of failure: percent of likeness lost, degrees, percent of the eye distance, distance in the valence-arousal plane."""


@dataclass(frozen=True)
class Score:
    """One picture; None where it was not asked for.

    Attributes:
        found: a face was found. Without one, all else is None.
        likeness: cosine of identity vectors in percent, at least 0.
        pose: root mean square of the errors of yaw, pitch and roll, in degrees.
        expression: mean distance of the 478 points with the pose taken out, in percent of the eye distance.
        emotion: distance to the asked-for point in the valence-arousal plane. same_class: the most likely class is the one asked for.
        shown: the most likely class.
    """

    found: bool
    likeness: float | None = None
    pose: float | None = None
    expression: float | None = None
    emotion: float | None = None
    same_class: bool | None = None
    shown: str | None = None

    def failure(self, weights: dict[str, float]) -> float:
        """Weighted sum of the errors in units of SCALES; infinite without a face. Lower is better."""
        if not self.found:
            return float("inf")
        errors = {"likeness": None if self.likeness is None else 100 - self.likeness, "pose": self.pose, "expression": self.expression, "emotion": self.emotion}
        return sum(weight * errors[name] / SCALES[name] for name, weight in weights.items() if errors[name] is not None)


def score_pictures(
    reading: Reading, identity: np.ndarray | None = None, landmarks: np.ndarray | None = None, emotion: np.ndarray | None = None
) -> list[Score]:
    """A score a picture.

    Args:
        reading: of N pictures (estimators.read_all).
        identity: [D] vector of the person, by the estimator that read the pictures, or None.
        landmarks: asked-for [N or 1, 478, 3] in units of the picture, or None. emotion: asked-for [N or 1, 10], or None.

    Raises:
        MetricError: numbers of pictures and of what was asked for do not pair, or nobody read what was asked for.
    """
    count = len(reading["pose"])
    asked = {"landmarks": _spread(landmarks, count, "landmarks"), "emotion": _spread(emotion, count, "emotions")}
    for name, given in (("identity", identity), ("emotion", emotion)):
        if given is not None and name not in reading:
            raise MetricError(f"No estimator that measures {name} is on this machine, so it cannot be scored. Leave it out, or install one (facecrafter assets list).")
    scores = []
    for i in range(count):
        if not np.isfinite(reading["pose"][i]).all():
            scores.append(Score(False))
            continue
        values: dict[str, object] = {}
        if identity is not None:
            values["likeness"] = 100 * max(0.0, float(control.similarity(reading["identity"][[i]], identity[None])[0]))
        if landmarks is not None:
            values["pose"], values["expression"] = compare_faces(reading["landmarks"][i], asked["landmarks"][i])
        if "emotion" in reading:
            values["shown"] = EMOTIONS[int(reading["emotion"][i, 2:].argmax())]
        if emotion is not None:
            values["emotion"] = float(np.linalg.norm(reading["emotion"][i, :2] - asked["emotion"][i, :2]))
            values["same_class"] = EMOTIONS[int(asked["emotion"][i, 2:].argmax())] == values["shown"]
        scores.append(Score(True, **values))
    return scores


def compare_faces(found: np.ndarray, asked: np.ndarray) -> tuple[float, float]:
    """Pose error in degrees and expression error in percent of the eye distance, of two faces [478, 3] (see Score)."""
    model = face_model()
    pose = np.sqrt(np.mean(np.square(np.subtract(head_pose(found), head_pose(asked)))))
    local = model.frame(found).to_local(found) - model.frame(asked).to_local(asked)  # eye centres are 1 apart there
    return float(pose), 100 * float(np.linalg.norm(local[:, :2], axis=1).mean())


def best(scores: Sequence[Score], weights: dict[str, float], count: int) -> list[int]:
    """Places of the best pictures, the best first; those without a face come last, ties in their order.

    Raises:
        MetricError: fewer pictures than asked for.
    """
    if not 1 <= count <= len(scores):
        raise MetricError(f"Expected to keep 1 to {len(scores)} of the {len(scores)} pictures, found {count}.")
    return sorted(range(len(scores)), key=lambda i: scores[i].failure(weights))[:count]


def as_table(scores: Sequence[Score]) -> str:
    """Markdown: a row a picture."""
    lines = ["| picture | likeness | pose error | expression error | emotion error | shows |", "|---|---|---|---|---|---|"]
    for i, s in enumerate(scores):
        if not s.found:
            lines.append(f"| {i} | no face | | | | |")
            continue
        cells = (_cell(s.likeness, "{:.0f}%"), _cell(s.pose, "{:.1f} degrees"), _cell(s.expression, "{:.1f}%"), _cell(s.emotion, "{:.2f}"), s.shown or "-")
        lines.append(f"| {i} | " + " | ".join(cells) + " |")
    missed = sum(not s.found for s in scores)
    return "\n".join([*lines, *([f"\nNo face in {missed} of {len(scores)} pictures."] if missed else [])])


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _spread(values: np.ndarray | None, count: int, what: str) -> np.ndarray | None:
    if values is None or len(values) == count:
        return values
    if len(values) != 1:
        raise MetricError(f"Expected 1 or {count} {what} for {count} pictures, found {len(values)}.")
    return np.repeat(values, count, axis=0)
