"""What estimators find in a benchmark's pictures, kept in its folder, so that nothing is read twice.

    measures/ROW/NNNNN.npz      a row's pictures, a file a chunk
    asked/KIND.npz              the plan's targets and references; real photos for FID
    */origin.json               what the numbers beside it were made from (training/origin.py)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from facecrafter_core.errors import MetricError
from facecrafter_core.files import write_whole
from facecrafter_core.metrics.estimators import read_all
from facecrafter_core.metrics.perceptual import Perceptual
from facecrafter_core.metrics.reading import Estimator
from training.benchmark import Plan, Squares
from training.finder import Finder
from training.origin import keep_origin
from training.progress import progress
from training.sources import Item


def load_picture(path: Path) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.asarray(Image.open(path).convert("RGB"))


def measure(file: Path, estimators: Sequence[Estimator], pictures: Callable[[], Sequence[np.ndarray]], find: Finder) -> dict[str, np.ndarray]:
    """The readings in a file; what is not in it yet, such as those of an estimator that was missing when it was written, is read and added."""
    there = _load(file) if file.is_file() else {}
    lacking = [e for e in estimators if not set(e.reads) <= there.keys()]
    if lacking:
        some = pictures()
        there |= read_all(lacking, some, find(some)) if some else {}
        write_whole(file, lambda stream: np.savez(stream, **there))
    return there


def gather(folder: Path, count: int) -> dict[str, np.ndarray]:
    """The chunks of a row, in order."""
    parts = [_load(file) for file in sorted(folder.glob("*.npz"))]
    together = {name: np.concatenate([p[name] for p in parts]) for name in parts[0] if all(name in p for p in parts)}
    if any(len(values) != count for values in together.values()):
        raise MetricError(f"Expected {count} measured pictures in {folder}, found {len(next(iter(together.values())))}. Remove the folder and run again.")
    return together


def asked_for(plan: Plan, estimators: Sequence[Estimator], find: Finder, out: Path) -> dict[str, dict[str, np.ndarray]]:
    """Readings of the targets (empty without any) and of the references: what the rows are compared with."""
    keep_origin(out / "asked", {}, estimators)
    pictures = {"target": plan.targets, "reference": plan.references}
    return {kind: measure(out / "asked" / f"{kind}.npz", estimators, lambda some=some: some, find) for kind, some in pictures.items()}


def lpips_of(lpips: Perceptual, plan: Plan, folder: Path) -> np.ndarray:
    """LPIPS between the pictures of each person who has at least two, in a row's folder: [people]."""
    people, found = np.unique(plan.identity), []
    with progress(len(people), "LPIPS of people") as done:
        for one in people:
            own = [load_picture(folder / f"{plan.keys[i]}.png") for i in np.flatnonzero(plan.identity == one)]
            found += [lpips.among(own)] if len(own) > 1 else []
            done(1)
    return np.array(found)


def real_features(items: Sequence[Item], inception: Estimator, count: int, size: int, seed: int, find: Finder, out: Path) -> np.ndarray:
    """Inception's features of real photos for FID: [M, 2048], M at most `count`, drawn by seed.

    Each photo is cut to the square around its face as the training photos are; photos without a face are passed over and counted.

    Args:
        size: side of the squares in pixels.

    Raises:
        MetricError: no photo has a face.
    """
    name = zlib.crc32("\n".join([*(item.key for item in items), str((count, size, seed))]).encode())
    file = out / "asked" / f"real-{name:08x}.npz"
    if file.is_file():
        return _load(file)["inception"]
    order = np.random.default_rng(seed).permutation(len(items))
    squares, parts, found, looked = Squares(size, find), [], 0, 0
    with progress(min(count, len(items)), "Real photos for FID") as done:
        while found < count and looked < len(items):
            some = [items[i] for i in order[looked : looked + min(64, count - found)]]
            looked += len(some)
            if cut := [square for group in squares.each([item] for item in some) for _, square, _ in group]:
                parts.append(inception.read(cut, [None] * len(cut))["inception"])
                found += len(cut)
                done(len(cut))
    if not parts:
        raise MetricError(f"Expected real photos with a face for FID, found none among {len(items)}. Give another --real.")
    print(f"FID: {found} real photos; {squares.report()}.", flush=True)
    features = np.concatenate(parts)
    write_whole(file, lambda stream: np.savez(stream, inception=features))
    return features


def _load(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # NumPy, zipfile and zlib have one each
        raise MetricError(f"{file} is damaged ({type(error).__name__}: {error}). Remove it and run again.") from error
