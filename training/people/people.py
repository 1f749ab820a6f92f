"""Pictures of people who do not exist, several of each, with what was found in them.

A person is a style of the generator, a picture an edit of it (edits.py). Everything that is kept beside a picture is what was found in it, not what
was asked. A picture is dropped when no face or a second one is found, when the person may not be an adult, or when the recogniser takes it for
somebody else.

Shapes: N pictures of a block of people.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facecrafter_core.faces.blendshapes import BLENDSHAPES
from facecrafter_core.faces.chips import face_boxes, face_chips
from facecrafter_core.faces.dlib_resnet import DlibResNet
from facecrafter_core.faces.emotion import EMOTIONS, VALENCE_AROUSAL
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.metrics.judges import FaceApiExpression, FaceRes
from training.finder import Finder

from .directions import Directions, style_inputs
from .edits import draw_edit, shift
from .generator import STYLE_DIM, load_generator
from .maker import LOOK_SIDE, Maker, reduce

ADULT = 24.0
"""Least mean age estimate of a person, in years, and ADULT_EACH of each of the person's pictures."""

ADULT_EACH = 18.0

SAME_PERSON = 0.45
"""Largest distance of the recogniser's vector from the person's centre."""

SECOND_FACE = 0.35
"""A second face of at least this share of the first one's size drops the picture."""

FEWEST = 3
"""Pictures of a person; with fewer left, the person is dropped."""

REASONS = ("no face", "second face", "not surely an adult", "another person", "too few of the person")


@dataclass(frozen=True)
class Found:
    """What is kept of a block of people; the rows are those kept.

    Attributes:
        person, index: int [N]: identity number, and number of the picture among the person's.
        pictures: uint8 [N, 3, 512, 512] on the generator's device.
        landmarks: float32 [N, 478, 3] in sides of the picture. blendshapes: float32 [N, 52]. pose: float32 [N, 3] in degrees.
        vectors: float32 [N, 128], the recogniser's. emotions: float32 [N, 10].
        age: float32 [N] in years. male: float32 [N], probability.
        dropped: how many pictures were dropped, by reason.
    """

    person: np.ndarray
    index: np.ndarray
    pictures: Tensor
    landmarks: np.ndarray
    blendshapes: np.ndarray
    pose: np.ndarray
    vectors: Tensor
    emotions: Tensor
    age: np.ndarray
    male: np.ndarray
    dropped: Counter


class People:
    """People by their identity numbers.

    Args:
        maker: the generator and the recogniser. finder: MediaPipe's processes. seed: of people and edits.
    """

    def __init__(self, maker: Maker, finder: Finder, seed: int = 0) -> None:
        self.maker, self.finder, self.seed = maker, finder, seed
        self.directions = Directions.load()
        self.ages, self.expressions = FaceRes.load(device=maker.device), FaceApiExpression.load(device=maker.device)

    @classmethod
    def on(cls, device: str | torch.device, finder: Finder, seed: int = 0, batch: int = 32) -> People:
        """With the installed generator. batch: pictures that it makes at a time; their number changes no picture."""
        maker = Maker(*load_generator(), DlibResNet.load(), finder, torch.device(device), batch)
        return cls(maker, finder, seed)

    def style(self, number: int) -> Tensor:
        """A person: style [512] at a truncation from 0.62 to 0.95."""
        rng = np.random.default_rng([self.seed, number])
        z = torch.from_numpy(rng.standard_normal((1, STYLE_DIM), np.float32)).to(self.maker.device)
        return (self.maker.mean + rng.uniform(0.62, 0.95) * (self.maker.mapping(z) - self.maker.mean))[0]

    @torch.inference_mode()
    def draw(self, numbers: list[int], each: int) -> Tensor:
        """uint8 [len(numbers) * each, 3, 512, 512]: each person's pictures, one after the other."""
        edits = [draw_edit(np.random.default_rng([self.seed, n, i])) for n in numbers for i in range(each)]
        shifts = torch.from_numpy(shift(self.directions, edits)).to(self.maker.device)
        return self.maker.pictures(style_inputs(torch.stack([self.style(n) for n in numbers]).repeat_interleave(each, 0), shifts))

    def blocks(self, numbers: Iterable[int], each: int, people: int = 8) -> Iterator[Found]:
        """Found for `people` identity numbers at a time. MediaPipe works on coming blocks meanwhile."""
        waiting: deque[tuple[list[int], Tensor]] = deque()

        def tasks() -> Iterator[np.ndarray]:
            rest = list(numbers)
            for start in range(0, len(rest), people):
                block = rest[start : start + people]
                pictures = self.draw(block, each)
                waiting.append((block, pictures))
                yield reduce(pictures, LOOK_SIDE).permute(0, 2, 3, 1).cpu().numpy()

        for faces in self.finder.each(look, tasks()):
            block, pictures = waiting.popleft()
            yield self.judge(np.repeat(block, each), np.tile(np.arange(each), len(block)), pictures, faces)

    @torch.inference_mode()
    def judge(self, person: np.ndarray, index: np.ndarray, pictures: Tensor, faces: list[tuple[np.ndarray, ...] | str]) -> Found:
        """Drops what should not be learned from, and reads the rest."""
        reasons = np.array([face if isinstance(face, str) else "" for face in faces], dtype=object)
        seen = np.flatnonzero(reasons == "")
        landmarks, scores, pose = (np.stack([faces[i][k] for i in seen]) if len(seen) else np.zeros((0, *shape), np.float32) for k, shape in enumerate(((478, 3), (52,), (3,))))
        rows = pictures[torch.from_numpy(seen).to(pictures.device)].float() / 255
        points = torch.from_numpy(landmarks).to(pictures.device) * pictures.shape[-1]
        if len(seen):
            vectors = self.maker.recogniser(face_chips(rows, points))
            reading = self.ages(face_boxes(rows, points, self.ages.size))
            age, male = reading.age.cpu().numpy(), reading.male.cpu().numpy()
            emotions = emotion_vectors(self.expressions(face_boxes(rows, points, self.expressions.size)), scores)
            reasons[seen] = verdicts(person[seen], vectors.cpu().numpy(), age)
        else:
            vectors, emotions, age, male = torch.zeros(0, 128), torch.zeros(0, 10), np.zeros(0), np.zeros(0)
        kept = np.flatnonzero(reasons[seen] == "")
        which, on = seen[kept], torch.from_numpy(kept).to(vectors.device)
        return Found(
            person[which], index[which], pictures[torch.from_numpy(which).to(pictures.device)], landmarks[kept], scores[kept], pose[kept],
            vectors[on], emotions[on], age[kept], male[kept], Counter(reason for reason in reasons if reason),
        )  # fmt: skip


def look(landmarker: FaceLandmarker, pictures: np.ndarray) -> list[tuple[np.ndarray, ...] | str]:
    """Of each picture uint8 [S, S, 3]: landmarks in sides of it, scores and pose; or why it is dropped."""
    found: list[tuple[np.ndarray, ...] | str] = []
    for picture in pictures:
        faces = landmarker.search(picture).largest()
        if not faces:
            found.append(REASONS[0])
        elif len(faces) > 1 and faces[1].size >= SECOND_FACE * faces[0].size:
            found.append(REASONS[1])
        else:
            face = faces[0]
            found.append(((face.landmarks / len(picture)).astype(np.float32), face.blendshapes, np.array(face.pose, np.float32)))
    return found


def verdicts(person: np.ndarray, vectors: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Why each picture in which one face was found is dropped; "" where it is kept.

    A person's centre is the median of the vectors. Whoever may not be an adult is dropped with all pictures.
    """
    reasons = np.full(len(person), "", dtype=object)
    for one in np.unique(person):
        rows = np.flatnonzero(person == one)
        if age[rows].mean() < ADULT or age[rows].min() < ADULT_EACH:
            reasons[rows] = REASONS[2]
            continue
        far = np.linalg.norm(vectors[rows] - np.median(vectors[rows], axis=0), axis=1) > SAME_PERSON
        reasons[rows[far]] = REASONS[3]
        if (~far).sum() < FEWEST:
            reasons[rows[~far]] = REASONS[4]
    return reasons


def emotion_vectors(seven: Tensor, scores: np.ndarray) -> Tensor:
    """Seven classes [N, 7] of an expression network and MediaPipe's scores [N, 52] -> emotions [N, 10].

    The network knows no contempt: a smile of one side alone is read as one, as far as the sides differ. Valence and arousal are the mean of the
    classes' anchors (VALENCE_AROUSAL), weighted by their probabilities.
    """
    sides = [scores[:, BLENDSHAPES.index(f"mouthSmile{side}")] for side in ("Left", "Right")]
    contempt = torch.from_numpy(0.8 * ((np.abs(sides[0] - sides[1]) - 0.15) / 0.3).clip(0, 1)).to(seven)[:, None]
    eight = torch.cat([seven * (1 - contempt), contempt], 1)
    anchors = torch.tensor([VALENCE_AROUSAL[name] for name in EMOTIONS]).to(seven)
    return torch.cat([(eight @ anchors).clamp(-1, 1), eight], 1)
