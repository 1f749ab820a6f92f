"""Which numbers a setting may have: checked before anything is loaded."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from facecrafter_core.errors import FaceCrafterError


class ConfigError(FaceCrafterError):
    """Settings that cannot be used; the message says what was expected, what was found and what to do."""


@dataclass(frozen=True)
class Range:
    """Finite numbers from `least` to `most`.

    Args:
        most: None is no limit. above: `least` itself is not in the range.
    """

    least: float
    most: float | None = None
    above: bool = False

    def __contains__(self, value: float) -> bool:  # nan is in no range
        return (self.least < value or (value == self.least and not self.above)) and (value < math.inf if self.most is None else value <= self.most)

    def __str__(self) -> str:
        if self.above:
            return f"more than {self.least}" + ("" if self.most is None else f" and at most {self.most}")
        return f"at least {self.least}" if self.most is None else f"from {self.least} to {self.most}"

    def check(self, value: float, name: str) -> None:
        """
        Raises:
            ConfigError: the value is not in the range.
        """
        if value not in self:
            raise ConfigError(f"Expected {self} for {name}, found {value}.")

    def of(self, kind: type) -> Callable[[str], Any]:
        """A type for argparse: text -> an int or a float of this range."""

        def number(text: str) -> Any:
            value = kind(text)
            if value not in self:
                raise argparse.ArgumentTypeError(f"expected {self}, found {text}")
            return value

        number.__name__ = {int: "whole number", float: "number"}[kind]
        return number


COUNT = Range(1)
"""Of things of which there must be one at least."""
EVERY = Range(0)
"""Steps from one to the next, or a number that is counted from 0."""
SHARE = Range(0, 1)
LEARNING_RATE = Range(0, 1, above=True)
TIMESTEP_POWER = Range(0.01, 100)
SEED = Range(0, 2**64 - 1)
STEPS = Range(1, 1000)
"""Of sampling."""
WEIGHT = Range(0, 20)
"""Of guidance, Eq. 6."""
ALPHA = Range(0, 2)
"""Strength of a branch."""


def check_ranges(settings: Any, prefix: str = "--") -> None:
    """Holds each number of a dataclass against the Range that its annotation names; None is not looked at.

    Args:
        prefix: of the settings' names in the message.

    Raises:
        ConfigError: a number is out of its range.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        value = getattr(settings, name)
        for found in (part for part in get_args(hint) if isinstance(part, Range) and value is not None):
            found.check(value, prefix + name.replace("_", "-"))
