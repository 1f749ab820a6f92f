"""Runs of training.evaluate as the study reads them, with plain coloured pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from training.benchmark import Plan, Wanted, save_plan

ROWS = [("one", "a, + both"), ("two", "b, + both"), ("three", "c, + both")]


def make_run(folder: Path, control: bool, people: int = 6, each: int = 2) -> Path:
    """A run whose pictures differ by row and key."""
    rng = np.random.default_rng(0)

    def picture() -> np.ndarray:
        return np.broadcast_to(rng.integers(0, 256, (1, 1, 3), dtype=np.uint8), (32, 32, 3)).copy()

    count = people if control else people * each
    identity = np.arange(count) if control else np.repeat(np.arange(people), each)
    photos = [picture() for _ in range(people)]
    wanted = Wanted("control" if control else "identity", "", "all", size=32, seed=0, identities=people)
    plan = Plan(photos, photos, photos if control else [], identity, np.roll(identity, 1), np.arange(count), wanted, 0, [])
    save_plan(plan, folder)
    for _, row in ROWS:
        rows = folder / "pictures" / (row if control else f"{row.split(',')[0]}, identity only")
        rows.mkdir(parents=True)
        for key in plan.keys:
            Image.fromarray(picture()).save(rows / f"{key}.png")
    return folder
