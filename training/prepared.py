"""Prepared faces: the folder that training/prepare.py writes and the training stages read.

    manifest.parquet     a row an image: key, person, where it came from, pose, valence, arousal
    *.npy                one memory-mapped array a feature, with a row an image (ARRAYS below)
    prepared.json        format version, family, sizes, and the fingerprints of the models that made the features
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facecrafter_core.errors import FaceCrafterError

FORMAT = 1

ARRAYS = {
    "latent_mean": "[N, 4, h, w] fp16: mean of the autoencoder's distribution, scaled as the denoiser expects",
    "latent_std": "[N, 4, h, w] fp16: its deviation, scaled alike (only autoencoders with a distribution)",
    "identities": "[N, D] fp32 unit vectors",
    "identities_flipped": "[N, D] fp32: of the mirrored picture; the identity of people with one image",
    "landmarks": "[N, 478, 3] fp32 in units of the crop",
    "blendshapes": "[N, 52] fp16: MediaPipe's scores",
    "emotions": "[N, 10] fp32: valence, arousal, eight classes",
    "masks": "[N, h, w] uint8: share of the face in each latent pixel, 0..255",
    "drawings": "[N, S, S, 3] uint8: landmark drawings (optional; drawn while training where they are missing)",
}
OPTIONAL = {"latent_std", "drawings"}


class PreparedError(FaceCrafterError):
    """A prepared folder cannot be used; the message says what was expected, what was found and what to do."""


class Column:
    """Some rows of a memory-mapped array; only those that are asked for are read."""

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        self.array, self.rows = array, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Any) -> np.ndarray:
        return self.array[self.rows[which]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.array[self.rows], dtype)


@dataclass(frozen=True)
class Prepared:
    """Memory-mapped features and the manifest.

    Attributes:
        info: prepared.json. columns: the manifest, as arrays by column name. person: numbers [N], consecutive from 0.
    """

    folder: Path
    info: dict[str, Any]
    columns: dict[str, np.ndarray]
    arrays: dict[str, Column]
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.person)

    def __getitem__(self, name: str) -> Column:
        return self.arrays[name]

    @property
    def pose(self) -> np.ndarray:
        """Yaw, pitch and roll in degrees, [N, 3]."""
        return np.stack([self.columns[name] for name in ("yaw", "pitch", "roll")], axis=1)

    @classmethod
    def open(cls, folder: str | Path, family: str, models: dict[str, str] | None = None) -> Prepared:
        """Opens a folder and checks that it is whole.

        Args:
            family: "full" or "demo", which the features must have been made for.
            models: fingerprints that the features must have been made with, by name; those missing on either side are not compared.

        Raises:
            PreparedError: no prepared folder, of another format or family, made with other models, or with arrays missing or cut.
        """
        import pyarrow.parquet as parquet

        folder = Path(folder)
        if not (folder / "prepared.json").is_file():
            unfinished = " It holds parts of an unfinished run: start training/prepare.py again with the same arguments."
            hint = unfinished if (folder / "parts").is_dir() else ""
            raise PreparedError(f"Expected a folder made by training/prepare.py at {folder}, found no prepared.json there.{hint}")
        try:
            info = json.loads((folder / "prepared.json").read_text())
        except ValueError as error:
            raise PreparedError(f"{folder / 'prepared.json'} is damaged ({error}). Prepare the images again.") from error
        if info.get("format") != FORMAT:
            raise PreparedError(f"{folder} has format {info.get('format')!r}, expected {FORMAT}. Prepare the images again with this version.")
        if info["family"] != family:
            raise PreparedError(f"{folder} was prepared for the {info['family']} family, expected {family}. Run training/prepare.py --family {family}.")
        for name, expected in (models or {}).items():
            if (found := info["models"].get(name, expected)) != expected:
                raise PreparedError(f"The features in {folder} were made with another {name} ({found}) than the one in use ({expected}). Prepare them again.")
        try:
            table = parquet.read_table(folder / "manifest.parquet")
        except (OSError, ValueError) as error:  # pyarrow's errors are one or the other
            raise PreparedError(f"{folder / 'manifest.parquet'} is missing or damaged. Run training/prepare.py again.") from error
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
        every, arrays = np.arange(table.num_rows), {}
        for name in ARRAYS:
            path = folder / f"{name}.npy"
            if not path.is_file():
                if name not in OPTIONAL:
                    raise PreparedError(f"Expected {path.name} in {folder}, found no such file. Run training/prepare.py again.")
                continue
            try:
                array = np.load(path, mmap_mode="r")
            except (OSError, ValueError) as error:  # a cut file is shorter than its own header says
                raise PreparedError(f"{path} is cut or damaged ({error}). Run training/prepare.py again.") from error
            if len(array) != info["images"] or len(array) != len(every):
                raise PreparedError(f"{path} has {len(array)} rows, the manifest {len(every)}, prepared.json says {info['images']}. Prepare again.")
            arrays[name] = Column(array, every)
        return cls(folder, info, columns, arrays, _consecutive(columns["person"].astype(str)))

    def subset(self, which: np.ndarray) -> Prepared:
        """The rows of a mask or an index; the arrays stay on disk."""
        rows = np.flatnonzero(which) if which.dtype == bool else which
        columns = {name: values[rows] for name, values in self.columns.items()}
        arrays = {name: Column(column.array, column.rows[rows]) for name, column in self.arrays.items()}
        return Prepared(self.folder, {**self.info, "images": len(rows)}, columns, arrays, _consecutive(self.person[rows]))


    def split(self) -> tuple[Prepared, Prepared]:
        """The training and the validation images.

        Raises:
            PreparedError: there are no training images.
        """
        split = self.columns["split"].astype(str)
        if not (split == "train").any():
            raise PreparedError(f"Expected images to train on in {self.folder}, found only {sorted(set(split))}. Prepare more people.")
        return self.subset(split == "train"), self.subset(split == "validation")


def _consecutive(people: np.ndarray) -> np.ndarray:
    return np.unique(people, return_inverse=True)[1].astype(np.int64)


def fingerprint(path: str | Path) -> str:
    """First 16 digits of the sha256 of a file, or of all weight files in a folder."""
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.suffix in (".safetensors", ".bin", ".onnx")) if path.is_dir() else [path]
    if not files or not all(f.is_file() for f in files):
        raise PreparedError(f"Expected model weights at {path}, found none.")
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]
