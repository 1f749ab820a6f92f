"""Intervals, and the distance of two sets of features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import MetricError


def bootstrap_interval(
    values: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean, draws: int = 1000, seed: int = 0, people: np.ndarray | None = None
) -> tuple[float, float]:
    """95% percentile interval of a statistic of values [N], over what is drawn with replacement; NaN values are left out.

    Args:
        statistic: np.mean or root_mean, called with an array [draws, M] and axis=1.
        people: [N], whose picture each value is of. People are drawn then, each with all of their pictures, since pictures of one person are
            alike: intervals over pictures would be too narrow. None draws pictures.
    """
    values = np.asarray(values, np.float64)
    seen = np.isfinite(values)
    people = np.arange(len(values)) if people is None else np.asarray(people)
    if len(set(people[seen].tolist())) < 2:
        return float("nan"), float("nan")
    [means] = _drawn_means(values[None, seen], people[seen], draws, seed)
    low, high = np.percentile(statistic(means[:, None], axis=1), [2.5, 97.5])
    return float(low), float(high)


def paired_difference(
    a: np.ndarray, b: np.ndarray, people: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """statistic(a) - statistic(b) of two methods' values [N] for the same pairs and seeds, and its 95% interval: (difference, low, high).

    Each draw takes the same people [N] for both, so what is hard about a pair is hard for both and drops out. Pairs with a NaN are left out;
    from fewer than two people, all three are NaN.
    """
    both = np.stack([np.asarray(a, np.float64), np.asarray(b, np.float64)])
    seen = np.isfinite(both).all(0)
    if len(set(np.asarray(people)[seen].tolist())) < 2:
        return float("nan"), float("nan"), float("nan")
    drawn = _drawn_means(both[:, seen], np.asarray(people)[seen], draws, seed)
    first, second = (statistic(means[:, None], axis=1) for means in drawn)
    low, high = np.percentile(first - second, [2.5, 97.5])
    value = statistic(both[:1, seen], axis=1) - statistic(both[1:, seen], axis=1)
    return float(value[0]), float(low), float(high)


def _drawn_means(values: np.ndarray, people: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Means of values [K, N] over people drawn with replacement, the same for all K: [K, draws]."""
    each = np.unique(people, return_inverse=True)[1]
    counts = np.bincount(each)
    sums = np.stack([np.bincount(each, row) for row in values])
    drawn = np.random.default_rng(seed).integers(0, len(counts), (draws, len(counts)))
    return sums[:, drawn].sum(2) / counts[drawn].sum(1)


def root_mean(squared: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Statistic of squared errors: the RMSE."""
    return np.sqrt(np.mean(squared, axis=axis))


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """95% interval of a rate (Wilson 1927)."""
    if trials < 1 or not 0 <= successes <= trials:
        raise MetricError(f"Expected 0 to N successes out of at least one trial, found {successes} out of {trials}.")
    rate = successes / trials
    scale = 1 + z * z / trials
    middle = (rate + z * z / (2 * trials)) / scale
    half = z * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2)) / scale
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2)) of two sets of features [N, D] (Heusel et al. 2017; FID with Inception's).

    The trace of the root is the sum of the roots of the eigenvalues of C_a C_b, which are those of a symmetric matrix and not negative.

    Raises:
        MetricError: fewer than two features in a set, or other widths.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise MetricError(f"Expected two sets of at least two features of one width, found shapes {list(a.shape)} and {list(b.shape)}.")
    cov_a, cov_b = np.cov(a, rowvar=False).reshape(a.shape[1], -1), np.cov(b, rowvar=False).reshape(b.shape[1], -1)
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    roots = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(0))
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())
