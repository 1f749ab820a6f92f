"""Asked for against found (Sec. 4.2, Table 1). N pictures; NaN stands for a picture in which no face was found, and is left out."""

from __future__ import annotations

import numpy as np

from ..errors import MetricError
from ..faces.landmarks import LEFT_EYE, RIGHT_EYE


def landmark_error(found: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Mean distance over the 478 points in the picture's plane, in percent of the asked-for distance between the eyes.

    Args:
        found, asked: [N, 478, 3] in the same unit.

    Returns:
        [N].
    """
    _pair(found, asked)
    eyes = np.linalg.norm(asked[:, LEFT_EYE, :2].mean(1) - asked[:, RIGHT_EYE, :2].mean(1), axis=1)
    return 100 * np.linalg.norm(found[:, :, :2] - asked[:, :, :2], axis=2).mean(1) / eyes


def squared_error(found: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Mean over a picture's numbers of (found - asked)^2: [N, ...] -> [N]. The root of its mean over pictures is the RMSE."""
    _pair(found, asked)
    return np.square(found - asked).reshape(len(found), -1).mean(1)


def rmse(squared: np.ndarray) -> float:
    """Root of the mean of squared errors [N]."""
    return float(np.sqrt(np.nanmean(squared))) if np.isfinite(squared).any() else float("nan")


def distribution_distance(found: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Squared distance of two class distributions, summed over the classes: [N, 8] -> [N].

    The paper gives Dist-RMSE values up to 0.87, which no root mean square over eight probabilities can reach: the most is 0.5. With the sum
    over classes the most is 1.41. `squared_error` is the definition with the mean.
    """
    _pair(found, asked)
    return np.square(found - asked).sum(1)


def same_class(found: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """1.0 where the most likely of the classes [N, 8] is the same, else 0.0; NaN where nothing was found or asked for. Its mean is the class accuracy."""
    _pair(found, asked)
    seen = np.isfinite(found).all(1) & np.isfinite(asked).all(1)
    return np.where(seen, np.nan_to_num(found).argmax(1) == np.nan_to_num(asked).argmax(1), np.nan)


def similarity(found: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Cosine of identity vectors [N, D] -> [N]."""
    _pair(found, asked)
    return (found * asked).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(asked, axis=1))


def own_among(found: np.ndarray, gallery: np.ndarray, own: np.ndarray) -> np.ndarray:
    """1.0 where the gallery's nearest entry is the own one, else 0.0 (also without a face).

    Args:
        found: [N, D] unit vectors. gallery: [G, D] unit vectors; an entry of NaN is nobody's nearest. own: [N] places in the gallery.
    """
    seen = np.isfinite(found).all(1)
    nearest = np.where(np.isfinite(gallery).all(1), np.nan_to_num(found) @ np.nan_to_num(gallery).T, -np.inf).argmax(1)
    return (seen & (nearest == own)).astype(float)


def spread(values: np.ndarray, person: np.ndarray) -> np.ndarray:
    """How much the pictures of one person differ: [N, K] -> per person the deviation over their pictures, averaged over the K numbers.

    People with fewer than two usable pictures are left out.
    """
    seen, out = np.isfinite(values).all(1), []
    for one in np.unique(person):
        own = values[seen & (person == one)]
        if len(own) > 1:
            out.append(own.std(0, ddof=1).mean())
    return np.array(out)


def _pair(found: np.ndarray, asked: np.ndarray) -> None:
    if found.shape != asked.shape or not len(found):
        raise MetricError(f"Expected as many found as asked-for values, at least one, found shapes {list(found.shape)} and {list(asked.shape)}.")
