"""Makes the generator's people and finds what is in their pictures: landmarks, scores, the recogniser's vector."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from facecrafter_core.faces.chips import face_chips
from facecrafter_core.faces.dlib_resnet import DlibResNet
from facecrafter_core.faces.face import Face
from training.people import reader
from training.people.directions import SCORES, style_inputs
from training.people.generator import SIDE, STYLE_DIM, GeneratorError, Mapping, Synthesis

LOOK_SIDE = 256
"""Of the pictures in which MediaPipe looks for faces."""

MEAN_OF = 8192
"""Styles behind the mean style."""


@dataclass
class Found:
    """The faces of some pictures.

    Attributes:
        kept: bool [N] of all pictures: there is a face. What follows is of these M alone.
        landmarks: float32 [M, 478, 3] in sides of the picture.
        scores: float32 [M, 55].
        identity: float32 [M, 128].
        small: the pictures for the reader, uint8 [M, 3, 128, 128].
    """

    kept: Tensor
    landmarks: Tensor
    scores: Tensor
    identity: Tensor
    small: Tensor

    @classmethod
    def join(cls, parts: Sequence[Found]) -> Found:
        """
        Raises:
            GeneratorError: there is no face at all.
        """
        whole = cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))
        if not whole.kept.any():
            raise GeneratorError(f"No face was found in any of {len(whole.kept)} generated pictures. Check the generator's files and MediaPipe.")
        return whole


class Maker:
    """
    Args:
        mapping, synthesis: load_generator's.
        find: pictures uint8 [256, 256, 3] -> faces or None, as training.finder.Finder.
        batch: pictures that are made at once.
    """

    def __init__(
        self,
        mapping: Mapping,
        synthesis: Synthesis,
        recogniser: DlibResNet,
        find: Callable[[Sequence[np.ndarray]], list[Face | None]],
        device: torch.device,
        batch: int = 32,
    ) -> None:
        self.mapping, self.synthesis, self.recogniser = mapping.to(device), synthesis.to(device), recogniser.to(device)
        self.fast = copy.deepcopy(self.synthesis).half() if device.type == "cuda" else self.synthesis
        self.find, self.device, self.batch = find, device, batch
        self.mean = self._mapped(MEAN_OF, seed=0).mean(0)

    def styles(self, count: int, spread: float, seed: int) -> Tensor:
        """Random people [count, 512]. spread: of the styles around their mean; 1 is the generator's own."""
        return self.mean + spread * (self._mapped(count, seed) - self.mean)

    @torch.no_grad()
    def _mapped(self, count: int, seed: int) -> Tensor:
        z = torch.randn(count, STYLE_DIM, generator=torch.Generator().manual_seed(seed))  # on the CPU: the same people on every device
        return self.mapping(z.to(self.device))

    @torch.no_grad()
    def pictures(self, styles: Tensor) -> Tensor:
        """styles [N, 23, 512] -> uint8 [N, 3, 512, 512]."""
        kind = self.fast.constant.dtype
        while True:
            try:
                return torch.cat([pixels(self.fast(part.to(kind)).float()) for part in styles.split(self.batch)])
            except torch.cuda.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch //= 2
                torch.cuda.empty_cache()
                print(f"The GPU's memory is short: {self.batch} pictures at a time from here on.", flush=True)

    def survey(self, styles: Tensor, edits: Tensor | None = None, chunk: int = 512) -> Iterator[tuple[Tensor, Found]]:
        """Pictures of styles [N, 512] with edits (style_inputs), some at a time, and what is found in them."""
        for start in range(0, len(styles), chunk):
            part = slice(start, start + chunk)
            pictures = self.pictures(style_inputs(styles[part], edits if edits is None or len(edits) == 1 else edits[part]))
            yield pictures, self.look(pictures)

    @torch.no_grad()
    def look(self, pictures: Tensor) -> Found:
        """pictures uint8 [N, 3, 512, 512] -> what is found in them."""
        shown = reduce(pictures, LOOK_SIDE).permute(0, 2, 3, 1).cpu().numpy()
        faces = self.find(list(shown))
        kept = torch.tensor([face is not None for face in faces], dtype=torch.bool, device=self.device)
        seen = [face for face in faces if face is not None]
        landmarks = np.array([face.landmarks for face in seen], np.float32).reshape(-1, 478, 3) / LOOK_SIDE
        scores = np.array([[*face.pose, *face.blendshapes] for face in seen], np.float32).reshape(-1, len(SCORES))
        landmarks, scores = torch.from_numpy(landmarks).to(self.device), torch.from_numpy(scores).to(self.device)
        pictures = pictures[kept]
        vectors = [
            self.recogniser(face_chips(part.float() / 255, points * SIDE)).float()
            for part, points in zip(pictures.split(self.batch), landmarks.split(self.batch), strict=True)
            if len(part)
        ]
        identity = torch.cat(vectors) if vectors else landmarks.new_zeros(0, 128)
        return Found(kept, landmarks, scores, identity, reduce(pictures, reader.SIDE))


def pixels(pictures: Tensor) -> Tensor:
    """-1..1 -> uint8."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte()


def reduce(pictures: Tensor, side: int) -> Tensor:
    """uint8 [N, 3, S, S] -> uint8 [N, 3, side, side], means of squares."""
    parts = [avg_pool2d(part.float(), part.shape[-1] // side).round().byte() for part in pictures.split(64) if len(part)]
    return torch.cat(parts) if parts else pictures.new_zeros(0, 3, side, side)
