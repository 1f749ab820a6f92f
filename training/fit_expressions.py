"""Makes the face model of facecrafter_core/faces/face_model.py from rendered people: a neutral face, how each ARKit action moves its points, and
how people differ.

    python -m training.fit_expressions --assets ASSETS [--people 24] [--shapes 120]

Training people (numbers from 400 on) are rendered from the front, neutral and with one action at a time, and MediaPipe finds the landmarks. In the
head's frame, an action's displacement is the mean difference over people, made symmetric; shapes are the principal components of the neutral
faces. How much of the movement of people and mixed expressions that took no part (validation people) it explains is printed.
Writes facecrafter_core/faces/face_model.npz, and web/face.json for the graph editor.
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facecrafter_core.faces import landmarks as groups
from facecrafter_core.faces.blendshapes import BLENDSHAPES
from facecrafter_core.faces.drawing import edges
from facecrafter_core.faces.face_model import FILE, GROUPS, MOVE_GROUPS, RIGID, FaceModel, similarity
from facecrafter_core.terminal import escape_unprintable
from training.ranges import COUNT

ROOT = Path(__file__).resolve().parents[1]
NAMES = BLENDSHAPES[1:]
VALIDATION_FIRST, TRAINING_FIRST = 200, 400
MODES = 16
RESOLUTION = 1e-4  # of web/face.json, in face sizes


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of training/synthetic/pack.py")
    parser.add_argument("--people", type=COUNT.of(int), default=24, help="whose actions are rendered")
    parser.add_argument("--shapes", type=COUNT.of(int), default=120, help="neutral faces")
    parser.add_argument("--check", type=COUNT.of(int), default=8, help="validation people")
    args = parser.parse_args()

    look = Studio(args.assets)
    people = range(TRAINING_FIRST, TRAINING_FIRST + max(args.people, args.shapes))
    neutrals = {n: face for n in tqdm(people, desc="neutral") if (face := look(n, {})) is not None}
    mean, local = procrustes(np.stack(list(neutrals.values())))
    mirror = mirrored(mean)
    mean = symmetric(mean, mirror)
    moved = {name: [] for name in NAMES}
    for n in tqdm(list(neutrals)[: args.people], desc="actions"):
        rest = to_local(neutrals[n], mean)
        for name in NAMES:
            if (face := look(n, {name: 1.0})) is not None:
                moved[name].append(to_local(face, mean) - rest)
    expressions = np.stack([np.mean(moved[name], axis=0) for name in NAMES])
    expressions = np.stack([(expressions[i] + flip(expressions[NAMES.index(other(name))], mirror)) / 2 for i, name in enumerate(NAMES)])
    shape = np.stack([to_local(face, mean) - mean for face in neutrals.values()])
    _, s, v = np.linalg.svd(shape.reshape(len(shape), -1), full_matrices=False)
    shapes = (s[:MODES, None] / np.sqrt(len(shape)) * v[:MODES]).reshape(MODES, -1, 3)

    model = FaceModel(mean.astype(np.float32), expressions.astype(np.float16).astype(np.float32), shapes.astype(np.float16).astype(np.float32), NAMES)
    np.savez_compressed(FILE, neutral=mean.astype(np.float32), expressions=expressions.astype(np.float16), shapes=shapes.astype(np.float16), names=np.array(NAMES))
    (ROOT / "web/face.json").write_text(json.dumps(for_the_editor(model), separators=(",", ":")) + "\n")
    check(model, look, range(VALIDATION_FIRST, VALIDATION_FIRST + args.check))


class Studio:
    """Renders a person's frontal face with some actions, and finds its landmarks: [478, 3] in units of the picture, or None."""

    def __init__(self, assets: Path) -> None:
        from facecrafter_core.faces.landmarker import FaceLandmarker
        from training.synthetic.assets import Assets
        from training.synthetic.render import Renderer
        from training.synthetic.scene import posed, sample_scene

        self.renderer, self.landmarker = Renderer(Assets(assets), 256), FaceLandmarker()
        self.scene = posed(sample_scene(np.random.default_rng(3)), 0.0)
        self.person, self.prepared = -1, None

    def __call__(self, number: int, actions: dict[str, float] | np.ndarray) -> np.ndarray | None:
        from training.synthetic.expressions import action_vector
        from training.synthetic.people import sample_person

        if number != self.person:
            self.person, self.prepared = number, self.renderer.prepare(sample_person(number, self.renderer.assets.catalogue))
        vector = actions if isinstance(actions, np.ndarray) else action_vector(actions)
        face = self.landmarker.largest(self.renderer.render(self.prepared, vector, self.scene))
        return face.landmarks.astype(np.float64) / 256 if face else None


def to_local(points: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """Points of a picture in the head's frame."""
    rotation, scale, centre = similarity(neutral[RIGID], points[RIGID])
    return (points - centre) @ rotation / scale


def procrustes(faces: np.ndarray, rounds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Mean of faces [N, 478, 3] up to similarity: centred on RIGID, eye centres 1 apart; and the faces in its frame."""
    mean = faces[0]
    for _ in range(rounds):
        local = np.stack([to_local(face, mean) for face in faces])
        mean = local.mean(0)
        mean = mean - mean[RIGID].mean(0)
        mean = mean / np.linalg.norm(mean[list(groups.LEFT_EYE)].mean(0) - mean[list(groups.RIGHT_EYE)].mean(0))
    return upright(mean), local


def upright(mean: np.ndarray) -> np.ndarray:
    """Turned so that the eyes are level and left-right symmetry is about x = 0; MediaPipe's own zero pitch is kept."""
    across = mean[list(groups.LEFT_EYE)].mean(0) - mean[list(groups.RIGHT_EYE)].mean(0)
    x = across / np.linalg.norm(across)
    y = np.array([0.0, 1.0, 0.0]) - x[1] * x
    y /= np.linalg.norm(y)
    turned = mean @ np.stack([x, y, np.cross(x, y)]).T
    return turned - [turned[RIGID, 0].mean(), 0, 0]


def mirrored(mean: np.ndarray) -> np.ndarray:
    """Each point's partner on the other side."""
    from scipy.optimize import linear_sum_assignment

    distance = np.linalg.norm((mean * [-1, 1, 1])[:, None] - mean[None], axis=2)
    _, partner = linear_sum_assignment(np.minimum(distance, distance.T))
    assert (partner[partner] == np.arange(len(mean))).all()
    return partner


def flip(displacement: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return displacement[mirror] * [-1, 1, 1]


def symmetric(mean: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return (mean + flip(mean, mirror)) / 2


def other(name: str) -> str:
    """The action of the other side."""
    swap = {"Left": "Right", "Right": "Left"}
    return next((name[: -len(a)] + b for a, b in swap.items() if name.endswith(a)), name)


def for_the_editor(model: FaceModel) -> dict:
    """What the graph editor needs to show what the core computes; displacements as 16-bit numbers, base64."""
    steps = np.round(model.expressions / RESOLUTION).astype("<i2")
    return {
        "neutral": np.round(model.neutral, 5).tolist(), "rigid": RIGID.tolist(), "names": list(model.names), "groups": GROUPS,
        "move_groups": {name: list(points) for name, points in MOVE_GROUPS.items()}, "edges": edges(),
        "eyes": [list(groups.RIGHT_EYE), list(groups.LEFT_EYE)], "mouth_corners": list(groups.MOUTH_CORNERS),
        "resolution": RESOLUTION, "displacements": base64.b64encode(steps.tobytes()).decode(),
    }  # fmt: skip


def check(model: FaceModel, look: Studio, people: range) -> None:
    """Prints how much of the movement from neutral the model explains, for single actions and for mixed expressions."""
    from training.synthetic.expressions import ACTIONS, sample_actions

    def cases() -> Iterator[tuple[str, int, np.ndarray]]:
        for n in people:
            for i, name in enumerate(NAMES):
                if (i + n) % 4 == 0:
                    yield "single actions", n, np.array([float(a == name) for a in ACTIONS], np.float32)
            for i in range(6):
                yield "mixed expressions", n, sample_actions(np.random.default_rng((n, i)))

    seen: dict[str, list[tuple[float, float, float]]] = {}
    rests = {n: look(n, {}) for n in people}
    for kind, n, actions in tqdm(list(cases()), desc="validation"):
        face = look(n, actions)
        if face is None or rests[n] is None:
            continue
        rest, found = to_local(rests[n], model.neutral), to_local(face, model.neutral)
        weights = np.array([actions[ACTIONS.index(name)] for name in NAMES])
        expected = rest + np.tensordot(weights, model.expressions, axes=1)
        stripped = found - np.tensordot(model.explain(found), model.expressions, axes=1)
        seen.setdefault(kind, []).append(tuple(np.square(face - rest)[:, :2].sum() for face in (found, rest + found - expected, stripped)))
    for kind, values in seen.items():
        before, after, left = np.array(values).sum(0)
        text = f"{100 * (1 - after / before):.0f}% of the squared movement explained by the actions, {100 * left / before:.0f}% left after removing the expression"
        print(f"{kind} ({len(values)} faces of {len(people)} people): {text}")


if __name__ == "__main__":
    main()
