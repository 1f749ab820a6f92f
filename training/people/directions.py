"""Directions in the generator's style space along which a face moves and stays the same person, and the file that keeps them.

fit_directions.py makes the file. Two kinds are in it. Ridge directions are columns of a regression, one for each score that varies among the generator's
people. Optimised directions are found through the generator, one for each of AIMS; they reach what hardly varies, such as the gaze.

Scores are three head angles in degrees (Pose) and MediaPipe's 52 blendshapes in 0..1. Shapes: N people, K scores, T aims.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facecrafter_core.errors import ModelError
from facecrafter_core.faces.blendshapes import BLENDSHAPES
from facecrafter_core.faces.face import Pose
from facecrafter_core.files import write_whole
from training.people.generator import SHAPE_INPUTS, STYLE_DIM, STYLE_INPUTS

FILE = Path(__file__).with_name("directions.npz")

SCORES = (*Pose._fields, *BLENDSHAPES)
"""The order of every vector of 55 scores here."""


def _both(name: str, change: float) -> dict[str, float]:
    return {f"{name}Left": change, f"{name}Right": change}


AIMS: dict[str, dict[str, float]] = {
    "frown": {**_both("mouthFrown", 0.35), "mouthShrugLower": 0.3},
    "blink": _both("eyeBlink", 0.6),
    "pucker": {"mouthPucker": 0.7},
    "press": _both("mouthPress", 0.45),
    "sneer": {**_both("noseSneer", 0.3), **_both("mouthUpperUp", 0.3)},
    "wide": {**_both("eyeWide", 0.35), "browInnerUp": 0.3},
    "stretch": {**_both("mouthStretch", 0.35), **_both("mouthLowerDown", 0.3)},
    "contempt": {"mouthSmileLeft": 0.45, "mouthDimpleLeft": 0.2},
    "lookL": {"eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5},
    "lookR": {"eyeLookInLeft": 0.5, "eyeLookOutRight": 0.5},
    "lookU": _both("eyeLookUp", 0.4),
    "lookD": _both("eyeLookDown", 0.5),
    "browdown": _both("browDown", 0.5),
    "innerup": {"browInnerUp": 0.6},
    "jaw": {"jawOpen": 0.5},
    "smile": _both("mouthSmile", 0.6),
    "unsmile": _both("mouthSmile", -0.5),
    "yaw": {"yaw": 38.0},
    "pitchup": {"pitch": 20.0},
    "pitchdown": {"pitch": -20.0},
    "funnel": {"mouthFunnel": 0.4},
}
"""Optimised direction -> the changes of scores that it should make at strength 1."""

BREAK_THE_FACE = ("frown", "wide")
"""Their sheets show faces that are no longer whole: pictures are not drawn along them."""


@dataclass(frozen=True)
class Directions:
    """What the file holds.

    Attributes:
        ridge: float32 [512, K], the style's change with one standard deviation of a score.
        names: K of SCORES, those that vary.
        sd: float32 [K], the standard deviations, in the scores' own units.
        mean: float32 [512], the mean style.
        opt: float32 [T, 9, 512], the changes of the first nine style inputs at strength 1.
        optnames: T of AIMS.
    """

    ridge: np.ndarray
    names: tuple[str, ...]
    sd: np.ndarray
    mean: np.ndarray
    opt: np.ndarray
    optnames: tuple[str, ...]

    @classmethod
    def load(cls, path: Path = FILE) -> Directions:
        """
        Raises:
            ModelError: there is no such file, or it holds something else.
        """
        advice = "Reinstall FaceCrafter or run training.people.fit_directions."
        try:
            with np.load(path, allow_pickle=False) as file:
                texts = {name: tuple(file[name].tolist()) for name in ("names", "optnames")}
                arrays = {name: file[name] for name in ("ridge", "sd", "mean", "opt")}
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path} cannot be read as directions ({error}). {advice}") from error
        k, t = len(texts["names"]), len(texts["optnames"])
        expected = {"ridge": (STYLE_DIM, k), "sd": (k,), "mean": (STYLE_DIM,), "opt": (t, SHAPE_INPUTS, STYLE_DIM)}
        found = {name: array.shape for name, array in arrays.items()}
        if found != expected:
            raise ModelError(f"Expected directions of shapes {expected} in {path}, found {found}. {advice}")
        return cls(**arrays, **texts)

    def save(self, path: Path) -> Path:
        """
        Raises:
            OutputError: it cannot be written.
        """
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("ridge", "sd", "mean", "opt")}
        texts = {name: np.array(getattr(self, name), dtype=str) for name in ("names", "optnames")}
        return write_whole(path, lambda file: np.savez_compressed(file, **arrays, **texts))

    def along(self, changes: Mapping[str, float]) -> np.ndarray:
        """Changes of scores, in their own units -> the change of the style [512] by the regression. A score that does not vary adds nothing."""
        steps = [changes.get(name, 0.0) / sd for name, sd in zip(self.names, self.sd, strict=True)]
        return (self.ridge @ np.array(steps)).astype(np.float32)

    def optimised(self, name: str) -> np.ndarray:
        """The change of the first nine style inputs [9, 512] for one of AIMS, at strength 1."""
        return self.opt[self.optnames.index(name)]


def style_inputs(styles: Tensor, edits: Tensor | None = None) -> Tensor:
    """styles [N, 512] -> all inputs of the generator [N, 23, 512].

    Args:
        edits: [N or 1, 9, 512], or [N or 1, 512] for the same change of the first nine inputs. The others keep hair, skin and light.
    """
    inputs = styles[:, None].repeat(1, STYLE_INPUTS, 1)
    if edits is not None:
        inputs[:, :SHAPE_INPUTS] += edits[:, None] if edits.dim() == 2 else edits
    return inputs


def as_vector(changes: Mapping[str, float]) -> Tensor:
    """Changes of scores by name -> float32 [55], zeros elsewhere."""
    vector = torch.zeros(len(SCORES))
    for name, change in changes.items():
        vector[SCORES.index(name)] = change
    return vector
