"""What reading pictures means: an Estimator turns them into the numbers of a Reading.

The estimator that conditioned a generation should not be the one that measures it. So each has a name, and a table says who measured what
(`same_as`). An estimator whose weights are not there is a Missing: its cells say so and hold no number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from ..faces.landmarker import Face

Reading = Mapping[str, np.ndarray]
"""What estimators find in N pictures, NaN where there is no face: pose [N, 3] (yaw, pitch, roll in degrees), expression [N, 52] (blendshape
scores), landmarks [N, 478, 3] (units of the picture), identity [N, D] (unit vectors), emotion [N, 10] (valence, arousal, eight classes);
inception [N, 2048] needs no face. arcface [N, 512] is a second identity; flame_expression [N, E] and flame_pose [N, P] come from files (flame.py)."""

MEDIAPIPE = "MediaPipe face landmarker"
ARCFACE = "Arc2Face's ArcFace"


class Estimator(Protocol):
    """name, licence: as tables show them. reads: which keys of a Reading it gives."""

    name: str
    licence: str
    reads: tuple[str, ...]

    def read(self, pictures: Sequence[np.ndarray], faces: Sequence[Face | None]) -> Reading:
        """pictures uint8 [H, W, 3] each, and the face found in each."""
        ...


@dataclass(frozen=True)
class Missing:
    """An estimator that cannot run here. reads: what it would give. reason: one sentence with what to do."""

    name: str
    reads: tuple[str, ...]
    reason: str


def same_as(conditioned: Mapping[str, str], measured: Mapping[str, str]) -> list[str]:
    """A sentence for each quantity that is measured by the estimator that conditioned it.

    Args:
        conditioned, measured: estimator's name by quantity.
    """
    return [
        f"{what} was conditioned and measured by the same estimator ({name}); its errors flatter the method"
        for what, name in measured.items()
        if conditioned.get(what) == name
    ]
