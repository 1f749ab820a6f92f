"""Guidance (Eq. 6) as a table of coefficients.

Eq. 6 is a linear combination of predictions under different conditions. A *row* is one such condition; all rows of a step go
through the network as one batch, and a row whose coefficient is zero is never evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from ..errors import ModelError

ROWS: tuple[str, ...] = ("none", "id", "id+lmk", "id+lmk+emo", "id+emo")
"""All rows; in this order the rows with landmarks stand together, and so do the rows with emotion."""

MODES: tuple[str, ...] = ("paper", "joint")
Interval = tuple[float, float]
ALWAYS: Interval = (0.0, math.inf)
Weight = float | tuple[float, ...]
"""One number for all pictures, or one a picture; picture i of a batch takes entry i modulo their number."""
Prediction = TypeVar("Prediction")


def row_has_landmarks(row: str) -> bool:
    return "lmk" in row


def row_has_emotion(row: str) -> bool:
    return "emo" in row


@dataclass(frozen=True)
class Guidance:
    """Guidance weights (Sec. 4.1 gives the defaults) and their options.

    Attributes:
        identity, landmark, emotion: w_ID, w_LMK and w_EMO of Eq. 6, one for all pictures or a tuple with one a picture.
        mode: "paper" is Eq. 6, with landmarks and emotion in rows of their own. "joint" evaluates one row with both instead,
            weighted by the mean of w_LMK and w_EMO: one row fewer a step, and the two conditions see each other.
        identity_interval, landmark_interval, emotion_interval: (low, high) in sigma (sqrt((1 - a) / a), where a is the
            scheduler's cumulative alpha) between which a weight acts. Outside, the identity weight is 1 (no guidance) and the others 0.
        refresh: in every so many calls of the network the whole of Eq. 6 is computed; in those between, the row "id" alone, to which
            the last difference between Eq. 6 and this row is added. 1 is Eq. 6 in each call.
    """

    identity: Weight = 2.5
    landmark: Weight = 2.0
    emotion: Weight = 2.0
    mode: str = "paper"
    identity_interval: Interval = ALWAYS
    landmark_interval: Interval = ALWAYS
    emotion_interval: Interval = ALWAYS
    refresh: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ModelError(f"Expected a guidance mode out of {MODES}, found {self.mode!r}.")
        for name in ("identity", "landmark", "emotion"):
            weights = each(getattr(self, name))
            if not weights or not all(math.isfinite(w) for w in weights):
                raise ValueError(f"The {name} guidance weight must be a finite number, found {getattr(self, name)}.")
            low, high = getattr(self, f"{name}_interval")
            if math.isnan(low) or math.isnan(high) or low > high:
                raise ValueError(f"The {name} interval must be (low, high) with low <= high, found ({low}, {high}).")
        if self.refresh < 1:
            raise ModelError(f"Guidance must be refreshed in every call (1) or every so many, found {self.refresh}.")

    @property
    def pictures(self) -> int:
        """For how many pictures there are weights of their own; 0 when all pictures share them."""
        weights = (self.identity, self.landmark, self.emotion)
        return max((len(w) for w in weights if isinstance(w, tuple)), default=0)


APPROXIMATIONS: dict[str, dict[str, Any]] = {"joint": {"mode": "joint"}, "refresh": {"refresh": 2}}
APPROXIMATIONS["joint and refresh"] = APPROXIMATIONS["joint"] | APPROXIMATIONS["refresh"]
APPROXIMATIONS["joint and refresh 3"] = APPROXIMATIONS["joint"] | {"refresh": 3}
APPROXIMATIONS["joint and refresh 5"] = APPROXIMATIONS["joint"] | {"refresh": 5}
"""Options of Guidance that evaluate fewer rows than Eq. 6; docs/full-size.md says what each loses."""


def each(weight: Weight) -> tuple[float, ...]:
    return weight if isinstance(weight, tuple) else (weight,)


def guidance_coefficients(
    guidance: Guidance, sigma: float, has_landmarks: bool = True, has_emotion: bool = True
) -> dict[str, Weight]:
    """Eq. 6 at one noise level: the coefficient of each row that any picture needs, in the order of ROWS. They sum to 1 for each picture.

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
    if not guidance.pictures:
        return {row: c for row, c in _table(w_id, w_lmk, w_emo, guidance.mode).items() if c != 0.0}
    tables = [_table(*(each(w)[i % len(each(w))] for w in (w_id, w_lmk, w_emo)), guidance.mode) for i in range(guidance.pictures)]
    rows = {row: tuple(table[row] for table in tables) for row in ROWS}
    return {row: coefficients for row, coefficients in rows.items() if any(coefficients)}


def _table(w_id: float, w_lmk: float, w_emo: float, mode: str) -> dict[str, float]:
    """The coefficients of all rows."""
    table = dict.fromkeys(ROWS, 0.0)
    table["none"] = 1.0 - w_id
    if mode == "joint" and w_lmk and w_emo:
        w_both = (w_lmk + w_emo) / 2
        table["id"] = w_id - w_both
        table["id+lmk+emo"] = w_both
    else:
        table["id"] = w_id - w_lmk - w_emo
        table["id+lmk"] = w_lmk
        table["id+emo"] = w_emo
    return table


def combine(predictions: Mapping[str, Prediction], coefficients: Mapping[str, Weight]) -> Prediction:
    """The guided prediction (Eq. 6): the sum of coefficient x prediction over rows.

    Predictions may be of noise, of v or of the clean latent: the coefficients sum to 1, so the combination is the same.
    """
    guided = None
    for row, coefficient in coefficients.items():
        prediction = predictions[row]
        if isinstance(coefficient, tuple):
            coefficient = _as_tensor(coefficient, tuple(prediction.shape), prediction.device, prediction.dtype)
        term = prediction * coefficient
        guided = term if guided is None else guided + term
    if guided is None:
        raise ValueError("Expected at least one guidance row with a coefficient other than 0, found none.")
    return guided


class GuidedRun:
    """Eq. 6 over the calls of one run, where Guidance.refresh lets some of them use the difference of an earlier one.

    Args:
        refresh: see Guidance.
    """

    def __init__(self, refresh: int = 1) -> None:
        self.refresh, self.calls = refresh, 0
        self.difference: Any = None

    @property
    def fresh(self) -> bool:
        """Whether the coming call computes the whole of Eq. 6."""
        return self.calls % self.refresh == 0

    def coefficients(self, table: Mapping[str, Weight]) -> Mapping[str, Weight]:
        """The rows of the coming call, out of its table (guidance_coefficients)."""
        if self.refresh == 1:
            return table
        if not self.fresh:
            return {"id": 1.0}
        return {row: table.get(row, 0.0) for row in ROWS if row in table or row == "id"}

    def combine(self, predictions: Mapping[str, Prediction], coefficients: Mapping[str, Weight], scale: Any = 1.0) -> Prediction:
        """The guided prediction of this call.

        Args:
            scale: what a difference of the network's own outputs, which is what changes slowly from call to call, becomes in `predictions`.
        """
        fresh = self.fresh
        self.calls += 1
        if not fresh:
            return predictions["id"] + self.difference * scale
        guided = combine(predictions, coefficients)
        if self.refresh > 1:
            self.difference = (guided - predictions["id"]) / scale
        return guided


@lru_cache(maxsize=64)
def _as_tensor(coefficients: tuple[float, ...], shape: tuple[int, ...], device: Any, dtype: Any) -> Any:
    """[B, 1, ...], on the device once a run and not once a step."""
    import torch

    batch = [coefficients[i % len(coefficients)] for i in range(shape[0])]
    return torch.tensor(batch, device=device, dtype=dtype).view(-1, *[1] * (len(shape) - 1))
