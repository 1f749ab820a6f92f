"""A prepared folder without a photograph in it: random features of the right shapes, small latents for speed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from facecrafter_core.faces.emotion import EMOTIONS
from training.prepared import FORMAT

SIDE = 16  # at 8 the innermost GroupNorm would see two numbers a group, and round-off would grow to percents


def make_prepared(folder: Path, people: int = 6, each: int = 4, family: str = "demo", side: int = SIDE) -> Path:
    """`people` x `each` images of random features; the last two people are for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    n, dim = people * each, 128

    def unit(*shape: int) -> np.ndarray:
        x = rng.normal(size=shape).astype(np.float32)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    emotions = np.concatenate([rng.uniform(-1, 1, (n, 2)), rng.dirichlet(np.ones(8), n)], axis=1).astype(np.float32)
    arrays = {
        "latent_mean": rng.normal(size=(n, 4, side, side)).astype(np.float16),
        "identities": unit(n, dim),
        "identities_flipped": unit(n, dim),
        "landmarks": rng.uniform(0.2, 0.8, (n, 478, 3)).astype(np.float32),
        "blendshapes": rng.uniform(0, 1, (n, 52)).astype(np.float16),
        "emotions": emotions,
        "drawings": rng.integers(0, 255, (n, 256, 256, 3), np.uint8),
        "masks": (rng.uniform(size=(n, side, side)) > 0.5).astype(np.uint8) * 255,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    person = [f"person {i // each}" for i in range(n)]
    columns = {"key": [str(i) for i in range(n)], "person": person, "split": ["validation" if i // each >= people - 2 else "train" for i in range(n)]}
    columns |= {name: rng.uniform(-most, most, n) for name, most in (("yaw", 40), ("pitch", 40), ("roll", 5))}
    columns |= dict(zip(("valence", "arousal", *EMOTIONS), emotions.T, strict=True))
    pyarrow.parquet.write_table(pyarrow.table({"index": np.arange(n), **columns}), folder / "manifest.parquet")
    (folder / "prepared.json").write_text(json.dumps({"format": FORMAT, "family": family, "images": n, "people": people, "models": {}}))
    return folder
