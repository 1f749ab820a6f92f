"""The emotion 10-vector: valence, arousal and a distribution over eight classes (Sec. 3.1, EmoNet's order).

Valence and arousal are the two axes of Russell's circumplex model of affect (1980). The place of each class on it, in
VALENCE_AROUSAL, is a choice from that literature's conventions; no rater has checked it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import EmotionError, ModelError

if TYPE_CHECKING:
    from .landmarker import Face

EMOTIONS: tuple[str, ...] = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")

VALENCE_AROUSAL: dict[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "happy": (0.8, 0.45),
    "sad": (-0.7, -0.4),
    "surprise": (0.15, 0.85),
    "fear": (-0.65, 0.8),
    "disgust": (-0.7, 0.35),
    "anger": (-0.6, 0.75),
    "contempt": (-0.55, 0.2),
}
"""Class centroids (valence, arousal) at full intensity."""

SPREAD = 0.2
"""Width of a class around its centroid, in units of valence and arousal; used to read a distribution off a point."""

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Emotion:
    """One emotion: a point on the circumplex and a distribution over EMOTIONS.

    Attributes:
        valence, arousal: in [-1, 1].
        distribution: eight probabilities in the order of EMOTIONS; they sum to 1.

    Raises:
        EmotionError: out of range, not finite, or the probabilities do not sum to 1.
    """

    valence: float
    arousal: float
    distribution: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("valence", "arousal"):
            value = float(getattr(self, name))
            if not math.isfinite(value) or abs(value) > 1 + TOLERANCE:
                raise EmotionError(f"Expected a {name} from -1 to 1, found {value:g}.")
            object.__setattr__(self, name, min(1.0, max(-1.0, value)))
        p = tuple(float(x) for x in self.distribution)
        if len(p) != len(EMOTIONS):
            raise EmotionError(f"Expected {len(EMOTIONS)} probabilities ({', '.join(EMOTIONS)}), found {len(p)}.")
        if not all(math.isfinite(x) and -TOLERANCE <= x <= 1 + TOLERANCE for x in p):
            raise EmotionError(f"Expected class probabilities from 0 to 1, found {[round(x, 3) for x in p]}.")
        if abs(sum(p) - 1) > 10 * TOLERANCE:
            raise EmotionError(f"Expected class probabilities that sum to 1, found a sum of {sum(p):.3f}. Divide them by it.")
        p = tuple(max(0.0, x) for x in p)
        object.__setattr__(self, "distribution", tuple(x / sum(p) for x in p))

    @property
    def vector(self) -> np.ndarray:
        """float32 [10]: valence, arousal, then the distribution."""
        return np.array([self.valence, self.arousal, *self.distribution], np.float32)

    @property
    def label(self) -> str:
        """The most probable class."""
        return EMOTIONS[int(np.argmax(self.distribution))]

    @classmethod
    def from_vector(cls, vector: Any) -> Emotion:
        """A 10-vector -> Emotion, with all checks."""
        values = np.asarray(vector, np.float64).ravel()
        if values.size != 2 + len(EMOTIONS):
            raise EmotionError(f"Expected an emotion vector of 10 numbers, found {values.size}.")
        return cls(values[0], values[1], tuple(values[2:]))

    @classmethod
    def preset(cls, name: str, intensity: float = 1.0) -> Emotion:
        """A class at an intensity from 0 (neutral) to 1: the point moves from the origin to the centroid, probability from neutral to the class."""
        if name not in EMOTIONS:
            raise EmotionError(f"Expected an emotion out of {', '.join(EMOTIONS)}, found {name!r}.")
        if not 0 <= intensity <= 1:
            raise EmotionError(f"Expected an intensity from 0 to 1, found {intensity:g}.")
        return cls(0.0, 0.0, one_hot("neutral")).blend(cls(*VALENCE_AROUSAL[name], one_hot(name)), intensity)

    @classmethod
    def from_valence_arousal(cls, valence: float, arousal: float) -> Emotion:
        """A point -> the emotion there; the distribution is class_distribution(valence, arousal)."""
        for name, value in (("valence", valence), ("arousal", arousal)):
            if not math.isfinite(value) or abs(value) > 1:
                raise EmotionError(f"Expected a {name} from -1 to 1, found {value:g}.")
        return cls(valence, arousal, class_distribution(valence, arousal))

    @classmethod
    def from_distribution(cls, distribution: Any) -> Emotion:
        """Eight probabilities -> the emotion with the mean of the class centroids as its point."""
        checked = cls(0.0, 0.0, tuple(distribution))
        point = np.array(checked.distribution) @ np.array([VALENCE_AROUSAL[name] for name in EMOTIONS])
        return cls(point[0], point[1], checked.distribution)

    def blend(self, other: Emotion, t: float) -> Emotion:
        """Straight line from this emotion (t = 0) to another (t = 1)."""
        if not 0 <= t <= 1:
            raise EmotionError(f"Expected a blend from 0 to 1, found {t:g}.")
        return Emotion.from_vector((1 - t) * self.vector.astype(np.float64) + t * other.vector.astype(np.float64))

    def describe(self) -> str:
        """For people: "happy 0.80, neutral 0.20; valence +0.64, arousal +0.36"."""
        named = sorted(zip(self.distribution, EMOTIONS, strict=True), reverse=True)
        classes = ", ".join(f"{name} {p:.2f}" for p, name in named if p >= 0.05)
        return f"{classes}; valence {self.valence:+.2f}, arousal {self.arousal:+.2f}"


def one_hot(name: str) -> tuple[float, ...]:
    return tuple(float(name == other) for other in EMOTIONS)


def class_distribution(valence: float, arousal: float) -> tuple[float, ...]:
    """Softmax of the negative squared distances to the class centroids: a mixture of Gaussians of width SPREAD, evenly weighted."""
    centroids = np.array([VALENCE_AROUSAL[name] for name in EMOTIONS])
    score = -np.square(centroids - [valence, arousal]).sum(1) / (2 * SPREAD**2)
    p = np.exp(score - score.max())
    return tuple(p / p.sum())


class EmotionEstimator(Protocol):
    """Anything that reads the emotion off a face. name, licence: as people are shown them."""

    name: str
    licence: str

    def estimate(self, face: Face, photo: np.ndarray) -> Emotion:
        """face: found in photo [H, W, 3] uint8."""
        ...


ESTIMATORS: tuple[str, ...] = ("demo", "emonet", "hsemotion")
"""demo: a small network on MediaPipe's scores, comes with FaceCrafter (Apache-2.0). emonet: the paper's (CC BY-NC-ND 4.0). hsemotion: Apache-2.0."""


def estimator_file(name: str, demo: str | Path) -> Path:
    """The weights of an estimator.

    Args:
        name: out of ESTIMATORS. demo: folder of the demo's models.

    Raises:
        AssetError: they are not there; the sentence says how to get them. EmotionError: another name.
    """
    from ..assets import find_asset

    if name not in ESTIMATORS:
        raise EmotionError(f"Expected an emotion estimator out of {', '.join(ESTIMATORS)}, found {name!r}.")
    return Path(demo) / "emotion" / "model.safetensors" if name == "demo" else find_asset(name)


def load_emotion_estimator(name: str, demo: str | Path, device: str = "cpu") -> EmotionEstimator:
    """See estimator_file.

    Raises:
        AssetError, EmotionError: see estimator_file. ModelError: the weights do not fit, or a package is missing.
    """
    path = estimator_file(name, demo)
    if name == "demo":
        return DemoEmotionEstimator(path)
    if name == "hsemotion":
        from .hsemotion import HSEmotionEstimator

        return HSEmotionEstimator(path)
    from .emonet import EmoNetEstimator

    return EmoNetEstimator(path, device)


def emotion_network() -> Any:
    """The demo's network: 52 blendshape scores -> 10 numbers (before tanh of the first two and softmax of the rest)."""
    from torch import nn

    return nn.Sequential(nn.Linear(52, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))


class DemoEmotionEstimator:
    """Reads MediaPipe's blendshape scores with a small network trained on rendered faces (training/train_emotion.py).

    Raises:
        ModelError: the weights are not there or do not fit.
    """

    name, licence = "demo emotion estimator", "Apache-2.0"

    def __init__(self, path: str | Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not Path(path).is_file():
            raise ModelError(f"There are no emotion estimator weights at {path}. Reinstall FaceCrafter or run training/recipes/demo.sh.")
        self.network = emotion_network()
        try:
            self.network.load_state_dict({k: v.float() for k, v in load_file(str(path)).items()})
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"{path} does not hold the weights of the emotion estimator: {error}") from error
        self.network.eval()

    def estimate(self, face: Face, photo: np.ndarray | None = None) -> Emotion:
        """photo: not read."""
        import torch

        with torch.inference_mode():
            out = self.network(torch.from_numpy(np.asarray(face.blendshapes, np.float32))[None])[0]
            return Emotion.from_vector(torch.cat([out[:2].tanh(), out[2:].softmax(0)]).numpy())
