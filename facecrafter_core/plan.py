"""Many portraits by a plan: every identity with every emotion and every pose, for expression sheets and for balanced face data.

A balanced set is a folder of pictures with manifest.csv: path, person, emotion, valence, arousal, eight classes, yaw, pitch, seed. It is written picture by
picture, so that a run that was stopped goes on; training/prepare.py reads it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .batch import seed_after
from .errors import ScheduleError
from .faces.edit import express_emotion, neutral_landmarks, turn
from .faces.emotion import EMOTIONS, Emotion
from .files import write_picture
from .manifest import Manifest
from .schedule import parse_emotion

if TYPE_CHECKING:
    from PIL import Image

MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class Pose:
    """Change of head angles of the built-in face, in degrees."""

    yaw: float
    pitch: float

    def __str__(self) -> str:
        return f"yaw {self.yaw:g}, pitch {self.pitch:g}"


@dataclass(frozen=True)
class Portrait:
    """One picture of a plan. person: number of the identity. path: of its file, below the set's folder. text: the emotion as it was written."""

    person: int
    text: str
    emotion: Emotion
    pose: Pose
    seed: int
    path: str

    @property
    def landmarks(self) -> np.ndarray:
        """The built-in face in this pose, with the emotion's facial actions, so that landmarks and emotion ask for the same: [478, 3]."""
        return express_emotion(turn(neutral_landmarks(), self.pose.yaw, self.pose.pitch), self.emotion)

    def row(self) -> dict[str, object]:
        numbers = dict(zip(("valence", "arousal", *EMOTIONS), (round(float(v), 4) for v in self.emotion.vector), strict=True))
        return {"path": self.path, "person": f"{self.person:04d}", "emotion": self.emotion.label, **numbers, "yaw": self.pose.yaw, "pitch": self.pose.pitch, "seed": self.seed}


def parse_emotions(text: str) -> list[tuple[str, Emotion]]:
    """ "neutral, happy 0.8, -0.5 0.3" -> (as written, emotion) each.

    Raises:
        ScheduleError: none, or one that cannot be read. EmotionError: out of range.
    """
    parts = _parts(text)
    if not parts:
        raise ScheduleError(f"Expected at least one emotion, such as 'neutral, happy 0.8', found {text!r}.")
    return [(part, parse_emotion(part)) for part in parts]


def parse_poses(text: str) -> list[Pose]:
    """ "-30, 0, 30 10" -> poses: yaw, or yaw and pitch, in degrees.

    Raises:
        ScheduleError: none, or no numbers from -90 to 90.
    """
    poses = []
    for part in _parts(text):
        try:
            numbers = [float(word) for word in part.split()]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2) or not all(abs(n) <= 90 for n in numbers):
            raise ScheduleError(f"Expected poses as yaw, or yaw and pitch, from -90 to 90 degrees, such as '-30, 0, 30 10', found {part!r}.")
        poses.append(Pose(numbers[0], numbers[1] if len(numbers) == 2 else 0.0))
    if not poses:
        raise ScheduleError(f"Expected at least one pose, such as '-30, 0, 30', found {text!r}.")
    return poses


def make_plan(people: int, emotions: Sequence[tuple[str, Emotion]], poses: Sequence[Pose], each: int, seed: int) -> list[Portrait]:
    """Every person with every emotion and pose, `each` times with other seeds; as many pictures of each, which is what makes the set balanced."""
    if people < 1 or each < 1:
        raise ScheduleError(f"Expected at least one person and one picture of each combination, found {people} and {each}.")
    plan = []
    for person in range(people):
        for i, (text, emotion) in enumerate(emotions):
            for k, pose in enumerate(poses):
                for copy in range(each):
                    place = ((person * len(emotions) + i) * len(poses) + k) * each + copy
                    name = f"{person:04d}/{i:02d}_{emotion.label}_{k:02d}_{copy:02d}.png"
                    plan.append(Portrait(person, text, emotion, pose, seed_after(seed, place), name))
    return plan


def fill_set(folder: Path, plan: Sequence[Portrait], draw: Callable[[list[Portrait]], Sequence[Image.Image]], batch: int) -> Iterator[int]:
    """Makes the pictures of a plan that are not there yet; yields how many are done, first what was there before.

    Args:
        draw: portraits -> their pictures. batch: how many at a time.

    Raises:
        OutputError: the folder cannot be written, or holds another plan.
    """
    manifest = Manifest(folder / MANIFEST, {portrait.path: portrait.row() for portrait in plan})
    todo = [portrait for portrait in plan if portrait.path not in manifest.listed or not (folder / portrait.path).is_file()]
    yield len(plan) - len(todo)
    for start in range(0, len(todo), batch):
        some = todo[start : start + batch]
        for portrait, picture in zip(some, draw(some), strict=True):
            write_picture(folder / portrait.path, picture)
            if portrait.path not in manifest.listed:
                manifest.append(portrait.path)  # the picture is there already, so a row never stands alone
        yield len(plan) - len(todo) + start + len(some)


def _parts(text: str) -> list[str]:
    return [part for part in (p.strip() for p in text.replace("\n", ",").replace(";", ",").split(",")) if part]
