"""What edited landmarks do to generated portraits, on held-out people with the demo model: the tables and pictures of docs/editing.md.

    python benchmarks/editing.py --data FACES --out OUT [--people 40] [--steps 12] [--again]

FACES is a folder of training/synthetic/generate.py with held-out people (numbers 0 to 199), four pictures each or more. Two measurements:
- retarget: each person is generated with the landmarks of two other people, as they are and retargeted to the person's own proportions (same
  seed). Identity is measured by an evaluator network against a photo that took no part; pose and expression against the source's photo.
- edit: each person's own landmarks, made frontal and neutral, get three random edits (all angles and actions at once). Asked for against found.

Writes OUT/tables.md, OUT/retarget.jpg, OUT/asked_and_found.png, OUT/edits.jpg, and the generated pictures as OUT/*.npy; --again measures those once more.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from facecrafter_core.demo import Cell, contact_sheet  # noqa: E402
from facecrafter_core.faces.blendshapes import BLENDSHAPES  # noqa: E402
from facecrafter_core.faces.drawing import draw_landmarks  # noqa: E402
from facecrafter_core.faces.edit import edit, expression_of, retarget  # noqa: E402
from facecrafter_core.faces.face_model import GROUPS, face_model  # noqa: E402
from facecrafter_core.metrics import control  # noqa: E402
from facecrafter_core.metrics.estimators import estimators_of, find_faces, read_all  # noqa: E402
from facecrafter_core.metrics.reading import Reading  # noqa: E402
from facecrafter_core.metrics.statistics import bootstrap_interval, root_mean  # noqa: E402
from facecrafter_core.studio import Studio  # noqa: E402
from training.data import load_faces  # noqa: E402

SHIFTS = (7, 19)  # whose pose and expression: so many people further on
LIMITS = {"yaw": 40.0, "pitch": 15.0, "roll": 12.0}
ACTIONS = ("smile", "jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "browUp")
EDITS = 3
FRONTAL = {"pose_source": "frontal", "expression_source": "neutral"}


class People(NamedTuple):
    """The held-out people; each has a photo that gives identity and proportions, one that is only compared with, and one a shift that others copy."""

    identity_photos: list[np.ndarray]
    gallery_photos: list[np.ndarray]
    source_photos: list[list[np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--again", action="store_true", help="measure the pictures that are in OUT")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    studio = Studio()
    people = choose(options.data, options.people)
    lab = Lab(studio, people, options)
    text = [*retargeting(lab, people, options.out), "", *editing(lab, people, options.out)]
    (options.out / "tables.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


def choose(folder: Path, count: int) -> People:
    """Identity: the most frontal photo; the others in their order."""
    faces = load_faces(folder).split("test")
    out = People([], [], [])
    for person in sorted(set(faces.person.tolist())):
        own = np.flatnonzero(faces.person == person)
        if len(own) < 2 + len(SHIFTS):
            continue
        identity = own[np.abs(faces.labels["yaw"][own]).argmin()]
        others = [faces.images[i] for i in own if i != identity]
        out.identity_photos.append(faces.images[identity])
        out.gallery_photos.append(others[-1])
        out.source_photos.append(others[: len(SHIFTS)])
    if len(out.identity_photos) < max(SHIFTS) + 1:
        raise SystemExit(f"Expected at least {max(SHIFTS) + 1} held-out people with {2 + len(SHIFTS)} photos or more in {folder}, found {len(out.identity_photos)}.")
    return People(*(part[:count] for part in out))


class Lab:
    """Generates pictures of the people and reads numbers off pictures."""

    def __init__(self, studio: Studio, people: People, options: argparse.Namespace) -> None:
        self.studio, self.options = studio, options
        self.estimators, _ = estimators_of("demo", studio.folder)
        self.identities = np.stack([np.asarray(studio.identity([photo])) for photo in people.identity_photos])
        self.shapes = self.landmarks(people.identity_photos)
        self.gallery = self.read(people.gallery_photos)

    def landmarks(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """What Extract Landmarks gives: [N, 478, 3]."""
        return np.stack([self.studio.driving_face(photo).landmarks for photo in photos])

    def read(self, pictures: Sequence[np.ndarray]) -> Reading:
        return read_all(self.estimators, pictures, find_faces(pictures, self.studio.landmarker))

    def generate(self, name: str, person: np.ndarray, landmarks: np.ndarray | None) -> np.ndarray:
        """One picture for each of `person` (places), seeded by its place in the list: uint8 [N, S, S, 3]."""
        from tqdm import tqdm

        file = self.options.out / f"{name}.npy"
        if self.options.again:
            return np.load(file)
        parts = []
        for start in tqdm(range(0, len(person), self.options.batch), desc=name):
            part = slice(start, start + self.options.batch)
            chosen = None if landmarks is None else landmarks[part]
            parts.append(self.studio.pipe(self.identities[person[part]], chosen, None, steps=self.options.steps, seed=start, output_type="np"))
        pictures = (np.concatenate(parts) * 255).round().astype(np.uint8)
        np.save(file, pictures)
        return pictures


def proportions(landmarks: np.ndarray) -> np.ndarray:
    """A face in the head's frame without its expression, in eye distances; NaN stays NaN. [N, 478, 3] -> [N, 478, 3]."""
    frame = face_model().frame
    return np.stack([frame(face).to_local(face) - expression_of(face) if np.isfinite(face).all() else face * np.nan for face in landmarks])


def shape_distance(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean distance of two faces' proportions in percent of the eye distance: [N, 478, 3] twice -> [N]."""
    return 100 * np.linalg.norm(found - wanted, axis=2).mean(1)


def retargeting(lab: Lab, people: People, out: Path) -> list[str]:
    """The table of retargeting, and the picture of the pairs whose proportions differ most."""
    count = len(people.identity_photos)
    person = np.tile(np.arange(count), len(SHIFTS))
    source = np.concatenate([(np.arange(count) + shift) % count for shift in SHIFTS])
    photos = [people.source_photos[s][i // count] for i, s in enumerate(source)]
    given, asked = lab.landmarks(photos), lab.read(photos)
    fitted = np.stack([retarget(given[i], lab.shapes[p]) for i, p in enumerate(person)])
    conditions = {"identity only": None, "source's landmarks": given, "retargeted": fitted}
    own_shape = proportions(lab.gallery["landmarks"])[person]
    source_shape = proportions(lab.landmarks(people.identity_photos))[source]
    lines = [
        f"{len(person)} pairs: {count} people x {len(SHIFTS)} sources, {lab.options.steps} steps. In brackets: 95% bootstrap interval over pairs (over people for likeness and gains).",
        "",
        "| | similarity to the person | to the source's person | own identity first | proportions, from own | from the source's | pose RMSE | expression RMSE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    made, values = {}, {}
    for name, landmarks in conditions.items():
        made[name] = lab.generate(name.replace(" ", "_").replace("'", ""), person, landmarks)
        reading = lab.read(made[name])
        shape = proportions(reading["landmarks"])
        values[name] = {
            "own": control.similarity(reading["identity"], lab.gallery["identity"][person]),
            "other": control.similarity(reading["identity"], lab.gallery["identity"][source]),
            "first": 100 * control.own_among(reading["identity"], lab.gallery["identity"], person),
            "own_shape": shape_distance(shape, own_shape),
            "other_shape": shape_distance(shape, source_shape),
            "pose": control.squared_error(reading["pose"], asked["pose"]),
            "expression": control.squared_error(reading["expression"], asked["expression"]),
            "yaw": reading["pose"][:, 0],
        }
        v = values[name]
        cells = [mean(v["own"], 3, people=person), mean(v["other"], 3, people=person), mean(v["first"], 0, "%", people=person), mean(v["own_shape"], 1, "%"), mean(v["other_shape"], 1, "%")]
        lines.append(f"| {name} | " + " | ".join([*cells, root(v["pose"], 1), root(v["expression"], 3)]) + " |")
    plain, fit = values["source's landmarks"], values["retargeted"]
    named = (("similarity to the person", "own", 3), ("similarity to the source's person", "other", 3), ("proportions, from own", "own_shape", 1))
    gains = [f"{what} {mean(fit[key] - plain[key], digits, sign='+', people=person)}" for what, key, digits in named]
    lines += ["", "Retargeted less the source's landmarks, pair by pair: " + "; ".join(gains) + ".", ""]
    slopes = [f"{name} {slope(asked['pose'][:, 0], values[name]['yaw']):.2f}" for name in ("source's landmarks", "retargeted")]
    lines += [f"Slope of the yaw found on the source's: {'; '.join(slopes)}.", ""]
    lines += ["MediaPipe gave the landmarks and measures pose, expression and proportions, which flatters these columns; identity is judged by another network of the same rendered world, which took no part.", ""]
    between = shape_distance(proportions(given), proportions(lab.shapes)[person])
    near = np.argsort(between)[: len(between) // 2]
    far = np.argsort(between)[len(between) // 2 :]
    split = [f"{what} {mean((fit['own'] - plain['own'])[half], 3, sign='+', people=person[half])}" for what, half in (("the half that is alike", near), ("the half that differs", far))]
    lines += [f"By how much the two people's proportions differ, similarity to the person: {'; '.join(split)}."]
    cells = []
    for i in np.argsort(-between)[:5]:
        size = lab.studio.image_size
        drawings = [draw_landmarks(points[i], size) for points in (given, fitted)]
        row = [people.identity_photos[person[i]], photos[i], drawings[0], made["source's landmarks"][i], drawings[1], made["retargeted"][i]]
        captions = ("the person", "pose and expression from", "its landmarks", "made with them", "retargeted", "made with them")
        cells += [Cell("", caption, picture) for caption, picture in zip(captions, row, strict=True)]
    reduced(contact_sheet(cells, columns=6)).save(out / "retarget.jpg", quality=88)
    return lines


def editing(lab: Lab, people: People, out: Path) -> list[str]:
    """The tables of random edits, their scatter picture, and a row of single edits a kind."""
    count = len(people.identity_photos)
    person, rng = np.repeat(np.arange(count), EDITS), np.random.default_rng(0)
    angles = rng.uniform(-1, 1, (len(person), 3)) * list(LIMITS.values())
    weights = rng.uniform(0, 1, (len(person), len(ACTIONS))) * (rng.random((len(person), len(ACTIONS))) < 0.5)
    edited = np.concatenate(
        [edit(lab.shapes[[p]], tuple(a), dict(zip(ACTIONS, w, strict=True)), **FRONTAL) for p, a, w in zip(person, angles, weights, strict=True)]
    )
    reading = lab.read(lab.generate("edits", person, edited))
    seen = np.isfinite(reading["pose"]).all(1)
    lines = [
        f"{len(person)} pictures: {count} people x {EDITS} random edits of all angles and actions at once; a face found in {seen.sum()}.",
        "",
        "| angle | asked for | r | slope | mean error | mean offset |",
        "|---|---|---|---|---|---|",
    ]
    panels = []
    for i, (name, limit) in enumerate(LIMITS.items()):
        a, f = angles[seen, i], reading["pose"][seen, i]
        lines.append(f"| {name} | -{limit:g} to {limit:g} | {r(a, f):.2f} | {slope(a, f):.2f} | {np.abs(f - a).mean():.1f} | {(f - a).mean():+.1f} |")
        panels.append((f"{name} (degrees)", a, f))
    lines += ["", "| action | r | MediaPipe's score at 0 | at 0.6 and more | r with the other side |", "|---|---|---|---|---|"]
    for i, name in enumerate(ACTIONS):
        a, f = weights[seen, i], score(reading, name)[seen]
        cross = "-"
        if name.endswith(("Left", "Right")):
            other = name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
            cross = f"{r(a, score(reading, other)[seen]):.2f}"
        lines.append(f"| {name} | {r(a, f):.2f} | {f[a == 0].mean():.2f} | {f[a >= 0.6].mean():.2f} | {cross} |")
        panels.append((name, a, f))
    smile, valence = weights[seen, 0], reading["emotion"][seen, 0]
    lines += ["", f"Valence by the emotion evaluator (it has no landmarks): {valence[smile == 0].mean():+.2f} without a smile, {valence[smile >= 0.6].mean():+.2f} with 0.6 and more (r = {r(smile, valence):.2f})."]
    scatter(panels, out / "asked_and_found.png")
    single(lab, out / "edits.jpg")
    return lines


def single(lab: Lab, path: Path, place: int = 0) -> None:
    """One edit at a time on one person, all with the same seed: landmarks above, pictures below."""
    columns = [
        ("frontal, neutral", (0, 0, 0), {}), ("yaw -35", (-35, 0, 0), {}), ("yaw 35", (35, 0, 0), {}), ("pitch 15", (0, 15, 0), {}),
        ("smile 1", (0, 0, 0), {"smile": 1}), ("jaw 0.8", (0, 0, 0), {"jaw": 0.8}), ("eyeBlinkLeft 1", (0, 0, 0), {"eyeBlinkLeft": 1}), ("browUp 1", (0, 0, 0), {"browUp": 1}),
    ]  # fmt: skip
    edited = np.concatenate([edit(lab.shapes[[place]], pose, weights, **FRONTAL) for _, pose, weights in columns])
    file = path.with_suffix(".npy").with_stem("single_edits")
    if lab.options.again:
        made = np.load(file)
    else:
        pictures = [lab.studio.pipe(lab.identities[place], face, None, steps=lab.options.steps, seed=0, output_type="np")[0] for face in edited]
        made = (np.stack(pictures) * 255).round().astype(np.uint8)
        np.save(file, made)
    cells = [Cell("", "", draw_landmarks(face, lab.studio.image_size)) for face in edited]
    cells += [Cell("", caption, picture) for (caption, _, _), picture in zip(columns, made, strict=True)]
    reduced(contact_sheet(cells, columns=len(columns))).save(path, quality=88)


def score(reading: Reading, name: str) -> np.ndarray:
    """MediaPipe's score of an action, or the mean over a group's actions: [N]."""
    return reading["expression"][:, [BLENDSHAPES.index(action) for action in GROUPS[name]]].mean(1)


def scatter(panels: list[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """Asked for against found, a small picture a quantity."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(10, 5.2), constrained_layout=True)
    for axis, (name, asked, found) in zip(axes.ravel(), panels, strict=True):
        if "degrees" in name:
            axis.axline((0, 0), slope=1, color="0.7", linewidth=1)
        axis.scatter(asked, found, s=8, alpha=0.6)
        axis.set(title=name, xlabel="asked for", ylabel="found")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def reduced(sheet: Image.Image, width: int = 1200) -> Image.Image:
    """A sheet no wider than fits a page."""
    return sheet.resize((width, round(sheet.height * width / sheet.width)), Image.Resampling.LANCZOS)


def r(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def slope(a: np.ndarray, b: np.ndarray) -> float:
    """Of the line through b over a; pictures without a face (NaN in b) are left out."""
    seen = np.isfinite(b)
    return float(np.polyfit(a[seen], b[seen], 1)[0])


def mean(values: np.ndarray, digits: int, unit: str = "", sign: str = "", people: np.ndarray | None = None) -> str:
    """The mean with its interval, over `people` where they are given, as a table shows it; NaN values (no face found) are left out."""
    low, high = bootstrap_interval(values, people=people)
    return f"{np.nanmean(values):{sign}.{digits}f}{unit} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def root(squared: np.ndarray, digits: int) -> str:
    low, high = bootstrap_interval(squared, root_mean)
    return f"{control.rmse(squared):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
