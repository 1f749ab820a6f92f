"""What a benchmark asks for: identity photos, target faces, and the pairs to generate (Sec. 4.2).

A plan is made once and written to its folder, so that other methods can answer it, and a run that was stopped goes on:

    plan.json                   what was wanted, and what was passed over
    requests.csv                a row a picture: key, identity, target, seed
    identities/NNN.png          the aligned face of each identity
    references/NNN.png          another photo's face of the same person, or the same again where there is none
    targets/NNN.png             the square of each target photo

A method's answer is a folder of square pictures named KEY.png, in any size.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from facecrafter_core.errors import UNUSABLE, MetricError, PhotoError
from facecrafter_core.faces.align import align_face
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.files import write_whole
from training.finder import Finder
from training.progress import progress
from training.sources import Item, load

LOST = "whose face is lost in its square"

CANDIDATES = 4
"""Photos looked at for each target that is wanted."""

FRONTAL = (12.0, 8.0)
"""Degrees of yaw and pitch within which a head counts as frontal."""


@dataclass(frozen=True)
class Wanted:
    """What a plan is made from. A folder holds the plan of one.

    Attributes:
        benchmark: "control" or "identity". source: digest of the photos. split: of the source.
        size: side of the squares in pixels.
        identities: people at most.
        targets, count: control: target photos, and pairs of an identity and a target, at most. each: identity: pictures of each person.
    """

    benchmark: str
    source: str
    split: str
    size: int
    seed: int
    identities: int
    targets: int = 0
    count: int = 0
    each: int = 0


@dataclass(frozen=True)
class Plan:
    """A benchmark: I identities, T targets (none in the identity benchmark), N requests.

    Attributes:
        identities: aligned faces, uint8 [S, S, 3] each. references: another photo's face of the same person, or the same again.
        targets: squares of the target photos.
        identity, target: [N] places in these lists (target is -1 where there is none). seed: [N].
        wanted: what it was made from. other_photo: how many references are another photo.
        notes: sentences for the reader of a table: what was passed over, and what there was too little of.
    """

    identities: list[np.ndarray]
    references: list[np.ndarray]
    targets: list[np.ndarray]
    identity: np.ndarray
    target: np.ndarray
    seed: np.ndarray
    wanted: Wanted
    other_photo: int
    notes: list[str]

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def keys(self) -> list[str]:
        return [f"{i:05d}" for i in range(len(self))]

    @property
    def settings(self) -> dict[str, object]:
        """What a table says of it."""
        counts = {"identities": len(self.identities), "other_photo": self.other_photo, **({"targets": len(self.targets)} if self.targets else {}), "pictures": len(self)}
        return {**{name: getattr(self.wanted, name) for name in ("benchmark", "split", "size", "seed")}, **counts}


def digest(items: Sequence[Item]) -> str:
    """Of a list of photos and whose they are, wherever their folder lies."""
    lines = "\n".join(f"{item.key}\t{item.person}" for item in items)
    return f"{zlib.crc32(lines.encode()):08x}"


def make_plan(items: Sequence[Item], wanted: Wanted, find: Finder) -> Plan:
    """Chooses people and targets.

    Raises:
        MetricError: fewer than two people with a usable photo, or no pair.
    """
    rng = np.random.default_rng(wanted.seed)
    own: dict[str, list[Item]] = {}
    for item in items:
        own.setdefault(item.person, []).append(item)
    people = sorted(own)
    rng.shuffle(people)
    squares = Squares(wanted.size, find)
    faces, references, chosen, used, other_photo = [], [], [], set(), 0
    with progress(min(wanted.identities, len(people)), "Faces of identities") as done:
        for person, usable in zip(people, squares.each((own[p] for p in people), 2, rotate=True, again=True), strict=False):
            if usable:
                faces.append(usable[0][1])
                references.append(usable[-1][1])
                chosen.append(person)
                used.update(item.key for item, _, _ in usable)
                other_photo += len(usable) > 1
                done(1)
            if len(chosen) == wanted.identities:
                break
    if len(chosen) < 2:
        raise MetricError(f"Expected photos of at least two people with a face, found {len(chosen)} among {len(people)} ({squares.report()}). Give a folder with more people.")
    if wanted.benchmark == "identity":
        targets, pictures = [], wanted.each * len(chosen)
        identity, target = np.arange(pictures) % len(chosen), np.full(pictures, -1)
    else:
        pool = [item for item in items if item.key not in used]
        rng.shuffle(pool)
        found = _targets(pool, wanted.targets, squares)
        targets = [square for _, square, _ in found]
        of_person = np.array([chosen.index(item.person) if item.person in chosen else -1 for item, _, _ in found])
        identity, target = _pairs(len(chosen), of_person, wanted.count, rng)
    made = {"identities": (len(chosen), wanted.identities), "targets": (len(targets), wanted.targets), "pairs": (len(identity), wanted.count)}
    short = [f"{there} of {asked} {name}" for name, (there, asked) in made.items() if there < asked]
    notes = [f"{squares.report()}.", *([f"Fewer than asked for: {', '.join(short)}."] if short else [])]
    return Plan(faces, references, targets, identity, target, wanted.seed + np.arange(len(identity)), wanted, other_photo, notes)


Found = tuple[Item, np.ndarray, np.ndarray]  # photo's place, its square, and (yaw, pitch, blendshapes)


class Squares:
    """Cuts photos to the squares around their faces, and counts those that it passes over.

    Args:
        size: side of the squares in pixels.
    """

    def __init__(self, size: int, find: Finder) -> None:
        self.size, self.find, self.looked, self.passed = size, find, 0, Counter()

    def each(self, groups: Iterable[Sequence[Item]], wanted: int = 1, rotate: bool = False, again: bool = False) -> Iterator[list[Found]]:
        """Of each group the first photos with a face.

        Args:
            again: a face that is found again in its square, as methods and estimators have to.
        """
        work = partial(_first_with_a_face, size=self.size, wanted=wanted, rotate=rotate, again=again)
        for found, looked, passed in self.find.each(work, groups):
            self.looked += looked
            self.passed += passed
            yield found

    def seen_again(self, squares: Iterable[np.ndarray]) -> Iterator[bool]:
        """Faces at the photo's border may be lost in their square."""
        for seen in self.find.each(_is_seen, squares):
            if not seen:
                self.passed[LOST] += 1
            yield seen

    def report(self) -> str:
        """How many, as part of a sentence."""
        passed = ", ".join(f"{count} {why}" for why, count in sorted(self.passed.items()))
        return f"{self.looked} photos looked at" + (f"; passed over: {passed}" if passed else "")


def _first_with_a_face(landmarker: FaceLandmarker, items: Sequence[Item], size: int, wanted: int, rotate: bool, again: bool) -> tuple[list[Found], int, Counter]:
    """What was found, how many photos were looked at, and why some were passed over."""
    found, looked, passed = [], 0, Counter()
    for item in items:
        if len(found) == wanted:
            break
        looked += 1
        try:
            photo = load(item)
            face = landmarker.find_face(photo)
        except UNUSABLE as error:
            passed["unreadable" if isinstance(error, PhotoError) else "without a face"] += 1
            continue
        square = align_face(photo, face.landmarks, size, rotate=rotate).image
        if again and not _is_seen(landmarker, square):
            passed[LOST] += 1
            continue
        found.append((item, square, np.r_[face.pose.yaw, face.pose.pitch, face.blendshapes]))
    return found, looked, passed


def _is_seen(landmarker: FaceLandmarker, square: np.ndarray) -> bool:
    try:
        landmarker.find_face(square)
    except UNUSABLE:
        return False
    return True


def _targets(pool: Sequence[Item], count: int, squares: Squares) -> list[Found]:
    """As even as they go over five directions of the head x three thirds of how far the expression is from the mean."""
    found: list[Found] = []
    with progress(count * CANDIDATES, "Faces of targets") as done:
        for some in squares.each([item] for item in pool):
            found += some
            done(len(some))
            if len(found) == count * CANDIDATES:
                break
    if not found:
        raise MetricError(f"Expected photos beside those of the identities to take targets from, found none with a face ({squares.report()}). Give more photos a person.")
    seen = np.stack([numbers for _, _, numbers in found])
    far = np.linalg.norm(seen[:, 2:] - seen[:, 2:].mean(0), axis=1)
    third = np.digitize(far, np.quantile(far, (1 / 3, 2 / 3)))
    direction = directions(seen[:, :2])
    strata = [np.flatnonzero((direction == a) & (third == b)) for a in range(5) for b in range(3)]
    order = [i for round_ in zip_longest(*strata) for i in round_ if i is not None]  # one of each stratum after the other
    chosen: list[Found] = []
    for i, again in zip(order, squares.seen_again(found[i][1] for i in order), strict=False):
        chosen += [found[i]] if again else []
        if len(chosen) == count:
            break
    if not chosen:
        raise MetricError(f"Expected targets whose face is found again in the square around it, found none ({squares.report()}). Give photos with the whole head.")
    return chosen


def directions(angles: np.ndarray) -> np.ndarray:
    """Yaw and pitch in degrees, [N, 2] -> 0 frontal, 1 left, 2 right, 3 down, 4 up: the side to which a head is turned furthest, beyond the limits.
    Pitch counts from its median, as cameras are often above or below the eyes."""
    turned = np.c_[angles[:, 0], angles[:, 1] - np.median(angles[:, 1])] / FRONTAL
    axis = np.abs(turned).argmax(1)
    furthest = turned[np.arange(len(turned)), axis]
    return np.where(np.abs(furthest) < 1, 0, 1 + 2 * axis + (furthest > 0))


def _pairs(identities: int, of_person: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different people, each at most once; every identity about equally often, and every target where there are no more of them than identities.

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
    content = {"wanted": asdict(plan.wanted), "other_photo": plan.other_photo, "notes": plan.notes}
    write_whole(folder / "plan.json", lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


def load_plan(folder: Path) -> Plan | None:
    """The plan of a folder; None where there is none yet.

    Raises:
        MetricError: an older version wrote it.
    """
    if not (folder / "plan.json").is_file():
        return None
    content = json.loads((folder / "plan.json").read_text())
    if "wanted" not in content:
        raise MetricError(f"{folder} holds a run of an older version, which did not write down what it was made from. Use another --out, or remove it.")
    content["wanted"] = Wanted(**content["wanted"])
    with open(folder / "requests.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    identity, target, seed = (np.array([int(row[name]) for row in rows]) for name in ("identity", "target", "seed"))
    pictures = {name: [np.asarray(Image.open(p).convert("RGB")) for p in sorted((folder / name).glob("*.png"))] for name in ("identities", "references", "targets")}
    return Plan(**pictures, identity=identity, target=target, seed=seed, **content)
