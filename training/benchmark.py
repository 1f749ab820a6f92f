"""What a benchmark asks for: identity photos, target faces, and the pairs to generate (Sec. 4.2).

A plan is made once and written to its folder, so that other methods can answer it, and a run that was stopped goes on:

    plan.json                   how it was chosen
    requests.csv                a row a picture: key, identity, target, seed
    identities/NNN.png          the aligned face of each identity; identity vectors and targets' landmarks are in plan.npz
    targets/NNN.png             the square of each target photo

A method's answer is a folder of pictures named KEY.png, in any size.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facecrafter_core.errors import MetricError
from facecrafter_core.faces.align import align_face
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.files import write_whole
from training.extract import UNUSABLE
from training.sources import Item, load

CANDIDATES = 4
"""Photos looked at for each target that is wanted."""


@dataclass(frozen=True)
class Plan:
    """A benchmark: I identities, T targets (none in the identity-only benchmark), N requests.

    Attributes:
        identities: aligned faces, uint8 [S, S, 3] each. references: another photo's face of the same person, or the same again.
        targets: squares of the target photos.
        identity, target: [N] places in these lists (target is -1 where there is none). seed: [N].
        settings: how it was chosen.
    """

    identities: list[np.ndarray]
    references: list[np.ndarray]
    targets: list[np.ndarray]
    identity: np.ndarray
    target: np.ndarray
    seed: np.ndarray
    settings: dict[str, object]

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def keys(self) -> list[str]:
        return [f"{i:05d}" for i in range(len(self))]


def make_plan(
    items: Sequence[Item], size: int, identities: int, targets: int, pictures: int, seed: int, landmarker: FaceLandmarker
) -> Plan:
    """Chooses people and targets.

    Args:
        size: side of the squares in pixels. identities, targets: how many at most; 0 targets is the identity-only benchmark.
        pictures: requests: (identity, target) pairs of different people, or pictures of the identities, as even as they go.

    Raises:
        MetricError: fewer than two people with a usable photo, or no pair.
    """
    rng = np.random.default_rng(seed)
    own: dict[str, list[Item]] = {}
    for item in items:
        own.setdefault(item.person, []).append(item)
    people = sorted(own)
    rng.shuffle(people)
    faces, references, chosen, used = [], [], [], set()
    for person in people:
        if len(chosen) == identities:
            break
        usable = find_squares(own[person], 2, size, landmarker, rotate=True)
        if usable:
            faces.append(usable[0][1])
            references.append(usable[-1][1])
            chosen.append(person)
            used.update(item.key for item, _, _ in usable)
    if len(chosen) < 2:
        raise MetricError(f"Expected photos of at least two people with a face, found {len(chosen)} among {len(people)}. Give a folder with more people.")
    settings = {"identities": len(chosen), "size": size, "seed": seed, "other_photo": sum(len(own[p]) > 1 for p in chosen)}
    if not targets:
        identity = np.arange(pictures) % len(chosen)
        return Plan(faces, references, [], identity, np.full(pictures, -1), seed + np.arange(pictures), {**settings, "pictures": pictures})
    pool = [item for item in items if item.key not in used]
    rng.shuffle(pool)
    found = find_squares(pool, targets * CANDIDATES, size, landmarker, rotate=False)
    if not found:
        raise MetricError("Expected photos beside those of the identities to take targets from, found none with a face. Give more photos a person.")
    found = _stratified(found, targets)
    of_person = np.array([chosen.index(item.person) if item.person in chosen else -1 for item, _, _ in found])
    identity, target = _pairs(len(chosen), of_person, pictures, rng)
    settings |= {"targets": len(found), "pictures": len(identity)}
    return Plan(faces, references, [square for _, square, _ in found], identity, target, seed + np.arange(len(identity)), settings)


Found = tuple[Item, np.ndarray, np.ndarray]  # photo's place, its square, and (yaw, pitch, blendshapes)


def find_squares(items: Sequence[Item], wanted: int, size: int, landmarker: FaceLandmarker, rotate: bool) -> list[Found]:
    """The first photos with a face."""
    out: list[Found] = []
    for item in items:
        if len(out) == wanted:
            break
        try:
            photo = load(item)
            face = landmarker.find_face(photo)
        except UNUSABLE:
            continue
        square = align_face(photo, face.landmarks, size, rotate=rotate).image
        out.append((item, square, np.r_[face.pose.yaw, face.pose.pitch, face.blendshapes]))
    return out


def _stratified(found: list[Found], count: int) -> list[Found]:
    """As even as they go over turned left, frontal, turned right x three thirds of how far the expression is from the mean."""
    seen = np.stack([numbers for _, _, numbers in found])
    far = np.linalg.norm(seen[:, 2:] - seen[:, 2:].mean(0), axis=1)
    turned = np.digitize(seen[:, 0], (-12.0, 12.0))
    third = np.digitize(far, np.quantile(far, (1 / 3, 2 / 3)))
    strata = [list(np.flatnonzero((turned == a) & (third == b))) for a in range(3) for b in range(3)]
    order: list[int] = []
    while len(order) < min(count, len(found)):
        for stratum in strata:
            if stratum and len(order) < count:
                order.append(stratum.pop(0))
    return [found[i] for i in order]


def _pairs(identities: int, of_person: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different people, each at most once; every identity and every target about equally often.

    Args:
        of_person: [T] the identity whose photo a target is, or -1.
    """
    targets = len(of_person)
    shifts = rng.permutation(targets)
    pairs = [(i, int((i + shift) % targets)) for shift in shifts for i in range(identities)]
    pairs = list(dict.fromkeys(p for p in pairs if of_person[p[1]] != p[0]))[:count]
    if not pairs:
        raise MetricError("Expected targets that show other people than the identities, found none. Give photos of more people.")
    return np.array([i for i, _ in pairs]), np.array([t for _, t in pairs])


def save_plan(plan: Plan, folder: Path) -> None:
    """Writes what another method needs, and what load_plan reads."""
    for name, pictures in (("identities", plan.identities), ("references", plan.references), ("targets", plan.targets)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / name / f"{i:03d}.png")
    with open(folder / "requests.csv", "w", newline="") as file:
        rows = zip(plan.keys, plan.identity.tolist(), plan.target.tolist(), plan.seed.tolist(), strict=True)
        csv.writer(file).writerows([("key", "identity", "target", "seed"), *rows])
    write_whole(folder / "plan.json", lambda file: file.write((json.dumps(plan.settings, indent=2) + "\n").encode()))


def load_plan(folder: Path) -> Plan | None:
    """The plan of a folder; None where there is none yet."""
    if not (folder / "plan.json").is_file():
        return None
    with open(folder / "requests.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    identity, target, seed = (np.array([int(row[name]) for row in rows]) for name in ("identity", "target", "seed"))
    pictures = {name: [np.asarray(Image.open(p).convert("RGB")) for p in sorted((folder / name).glob("*.png"))] for name in ("identities", "references", "targets")}
    return Plan(**pictures, identity=identity, target=target, seed=seed, settings=json.loads((folder / "plan.json").read_text()))
