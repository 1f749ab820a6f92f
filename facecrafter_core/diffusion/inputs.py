"""What a run is asked for: identity, landmarks and emotion in the forms that callers have them, checked and made one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import common_length
from ..errors import ModelError
from ..faces.emotion import Emotion


def check_inputs(
    identity: Any, landmarks: Any, emotion: Any, count: int, device: torch.device
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Identity, landmarks and emotion as a pipeline's call takes them -> each [B x count, ...] on the device; landmarks stay on
    the host, where they are drawn.

    Raises:
        ModelError: wrong shapes, numbers that are not finite, or lengths that do not go together.
    """
    identity = _batched(identity, 1, "identity")
    landmarks = None if landmarks is None else _batched(landmarks, 2, "landmarks")
    if landmarks is not None and landmarks.shape[1:] != (478, 3):
        raise ModelError(f"Expected landmarks of shape [478, 3] or [B, 478, 3], found {list(landmarks.shape)}.")
    emotion = emotion.vector if isinstance(emotion, Emotion) else emotion
    emotion = None if emotion is None else _batched(emotion, 1, "emotion")
    if emotion is not None and emotion.shape[1] != 10:
        raise ModelError(f"Expected emotion vectors of shape [10] or [B, 10], found {list(emotion.shape)}.")
    given = {n: t for n, t in (("identity", identity), ("landmarks", landmarks), ("emotion", emotion)) if t is not None}
    batch = common_length(ModelError, **{name: len(tensor) for name, tensor in given.items()})
    for name, tensor in given.items():
        given[name] = tensor.expand(batch, *tensor.shape[1:]).repeat_interleave(count, dim=0)
    for name in given.keys() - {"landmarks"}:
        given[name] = given[name].to(device)
    return given["identity"], given.get("landmarks"), given.get("emotion")


def _batched(value: Any, ndim: int, name: str) -> Tensor:
    tensor = torch.as_tensor(np.asarray(value) if isinstance(value, (list, tuple)) else value).float()
    if tensor.ndim == ndim:
        tensor = tensor[None]
    if tensor.ndim != ndim + 1 or not len(tensor):
        raise ModelError(f"Expected {name} with {ndim} dimensions, or {ndim + 1} for a batch, found shape {list(tensor.shape)}.")
    if not torch.isfinite(tensor).all():
        raise ModelError(f"The {name} holds numbers that are not finite. Extract it again.")
    return tensor
