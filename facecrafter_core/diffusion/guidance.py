"""Guidance (Eq. 6) as a table of coefficients.

Eq. 6 is a linear combination of predictions under different conditions. A *row* is one such condition; all rows of a step go
through the network as one batch, and a row whose coefficient is zero is never evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from ..errors import ModelError

ROWS: tuple[str, ...] = ("none", "id", "id+lmk", "id+lmk+emo", "id+emo")
"""All rows; in this order the rows with landmarks stand together, and so do the rows with emotion."""

MODES: tuple[str, ...] = ("paper", "joint")
Interval = tuple[float, float]
ALWAYS: Interval = (0.0, math.inf)
Prediction = TypeVar("Prediction")


def row_has_landmarks(row: str) -> bool:
    return "lmk" in row


def row_has_emotion(row: str) -> bool:
    return "emo" in row


@dataclass(frozen=True)
class Guidance:
    """Guidance weights (Sec. 4.1 gives the defaults) and their options.

    Attributes:
        identity, landmark, emotion: w_ID, w_LMK and w_EMO of Eq. 6.
        mode: "paper" is Eq. 6, with landmarks and emotion in rows of their own. "joint" evaluates one row with both instead,
            weighted by the mean of w_LMK and w_EMO: one row fewer a step, and the two conditions see each other.
        identity_interval, landmark_interval, emotion_interval: (low, high) in sigma (sqrt((1 - a) / a), where a is the
            scheduler's cumulative alpha) between which a weight acts. Outside, the identity weight is 1 (no guidance) and the others 0.
    """

    identity: float = 2.5
    landmark: float = 2.0
    emotion: float = 2.0
    mode: str = "paper"
    identity_interval: Interval = ALWAYS
    landmark_interval: Interval = ALWAYS
    emotion_interval: Interval = ALWAYS

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ModelError(f"Expected a guidance mode out of {MODES}, found {self.mode!r}.")
        for name in ("identity", "landmark", "emotion"):
            weight = getattr(self, name)
            if not math.isfinite(weight):
                raise ValueError(f"The {name} guidance weight must be a finite number, found {weight}.")
            low, high = getattr(self, f"{name}_interval")
            if math.isnan(low) or math.isnan(high) or low > high:
                raise ValueError(f"The {name} interval must be (low, high) with low <= high, found ({low}, {high}).")


def guidance_coefficients(
    guidance: Guidance, sigma: float, has_landmarks: bool = True, has_emotion: bool = True
) -> dict[str, float]:
    """Eq. 6 at one noise level: the coefficient of each row that is needed, in the order of ROWS. They sum to 1.

    Args:
        sigma: the step's noise level, sqrt((1 - a) / a).
        has_landmarks, has_emotion: False when the condition is absent or its alpha is 0: the row with it then equals the row
            without it, and its coefficient goes there.
    """
    within = {
        name: getattr(guidance, f"{name}_interval")[0] <= sigma <= getattr(guidance, f"{name}_interval")[1]
        for name in ("identity", "landmark", "emotion")
    }
    w_id = guidance.identity if within["identity"] else 1.0
    w_lmk = guidance.landmark if within["landmark"] and has_landmarks else 0.0
    w_emo = guidance.emotion if within["emotion"] and has_emotion else 0.0

    table = dict.fromkeys(ROWS, 0.0)
    table["none"] = 1.0 - w_id
    if guidance.mode == "joint" and w_lmk and w_emo:
        w_both = (w_lmk + w_emo) / 2
        table["id"] = w_id - w_both
        table["id+lmk+emo"] = w_both
    else:
        table["id"] = w_id - w_lmk - w_emo
        table["id+lmk"] = w_lmk
        table["id+emo"] = w_emo
    return {row: coefficient for row, coefficient in table.items() if coefficient != 0.0}


def combine(predictions: Mapping[str, Prediction], coefficients: Mapping[str, float]) -> Prediction:
    """The guided prediction (Eq. 6): the sum of coefficient x prediction over rows.

    Predictions may be of noise, of v or of the clean latent: the coefficients sum to 1, so the combination is the same.
    """
    guided = None
    for row, coefficient in coefficients.items():
        term = predictions[row] * coefficient
        guided = term if guided is None else guided + term
    if guided is None:
        raise ValueError("Expected at least one guidance row with a coefficient other than 0, found none.")
    return guided
