"""Rendered people in memory: the shards of training/synthetic/generate.py, split by identity number.

Shapes: N images, 478 landmarks in units of the picture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facecrafter_core.faces.align import face_square

TEST = range(0, 200)  # held out: never trained on, never used to choose a setting
VALIDATION = range(200, 400)  # for choosing settings
TRAINING_FIRST = 400


@dataclass
class Faces:
    """Images in which MediaPipe found the face.

    Attributes:
        images: uint8 [N, 256, 256, 3].  landmarks: [N, 478, 3].  blendshapes: [N, 52].
        labels: float32 by column name, each [N]; person: identity numbers [N].
    """

    images: np.ndarray
    landmarks: np.ndarray
    blendshapes: np.ndarray
    labels: dict[str, np.ndarray]
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.person)

    def table(self, names: list[str]) -> Tensor:
        """Label columns as float32 [N, len(names)]."""
        return torch.from_numpy(np.stack([self.labels[name] for name in names], axis=1).astype(np.float32))

    def take(self, which: np.ndarray) -> Faces:
        labels = {k: v[which] for k, v in self.labels.items()}
        return Faces(self.images[which], self.landmarks[which], self.blendshapes[which], labels, self.person[which])

    def split(self, name: str) -> Faces:
        """"train", "validation" or "test"."""
        ranges = {"test": TEST, "validation": VALIDATION}
        p = self.person
        return self.take(np.isin(p, ranges[name]) if name in ranges else p >= TRAINING_FIRST)


def load_faces(folder: str | Path, images: bool = True) -> Faces:
    """Reads all shards of a folder; images without a found face are left out.

    Args:
        images: False leaves the pictures on disk (`images` is then an empty array a row).
    """
    folder = Path(folder)
    columns = json.loads((folder / "columns.json").read_text())
    names = sorted(p.name[len("images_") : -len(".npy")] for p in folder.glob("images_*.npy"))
    if not names:
        raise SystemExit(f"Expected shards images_*.npy in {folder}, found none. Run training/synthetic/generate.py first.")
    parts: dict[str, list[np.ndarray]] = {"images": [], "landmarks": [], "blendshapes": [], "labels": []}
    for name in names:
        found = np.isfinite(np.load(folder / f"landmarks_{name}.npy")).all((1, 2))
        for key in parts:
            whole = np.load(folder / f"{key}_{name}.npy", mmap_mode="r")
            parts[key].append(whole[found] if images or key != "images" else np.empty((found.sum(), 0), np.uint8))
    pictures, landmarks, blendshapes, table = (np.concatenate(parts[k]) for k in ("images", "landmarks", "blendshapes", "labels"))
    labels = {column: table[:, i] for i, column in enumerate(columns)}
    print(f"{len(pictures)} images with a face in {len(names)} shards of {folder}", flush=True)
    return Faces(pictures, landmarks, blendshapes, labels, labels["person"].astype(np.int64))


def identity_squares(landmarks: np.ndarray) -> Tensor:
    """Upright FFHQ square of each image, as the [N, 2, 3] matrices of torch.nn.functional.affine_grid.

    The same square as facecrafter_core.faces.align.align_face(rotate=True) cuts.
    """
    xy = landmarks[:, :, :2]
    matrices = np.empty((len(xy), 2, 3), np.float32)
    for i, p in enumerate(xy):
        centre, half, axis = face_square(p)
        x = np.asarray(axis) * half
        matrices[i] = np.stack([x, [-x[1], x[0]], np.asarray(centre) - 0.5], axis=1) * 2
    return torch.from_numpy(matrices)


def cut(images: Tensor, squares: Tensor, size: int) -> Tensor:
    """images uint8 [B, 256, 256, 3], squares [B, 2, 3] -> crops [B, 3, size, size] in [-1, 1]."""
    x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    grid = torch.nn.functional.affine_grid(squares.to(x), (len(x), 3, size, size), align_corners=False)
    x = torch.nn.functional.avg_pool2d(x, 2) if size * 2 <= x.shape[-1] else x
    return torch.nn.functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def partners(person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each image, the index of another image of the same person (its own, where there is no other)."""
    order = np.lexsort((rng.random(len(person)), person))
    sorted_person = person[order]
    start = np.r_[0, np.flatnonzero(np.diff(sorted_person)) + 1]
    count = np.diff(np.r_[start, len(person)])
    first, n = np.repeat(start, count), np.repeat(count, count)
    place = np.arange(len(person)) - first
    shift = np.where(n > 1, 1 + (rng.random(len(person)) * (n - 1)).astype(int), 0)
    result = np.empty(len(person), np.int64)
    result[order] = order[first + (place + shift) % n]
    return result
