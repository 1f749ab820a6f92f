"""Items -> rows of features: the one function behind every backend of training/prepare.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import torch
from torch import Tensor

from facecrafter_core.control.config import PRESETS
from facecrafter_core.diffusion.families import FAMILIES
from facecrafter_core.errors import UNUSABLE, NoFaceError
from facecrafter_core.faces.align import align_face
from facecrafter_core.faces.drawing import draw_landmarks
from facecrafter_core.faces.emotion import EMOTIONS
from facecrafter_core.faces.emotion_estimators import emotion_weights, load_emotion_estimator
from facecrafter_core.faces.identity import face_crop, load_identity_encoder
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.faces.mask import face_mask
from facecrafter_core.search import add_search_folder, find_asset
from training.base import autoencoder_weights, load_autoencoder
from training.prepared import fingerprint
from training.sources import Item, load, shard

VALIDATION_SHARE = 0.02
"""Of the people of a source that names no split; which ones follows from their names."""

BATCH = {"demo": 32, "full": 4}
"""Pictures that go through the networks at once. Fixed, so that every backend computes the same numbers, and many processes fit on a GPU."""


@dataclass
class Rows:
    """Arrays by name (training.prepared.ARRAYS), manifest columns, and the items without a row: (key, reason)."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    rejected: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Seen:
    """One usable picture. picture uint8 [S, S, 3]; crop [3, s, s] for the identity; landmarks [478, 3] in units of the picture.
    emotion: [10], NaN where it is still to be estimated, from look. identity: [2, D] of the crop and its mirror image, once it is known. size: (height, width) of the photo. square: left, top and side of the
    picture in the photo, in pixels."""

    item: Item
    picture: np.ndarray
    crop: Tensor
    landmarks: np.ndarray
    blendshapes: np.ndarray
    emotion: np.ndarray
    pose: tuple[float, float, float]
    size: tuple[int, int]
    square: tuple[float, float, float]
    look: np.ndarray | None = None
    identity: Tensor | None = None


class Extractor:
    """Detector and networks of one process.

    Args:
        family: "demo" or "full". models: folder with its vae and identity encoder, and the demo's emotion estimator.
        drawings: make landmark drawings too. device: of the networks.
        emotion: one of facecrafter_core.faces.emotion_estimators.ESTIMATORS.

    Raises:
        ModelError, AssetError: a network is missing.
    """

    def __init__(self, family: str, models: Path, drawings: bool, device: str, emotion: str = "automatic") -> None:
        self.family, self.drawings, self.device = FAMILIES[family], drawings, torch.device(device)
        self.vae = load_autoencoder(models).to(self.device)
        self.identity = load_identity_encoder(family, models, device)
        self.estimator = load_emotion_estimator(emotion, family, models, device)
        self.landmarker = FaceLandmarker()

    @staticmethod
    def fingerprints(family: str, models: Path, emotion: str = "automatic") -> dict[str, str]:
        """Of each network that makes features."""
        places = {"vae": autoencoder_weights(models), "identity": models / "identity", "emotion": emotion_weights(emotion, family, models)}
        if family == "full":
            add_search_folder(models)
            places["identity"] = find_asset("arcface")
        return {name: fingerprint(place) for name, place in places.items()}

    def __call__(self, items: Sequence[Item]) -> Rows:
        rows, seen = Rows(), []
        for item in items:
            try:
                seen.append(self.look(item))
            except (*UNUSABLE, cv2.error) as error:
                rows.rejected.append((item.key, str(error).strip()))
        seen = [one for one in seen if self.identify(one, rows.rejected)]
        if seen:
            self.estimate_emotions(seen)
            rows.arrays, rows.columns = self.encode(seen), self.describe(seen)
        return rows

    def identify(self, one: Seen, rejected: list[tuple[str, str]]) -> bool:
        """Fills in the identity vectors. Where the recogniser's own detector sees no face, the picture is rejected: False."""
        try:
            one.identity = self.identity.encode(torch.stack([one.crop, one.crop.flip(-1)]))
        except NoFaceError as error:
            rejected.append((one.item.key, str(error)))
        return one.identity is not None

    def estimate_emotions(self, seen: Sequence[Seen]) -> None:
        """Fills in what is NaN, all at once; what the list or the generator said stays."""
        open_ = [s for s in seen if s.look is not None]
        for one, found in zip(open_, self.estimator.estimate([s.look for s in open_]), strict=True):
            one.emotion = np.where(np.isnan(one.emotion), found, one.emotion)

    def look(self, item: Item) -> Seen:
        """Reads one picture and finds its face."""
        photo = load(item)
        if "columns.json" in _neighbours(item.path):
            return self._known(item, photo)
        face = self.landmarker.find_face(photo)
        square = align_face(photo, face.landmarks, self.family.image_size, rotate=False)
        crop = face_crop(photo, face, self.identity.crop_size)
        emotion = np.full(2 + len(EMOTIONS), np.nan, np.float32)
        if item.affect is not None:
            emotion[:2] = item.affect
        scale, (left, top) = square.matrix[0, 0], square.matrix[:, 2]
        place = (-left / scale, -top / scale, self.family.image_size / scale)
        return Seen(item, square.image, crop, square.landmarks, face.blendshapes, emotion, tuple(face.pose), photo.shape[:2], place, self.estimator.look(photo, face))

    def _known(self, item: Item, picture: np.ndarray) -> Seen:
        """A rendered picture, whose framing, landmarks and labels are the generator's."""
        landmarks, blendshapes, labels = (np.array(shard(item.path.replace("images_", f"{n}_"))[item.place]) for n in ("landmarks", "blendshapes", "labels"))
        if not np.isfinite(landmarks).all():
            raise NoFaceError("MediaPipe found no face in this rendered picture.")
        value = dict(zip(_neighbours(item.path)["columns.json"], labels.tolist(), strict=True))
        emotion = np.array([value[name] for name in ("valence", "arousal", *EMOTIONS)], np.float32)
        aligned = align_face(picture, landmarks * [picture.shape[1], picture.shape[0], picture.shape[1]], self.identity.crop_size)
        crop = torch.from_numpy(np.ascontiguousarray(aligned.image)).permute(2, 0, 1).float() / 127.5 - 1
        pose, whole = (value["yaw"], value["pitch"], value["roll"]), (0.0, 0.0, float(picture.shape[0]))
        return Seen(item, picture, crop, landmarks, blendshapes, emotion, pose, picture.shape[:2], whole)

    @torch.inference_mode()
    def encode(self, seen: list[Seen]) -> dict[str, np.ndarray]:
        """The arrays of training.prepared.ARRAYS."""
        side, parts = self.family.latent_size, []
        batch = BATCH[self.family.name]
        for start in range(0, len(seen), batch):
            some = seen[start : start + batch]
            pictures = torch.from_numpy(np.stack([s.picture for s in some])).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
            identities = torch.stack([s.identity for s in some])
            part = {"identities": identities[:, 0], "identities_flipped": identities[:, 1]}
            if hasattr(self.vae.config, "latent_channels") and hasattr(self.vae, "quant_conv"):
                latents, scale = self.vae.encode(pictures).latent_dist, self.vae.config.scaling_factor
                part |= {"latent_mean": (latents.mean * scale).half(), "latent_std": (latents.std * scale).half()}
            else:
                part["latent_mean"] = self.vae.encoder(pictures).half()
            parts.append({name: value.cpu().numpy() for name, value in part.items()})
        arrays = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        arrays["landmarks"] = np.stack([s.landmarks for s in seen]).astype(np.float32)
        arrays["blendshapes"] = np.stack([s.blendshapes for s in seen]).astype(np.float16)
        arrays["emotions"] = np.stack([s.emotion for s in seen]).astype(np.float32)
        arrays["masks"] = np.stack([_reduced_mask(s.landmarks, self.family.image_size, side) for s in seen])
        if self.drawings:
            size = PRESETS[self.family.name].picture_size
            arrays["drawings"] = np.stack([draw_landmarks(s.landmarks, size) for s in seen])
        return arrays

    def describe(self, seen: list[Seen]) -> dict[str, list[Any]]:
        """The manifest's columns."""
        columns: dict[str, list[Any]] = {
            "key": [s.item.key for s in seen],
            "person": [s.item.person for s in seen],
            "split": [s.item.split or split_of(s.item.person) for s in seen],
            "path": [s.item.path for s in seen],
            "place": [s.item.place for s in seen],
            "label": [s.item.label for s in seen],
            "height": [int(s.size[0]) for s in seen],
            "width": [int(s.size[1]) for s in seen],
        }
        for i, name in enumerate(("square_left", "square_top", "square_side")):
            columns[name] = [float(s.square[i]) for s in seen]
        for i, name in enumerate(("yaw", "pitch", "roll")):
            columns[name] = [float(s.pose[i]) for s in seen]
        for i, name in enumerate(("valence", "arousal", *EMOTIONS)):
            columns[name] = [float(s.emotion[i]) for s in seen]
        return columns


def split_of(person: str) -> str:
    return "validation" if crc32(person.encode()) % 10_000 < VALIDATION_SHARE * 10_000 else "train"


def _reduced_mask(landmarks: np.ndarray, size: int, side: int) -> np.ndarray:
    return np.round(cv2.resize(face_mask(landmarks, size), (side, side), interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)


_columns: dict[str, dict[str, list[str]]] = {}


def _neighbours(path: str) -> dict[str, list[str]]:
    """The generator's columns beside a shard; empty for anything else."""
    folder = Path(path).parent
    if (key := str(folder)) not in _columns:
        file = folder / "columns.json"
        _columns[key] = {"columns.json": json.loads(file.read_text())} if path.endswith(".npy") and file.is_file() else {}
    return _columns[key]
