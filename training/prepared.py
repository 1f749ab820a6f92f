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
SHAPES = {
    "latent_mean": (4, 0, 0), "latent_std": (4, 0, 0), "identities": (0,), "identities_flipped": (0,), "landmarks": (478, 3), "blendshapes": (52,),
    "emotions": (10,), "masks": (0, 0), "drawings": (0, 0, 3),
}  # fmt: skip
"""Of a row; 0 is any length."""

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
        folder = Path(folder)
        if not (folder / "prepared.json").is_file():
            unfinished = " It holds parts of an unfinished run: start training/prepare.py again with the same arguments."
            hint = unfinished if (folder / "parts").is_dir() else ""
            raise PreparedError(f"Expected a folder made by training/prepare.py at {folder}, found no prepared.json there.{hint}")
        info = read_info(folder)
        if info["family"] != family:
            raise PreparedError(f"{folder} was prepared for the {info['family']} family, expected {family}. Run training/prepare.py --family {family}.")
        for name, expected in (models or {}).items():
            if (found := info["models"].get(name, expected)) != expected:
                raise PreparedError(f"The features in {folder} were made with another {name} ({found}) than the one in use ({expected}). Prepare them again.")
        columns = _read_manifest(folder / "manifest.parquet")
        every, arrays = np.arange(len(columns["person"])), {}
        for name in ARRAYS:
            path = folder / f"{name}.npy"
            if path.is_file():
                arrays[name] = Column(_read_array(path, SHAPES[name], (info["images"], len(every))), every)
            elif name not in OPTIONAL:
                raise PreparedError(f"Expected {path.name} in {folder}, found no such file. Run training/prepare.py again.")
        return cls(folder, info, columns, arrays, _consecutive(columns["person"]))

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
        split = self.columns["split"]
        if not (split == "train").any():
            raise PreparedError(f"Expected images to train on in {self.folder}, found only {sorted(set(split))}. Prepare more people.")
        return self.subset(split == "train"), self.subset(split == "validation")


def _read_manifest(path: Path) -> dict[str, np.ndarray]:
    """Columns by name: key, person and split as text, the others as numbers.

    Raises:
        PreparedError: it is missing or damaged.
    """
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(path, partitioning=None)
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
        columns |= {name: columns[name].astype(str) for name in ("key", "person", "split")}
        columns |= {name: columns[name].astype(np.float64) for name in ("yaw", "pitch", "roll")}
        reason = "" if all(np.isfinite(columns[name]).all() for name in ("yaw", "pitch", "roll")) else "some head angles are no numbers"
    except Exception as error:  # pyarrow and NumPy have many
        reason = f"{type(error).__name__}: {error}"
    if reason:
        raise PreparedError(f"{path} is missing or damaged ({' '.join(reason.split())[:200]}). Run training/prepare.py again.")
    return columns


def _read_array(path: Path, shape: tuple[int, ...], rows: tuple[int, int]) -> np.ndarray:
    """An array, memory-mapped.

    Args:
        shape: of a row, with 0 for any length. rows: as many as prepared.json says, and the manifest has.

    Raises:
        PreparedError: it is damaged, or of another shape.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        count = len(array)
    except Exception as error:  # a cut file is shorter than its own header says; a damaged header is read as anything
        raise PreparedError(f"{path} is cut or damaged ({' '.join(str(error).split())[:200]}). Run training/prepare.py again.") from error
    if (count, count) != rows:
        raise PreparedError(f"{path} has {count} rows, the manifest {rows[1]}, prepared.json says {rows[0]}. Prepare again.")
    fits = len(array.shape) == 1 + len(shape) and all(found == wanted or not wanted for found, wanted in zip(array.shape[1:], shape, strict=True))
    if not fits or array.dtype.kind not in "fu":
        raise PreparedError(f"{path} holds {array.dtype} {list(array.shape)}, expected numbers of shape {[count, *(n or 'any' for n in shape)]}. Prepare again.")
    return array


def read_json(path: Path) -> dict[str, Any]:
    """
    Raises:
        PreparedError: it is damaged.
    """
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise PreparedError(f"{path} is damaged ({error}). Prepare the images again.") from error
    if not isinstance(values, dict):
        raise PreparedError(f"{path} is damaged (expected settings by name, found {type(values).__name__}). Prepare the images again.")
    return values


def read_info(folder: Path) -> dict[str, Any]:
    """FOLDER/prepared.json.

    Raises:
        PreparedError: it is damaged, or of another version.
    """
    path = folder / "prepared.json"
    info = read_json(path)
    if info.get("format") != FORMAT:
        raise PreparedError(f"{folder} has format {info.get('format')!r}, expected {FORMAT}. Prepare the images again with this version.")
    kinds = {"family": str, "models": dict, "images": int, "people": int}
    if wrong := [name for name, kind in kinds.items() if not isinstance(info.get(name), kind)]:
        raise PreparedError(f"{path} is damaged (it does not say {' and '.join(wrong)}). Prepare the images again.")
    return info


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
