"""Which image gives the identity for which target (Sec. 3.2, pre-training stage).

The target is what is denoised; the identity comes from another image of the same person. Landmark stage: pose and expression differ.
Emotion stage: the pose is held, the expression differs. A person with one image is paired with that image's mirror image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from training.prepared import Prepared, PreparedError

BLOCK = 2048  # of a person with more images than this, so many are looked at as partners


@dataclass(frozen=True)
class PairRules:
    """When two images of one person make a pair. Angles are between head directions, in degrees; expressions are compared by the root mean
    square difference of the 52 blendshape scores. What is None is the stage's own (RULES)."""

    min_pose: float | None = None
    """Least angle; None is the stage's own."""
    max_pose: float | None = None
    """Largest angle; None is the stage's own."""
    min_expression: float | None = None
    """Least difference of expression; None is the stage's own."""
    mirror_single: bool | None = None
    """Pair people who have one image with its mirror image; False leaves them out."""

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


class Pairs:
    """All pairs of a prepared folder under a rule; draws them by (seed, step), so that nothing has to be remembered to resume.

    Memory is O(N): partners are found again for each drawn target, among that person's images.

    Args:
        stage: "landmark", "emotion" or "joint". rules: replace the stage's own.

    Raises:
        PreparedError: the rule leaves no pair.
    """

    def __init__(self, prepared: Prepared, stage: str, rules: PairRules = STAGES_OWN, seed: int = 0) -> None:
        self.rules, self.seed = rules.of_stage(stage), seed
        self.directions = _directions(prepared.pose)
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
        self.targets = np.flatnonzero((partners > 0) | self.mirrored)
        self.pairs, self.images, self.people = int(partners.sum()), len(prepared), len(counts)
        if not len(self.targets):
            raise PreparedError(
                f"{self.report()} Expected at least one person with two images that this stage can pair; prepare more images, or loosen the rule."
            )

    def report(self) -> str:
        """One sentence: what the rule leaves."""
        left_out = self.images - len(self.targets)
        return (
            f"{self.images} images of {self.people} people: {self.pairs} pairs, {int(self.mirrored.sum())} images paired with their mirror image, "
            f"{left_out} left out."
        )

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
            angle = np.degrees(np.arccos((self.directions[targets] @ self.directions[partners].T).clip(-1, 1)))
            allowed &= (angle >= rules.min_pose) & (angle <= rules.max_pose)
        if rules.min_expression > 0:
            a, b = self.expressions[targets], self.expressions[partners]
            square = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
            allowed &= np.sqrt(square.clip(0) / a.shape[1]) >= rules.min_expression
        return allowed


def _directions(pose: np.ndarray) -> np.ndarray:
    """Unit vectors of where the faces look, [N, 3]; roll does not turn them."""
    yaw, pitch = np.radians(pose[:, 0]), np.radians(pose[:, 1])
    return np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], axis=1)
