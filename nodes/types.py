"""The sockets of our own, and what flows through them.

FACECRAFTER     host.adapter.FaceCrafter: an adapter and the text encoder of its base
FC_IDENTITY     float tensor [N, D]: unit vectors
FC_LANDMARKS    float tensor [N, 478, 3] in units of the target picture (0..1)
FC_EMOTION      float tensor [N, 10]: valence, arousal, eight class probabilities
FC_WEIGHTS      three of Eq. 6's weights, identity, landmarks, emotion: each a tuple with one number a picture, or None
FC_CROP         crops.Crops: pictures, and the faces cut out of them
FC_INTERVALS    three (start, end) in shares of the sampling run: identity, landmarks, emotion
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..facecrafter_core.errors import FaceCrafterError

CATEGORY = "FaceCrafter"

Crafter = io.Custom("FACECRAFTER")
Identity = io.Custom("FC_IDENTITY")
Landmarks = io.Custom("FC_LANDMARKS")
EmotionVectors = io.Custom("FC_EMOTION")
Weights = io.Custom("FC_WEIGHTS")
Intervals = io.Custom("FC_INTERVALS")
FaceCrops = io.Custom("FC_CROP")


def needed(value: Any, what: str) -> Any:
    """What came through a required socket. Blend and Schedule leave an output empty (None) where its kind was not connected to them.

    Raises:
        FaceCrafterError: it is empty.
    """
    if value is None:
        raise FaceCrafterError(f"Expected {what}, found an empty output: the node before has no {what} either. Connect some to it.")
    return value
