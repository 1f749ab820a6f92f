"""Which image gives the identity for which target (Sec. 3.2, pre-training stage).

The target is what is denoised; the identity comes from another image of the same person. Landmark stage: pose and expression differ.
Emotion stage: the pose is held, the expression differs. A person with one image is paired with that image's mirror image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import numpy as np

from training.prepared import Prepared, PreparedError
from training.ranges import ConfigError, Range, check_ranges

BLOCK = 2048  # of a person with more images than this, so many are looked at as partners


@dataclass(frozen=True)
class PairRules:
    """When two images of one person make a pair. Angles are those of the turn from one head to the other, roll included, in degrees; expressions
    are compared by the root mean square difference of the 52 blendshape scores. What is None is the stage's own (RULES)."""

    min_pose: Annotated[float | None, Range(0, 180)] = None
    """Least angle; None is the stage's own."""
    max_pose: Annotated[float | None, Range(0, 180)] = None
    """Largest angle; None is the stage's own."""
    min_expression: Annotated[float | None, Range(0, 1)] = None
    """Least difference of expression; None is the stage's own."""
    mirror_single: bool | None = None
    """Pair people who have one image with its mirror image; False leaves them out."""

    def __post_init__(self) -> None:
        check_ranges(self, "--rules.")
        if None not in (self.min_pose, self.max_pose) and self.min_pose > self.max_pose:
            raise ConfigError(f"Expected --rules.min-pose up to --rules.max-pose, which is {self.max_pose:g}, found {self.min_pose:g}.")

    def of_stage(self, stage: str) -> PairRules:
        """These rules, completed by the stage's own."""
        return replace(RULES[stage], **{name: value for name, value in asdict(self).items() if value is not None})


RULES = {
    "landmark": PairRules(8.0, 180.0, 0.06, True),
    "emotion": PairRules(0.0, 12.0, 0.06, True),
    "joint": PairRules(0.0, 180.0, 0.0, True),
}
"""Each stage's own rules; the joint stage takes any two images of a person, since the paper says nothing of it."""

STAGES_OWN = PairRules()

MIRRORED = {
    "landmark": "A mirror image has the same expression, and the head is turned to the other side, by {least:g} degrees or more for {fitting} of the "
    "{count}: it teaches pose, not expression.",
    "emotion": "A mirror image has the same expression, and the head is within {most:g} degrees for {fitting} of the {count}: it teaches how an emotion "
    "looks, not to change the one that the identity's image has.",
    "joint": "A mirror image has the same expression: it teaches how an emotion looks, not to change the one that the identity's image has.",
}
"""What pairs of an image and its mirror image teach each stage."""


class Pairs:
    """All pairs of a prepared folder under a rule; draws them by (seed, step), so that nothing has to be remembered to resume.

    Memory is O(N): partners are found again for each drawn target, among that person's images.

    Args:
        stage: "landmark", "emotion" or "joint". rules: replace the stage's own.

    Raises:
        PreparedError: the rule leaves no pair.
    """

    def __init__(self, prepared: Prepared, stage: str, rules: PairRules = STAGES_OWN, seed: int = 0) -> None:
        self.rules, self.stage, self.seed = rules.of_stage(stage), stage, seed
        self.rotations = _rotations(prepared.pose)
        self.expressions = np.asarray(prepared["blendshapes"], np.float32)
        self.order = np.argsort(prepared.person, kind="stable")
        counts = np.bincount(prepared.person)
        self.first, self.count = np.r_[0, np.cumsum(counts)[:-1]], counts
        self.person = prepared.person
        partners = np.zeros(len(prepared), np.int64)
        for images, allowed in self._people():
            partners[images] = allowed.sum(1)
        single = self.count[self.person] == 1
        self.mirrored = single & self.rules.mirror_single
        turned = _angles((self.rotations * _rotations(prepared.pose * (-1, 1, -1))).sum(1))
        self.mirrored_in_rule = int((self.mirrored & self._pose_fits(turned)).sum())
        self.targets = np.flatnonzero((partners > 0) | self.mirrored)
        self.pairs, self.images, self.people = int(partners.sum()), len(prepared), len(counts)
        if not len(self.targets):
            raise PreparedError(
                f"{self.report()} Expected at least one person with two images that this stage can pair; prepare more images, or loosen the rule."
            )

    def report(self) -> str:
        """What the rule leaves, and what those who are paired with their mirror image teach."""
        left_out, mirrored = self.images - len(self.targets), int(self.mirrored.sum())
        counted = f"{self.images} images of {self.people} people: {self.pairs} pairs, {mirrored} images paired with their mirror image, {left_out} left out."
        if not mirrored:
            return counted
        rules = self.rules
        return f"{counted} " + MIRRORED[self.stage].format(least=rules.min_pose, most=rules.max_pose, fitting=self.mirrored_in_rule, count=mirrored)

    def draw(self, step: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Targets, identity images and whether the identity is the mirrored one: [count] each. The same for the same (seed, step)."""
        rng = np.random.default_rng((self.seed, step))
        targets = self.targets[rng.integers(len(self.targets), size=count)]
        chosen = rng.random(count)
        partners = targets.copy()
        for i, target in enumerate(targets):
            if not self.mirrored[target]:
                images = self._images(self.person[target])
                fitting = images[self._allowed(np.array([target]), images)[0]]
                partners[i] = fitting[int(chosen[i] * len(fitting))]
        return targets, partners, self.mirrored[targets]

    def _images(self, person: int) -> np.ndarray:
        images = self.order[self.first[person] : self.first[person] + self.count[person]]
        return images if len(images) <= BLOCK else images[:: -(-len(images) // BLOCK)]

    def _people(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for person in np.flatnonzero(self.count > 1):
            partners = self._images(person)
            every = self.order[self.first[person] : self.first[person] + self.count[person]]
            for start in range(0, len(every), BLOCK):
                targets = every[start : start + BLOCK]
                yield targets, self._allowed(targets, partners)

    def _allowed(self, targets: np.ndarray, partners: np.ndarray) -> np.ndarray:
        """[T, P]: may this image give the identity for that target?"""
        rules = self.rules
        allowed = targets[:, None] != partners[None]
        if rules.min_pose > 0 or rules.max_pose < 180:
            allowed &= self._pose_fits(_angles(self.rotations[targets] @ self.rotations[partners].T))
        if rules.min_expression > 0:
            a, b = self.expressions[targets], self.expressions[partners]
            square = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
            allowed &= np.sqrt(square.clip(0) / a.shape[1]) >= rules.min_expression
        return allowed

    def _pose_fits(self, angles: np.ndarray) -> np.ndarray:
        return (angles >= self.rules.min_pose) & (angles <= self.rules.max_pose)


def _rotations(pose: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll in degrees, [N, 3] -> rotations [N, 9]: facecrafter_core.faces.landmarker.rotation_of_pose, for many at once."""
    (sy, sp, sr), (cy, cp, cr) = (f(np.radians(pose * (1, -1, -1)).T) for f in (np.sin, np.cos))
    rows = [
        cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp,
        cp * sr, cp * cr, -sp,
        cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp,
    ]  # fmt: skip
    return np.stack(rows, axis=1)


def _angles(products: np.ndarray) -> np.ndarray:
    """Scalar products of two rotations' nine numbers -> degrees of the turn from one to the other."""
    return np.degrees(np.arccos(((products - 1) / 2).clip(-1, 1)))
