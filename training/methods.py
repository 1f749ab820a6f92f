"""What generates the pictures of a benchmark. A new method is a class with a name, a number of parameters and `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from facecrafter_core.diffusion.guidance import Guidance
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.errors import MetricError, NoFaceError
from facecrafter_core.faces.emotion_estimators import (
    AUTOMATIC,
    EmotionEstimator,
    emotion_weights,
    load_emotion_estimator,
)
from facecrafter_core.faces.identity import face_crop, load_identity_encoder
from facecrafter_core.faces.landmarker import Face, FaceLandmarker
from facecrafter_core.faces.photo import load_photo
from facecrafter_core.metrics.reading import ARCFACE, MEDIAPIPE
from facecrafter_core.search import find_asset
from training.benchmark import Plan
from training.finder import Finder
from training.origin import digest_of_files
from training.prepared import fingerprint

BATCH = {"cpu": 4}
"""Pictures that are generated together on a device; elsewhere a whole chunk. A CPU's cache holds few."""


class Method(Protocol):
    """name: of its row. parameters: added to the base, counted from its files; 0 for none, -1 where they are not known.
    conditioned: the estimator behind each quantity that conditions it. origin: what decides its pictures beside the plan, as JSON."""

    name: str
    parameters: int
    conditioned: dict[str, str]
    origin: dict[str, object]

    def generate(self, requests: Sequence[int]) -> list[np.ndarray]:
        """Pictures uint8 [S, S, 3] of these requests of the plan. The result must not depend on which requests come together."""
        ...


class Folder:
    """Another method's pictures, KEY.png (or .jpg, .webp).

    Args:
        parameters: added to its base, -1 where they are not known.

    Raises:
        MetricError: some of the plan's pictures are not there.
    """

    conditioned = {}  # noqa: RUF012

    def __init__(self, name: str, folder: Path, plan: Plan, parameters: int = -1) -> None:
        self.name, self.parameters = name, parameters
        files = {p.stem: p for p in sorted(folder.glob("*")) if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")}
        missing = [key for key in plan.keys if key not in files]
        if missing:
            raise MetricError(f"Expected a picture for each of the {len(plan)} keys in requests.csv in {folder}, {len(missing)} are missing, such as {missing[0]}.png.")
        self.files = [files[key] for key in plan.keys]
        self.origin = {"kind": "pictures", "pictures": digest_of_files(self.files)}

    def generate(self, requests: Sequence[int]) -> list[np.ndarray]:
        """
        Raises:
            PhotoError: one cannot be read. MetricError: one is not square, so that it was not cut as the plan's photos are.
        """
        pictures = [load_photo(self.files[i]) for i in requests]
        for i, picture in zip(requests, pictures, strict=True):
            if picture.shape[0] != picture.shape[1]:
                raise MetricError(f"Expected square pictures, like those of the plan, found {self.files[i]} with {picture.shape[1]} x {picture.shape[0]} pixels. Cut it to a square.")
        return pictures


@dataclass(frozen=True)
class Switches:
    """Which conditions a row uses, and how strongly."""

    landmarks: bool
    emotion: bool
    guidance: Guidance = Guidance()
    alpha_landmark: float = 1.0
    alpha_emotion: float = 1.0


class Conditions:
    """What the plan's pictures say to the core: identity vectors [I, D], landmarks [T, 478, 3], emotions [T, 10] and who estimated them.

    Made once a run, each when a row first needs it; a face that cannot be read is an error here, not a picture without control.
    """

    def __init__(self, plan: Plan, family: str, models: Path, find: Finder) -> None:
        self.plan, self.family, self.models, self.find = plan, family, models, find

    @cached_property
    def identity_origin(self) -> dict[str, str]:
        """For Method.origin."""
        return {"identity encoder": fingerprint(find_asset("arcface") if self.family == "full" else self.models / "identity")}

    @cached_property
    def emotion_origin(self) -> dict[str, str]:
        return {"emotion estimator": fingerprint(emotion_weights(AUTOMATIC, self.family, self.models))}

    @cached_property
    def identities(self) -> torch.Tensor:
        encoder = load_identity_encoder(self.family, self.models)
        faces, found = self.find.each(FaceLandmarker.find_face, self.plan.identities), []
        for number, photo in enumerate(self.plan.identities):
            try:
                found.append(encoder.encode(face_crop(photo, next(faces), encoder.crop_size)[None]))
            except NoFaceError as error:
                raise MetricError(f"The identity identities/{number:03d}.png of the plan cannot be read: {error} Leave that person out of --source, and use another --out.") from error
        return torch.cat(found)

    @cached_property
    def faces(self) -> list[Face]:
        return list(self.find.each(FaceLandmarker.find_face, self.plan.targets))

    @cached_property
    def landmarks(self) -> np.ndarray:
        return np.stack([f.landmarks / f.photo_size[1] for f in self.faces])

    @cached_property
    def emotions(self) -> np.ndarray:
        looks = [self.estimator.look(p, f) for p, f in zip(self.plan.targets, self.faces, strict=True)]
        return self.estimator.estimate(looks)

    @cached_property
    def estimator(self) -> EmotionEstimator:
        return load_emotion_estimator(AUTOMATIC, self.family, self.models)


def identity_conditioned(family: str) -> dict[str, str]:
    """The estimator behind the identity of a family's base, for Method.conditioned."""
    return {"identity": f"{family} identity encoder", **({"arcface": ARCFACE} if family == "full" else {})}


class FaceCrafterMethod:
    """FaceCrafter with some of its conditions.

    Args:
        pipe: with the adapter (and the text encoder) of this row. weights: of origin.digest_of_pipe.
        steps: sampling steps.
    """

    def __init__(self, name: str, pipe: FaceCrafterPipeline, weights: str, switches: Switches, plan: Plan, conditions: Conditions, steps: int) -> None:
        self.name, self.pipe, self.switches, self.plan, self.conditions, self.steps = name, pipe, switches, plan, conditions, steps
        family = pipe.family.name
        self.conditioned = identity_conditioned(family)
        chosen = {name: str(value) for name, value in vars(switches).items()}
        self.origin = {"kind": "FaceCrafter", "weights": weights, "steps": steps, **chosen, **conditions.identity_origin}
        parts = []
        if switches.landmarks:
            self.conditioned |= dict.fromkeys(("landmarks", "pose", "expression"), MEDIAPIPE)
            parts += [pipe.adapter.landmark, pipe.adapter.landmark_branch]
        if switches.emotion:
            self.conditioned["emotion"] = conditions.estimator.name
            self.origin |= conditions.emotion_origin
            parts += [pipe.adapter.emotion, pipe.adapter.emotion_branch]
        self.parameters = sum(p.numel() for part in parts for p in part.parameters())

    def generate(self, requests: Sequence[int]) -> list[np.ndarray]:
        requests = list(requests)
        size = BATCH.get(self.pipe.unet.device.type, len(requests))
        return [picture for i in range(0, len(requests), size) for picture in self._batch(requests[i : i + size])]

    def _batch(self, at: list[int]) -> list[np.ndarray]:
        plan, on = self.plan, self.switches
        target = plan.target[at]
        assert (np.diff(plan.seed[at]) == 1).all(), "requests of a chunk follow each other, so that picture i has seed + i"
        pictures = self.pipe(
            self.conditions.identities[torch.as_tensor(plan.identity[at])],
            self.conditions.landmarks[target] if on.landmarks else None,
            self.conditions.emotions[target] if on.emotion else None,
            alpha_landmark=on.alpha_landmark, alpha_emotion=on.alpha_emotion, guidance=on.guidance,
            steps=self.steps, seed=int(plan.seed[at[0]]), output_type="np",
        )  # fmt: skip
        return list((pictures * 255).round().astype(np.uint8))


def load_pipe(models: Path, adapters: Sequence[Path], family: str, device: torch.device) -> FaceCrafterPipeline:
    """The base with these adapters put together, and the text encoder that was trained with one of them. The full family computes in bf16 on a GPU,
    as it trains; else fp32, so that the demo's pictures are those of a CPU."""
    from training.stage import joined_adapter

    pipe = FaceCrafterPipeline.from_pretrained(models, dtype=torch.bfloat16 if family == "full" and device.type == "cuda" else torch.float32)
    if adapters:
        pipe.set_adapter(joined_adapter(pipe.family, adapters))
        for file in adapters:
            pipe.use_text_encoder_beside(file)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def count_parameters(files: Sequence[Path]) -> int:
    """Numbers in the weights of .safetensors files, or of files that torch saved (.bin, .pt, .pth, .ckpt).

    Raises:
        MetricError: one holds no weights.
    """
    return sum(_count(file) for file in files)


def _count(file: Path) -> int:
    from safetensors import safe_open

    def numbers(value: object) -> int:
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        return value.numel() if isinstance(value, torch.Tensor) else sum(map(numbers, values))

    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as weights:
                count = sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())
        else:
            count = numbers(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # a wrong file makes torch and safetensors raise in many ways
        raise MetricError(f"Expected weights to count at {file}, a .safetensors file or one that torch saved; it cannot be read ({type(error).__name__}).") from error
    if not count:
        raise MetricError(f"Expected weights to count at {file}, found no tensor in it.")
    return count
