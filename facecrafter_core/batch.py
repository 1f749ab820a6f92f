"""Batches that go together: each is as long as the longest, or 1 and serves all; and their seeds."""

from __future__ import annotations

from .errors import FaceCrafterError

SEEDS = 2**64
"""A seed is a whole number from 0 to SEEDS - 1, as in ComfyUI and torch."""


def seed_after(seed: int, place: int) -> int:
    """The seed of the picture at a place (from 0) in a batch that begins with `seed`. After the last seed comes 0."""
    return (seed + place) % SEEDS


def common_length(error: type[FaceCrafterError], **lengths: int | None) -> int:
    """The length of the batch that batches of these lengths make; None is absent.

    Raises:
        error: one is neither 1 nor the longest, or empty.
    """
    given = {name: length for name, length in lengths.items() if length is not None}
    longest = max(given.values())
    for name, length in given.items():
        if length not in (1, longest) or not length:
            raise error(f"Expected 1 or {max(longest, 1)} entries of {name}, found {length}. Give one for all, or as many as of the others.")
    return longest


def picture_names(batch: str, count: int) -> list[str]:
    """What errors call the pictures of a batch (errors.about): "picture 2 of 3 in photo", counted from 1; a single one has the batch's own name.

    Args:
        batch: name of the input or argument that the pictures come from; "" where there is no name.
    """
    inside = f" in {batch}" if batch else ""
    return [f"picture {i} of {count}{inside}" for i in range(1, count + 1)] if count > 1 else [batch] * count
