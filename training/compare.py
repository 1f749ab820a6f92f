"""Methods that answer the same pairs with the same seeds, such as the stages of one training, compared pair by pair.

What is hard about a pair is hard for both, so the difference has a much narrower interval than either value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from facecrafter_core.metrics.statistics import paired_difference


class Metric(NamedTuple):
    """How a column of a value a picture becomes a number: heading and digits in a table, factor, statistic."""

    heading: str
    digits: int
    factor: float
    statistic: Callable[..., np.ndarray]


def differences(
    columns: Mapping[str, Mapping[str, np.ndarray]], people: np.ndarray, metrics: Mapping[str, Metric]
) -> dict[str, dict[str, dict[str, float]]]:
    """"ONE - OTHER, CONDITION" -> metric -> {value, low, high}: ONE's value minus OTHER's, with a 95% interval over people.

    Args:
        columns: of rows "METHOD, CONDITION"; methods with the same condition are compared. people: [N], whose picture each value is of.
    """
    rows = {name: name.partition(", ") for name in columns}
    out = {}
    for (other, (a, _, condition)), (one, (b, _, same)) in itertools.combinations(rows.items(), 2):
        if condition and condition == same and a != b:
            shared = [name for name in metrics if name in columns[one] and name in columns[other]]
            found = {name: paired_difference(columns[one][name], columns[other][name], people, metrics[name].statistic) for name in shared}
            out[f"{b} - {a}, {condition}"] = {
                name: dict(zip(("value", "low", "high"), values, strict=True)) for name, values in found.items() if not math.isnan(values[0])
            }
    return out


def table_of_differences(found: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Metric]) -> str:
    """They as Markdown; nothing where no two methods share a condition. A difference whose interval is on one side of 0 is bold."""
    present = [name for name in metrics if any(name in values for values in found.values())]
    if not present:
        return ""
    lines = ["", "Pair by pair, on the same pairs and seeds:", "", "| Difference | " + " | ".join(metrics[name].heading for name in present) + " |", "|---" * (len(present) + 1) + "|"]
    for row, values in found.items():
        lines.append(f"| {row} | " + " | ".join(_cell(values.get(name), metrics[name]) for name in present) + " |")
    return "\n".join([*lines, "", "- In brackets: 95% bootstrap interval of the difference, over people. Bold: the interval does not hold 0.", ""])


def _cell(entry: Mapping[str, float] | None, metric: Metric) -> str:
    if entry is None:
        return "-"
    value, low, high = (f"{metric.factor * entry[name]:+.{metric.digits}f}" for name in ("value", "low", "high"))
    return f"**{value}** [{low}, {high}]" if entry["low"] > 0 or entry["high"] < 0 else f"{value} [{low}, {high}]"
