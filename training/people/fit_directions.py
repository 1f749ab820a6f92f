"""Finds the directions in the generator's style space that change pose and expression and keep the person: training/people/directions.npz.

    python -m training.people.fit_directions [--out training/people/directions.npz] [--sheet runs/directions.jpg] [--processes 16]

1. Random people are made, and MediaPipe and the recogniser look at them. Ridge regression of the style on the scores and on the recogniser's vector
   gives each score its direction; because the vector is among the regressors, the identity is held.
2. A small network learns to read the scores from pixels. It also sees people who are edited along these directions, and pictures whose landmarks were
   moved by facial actions (warp.py), since the generator hardly makes some of them by itself.
3. For each of directions.AIMS, a change of the first nine style inputs is optimised through the generator: the read scores should change as the aim
   says, the others and the recogniser's vector should stay. It starts from the ridge direction.

Then measure_directions.py measures them. docs/people.md says what was found. It takes about six minutes on one H200 with 30 processes; on a CPU, days.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from facecrafter_core.errors import FaceCrafterError
from facecrafter_core.faces.blendshapes import PAIRED
from facecrafter_core.faces.chips import face_chips
from facecrafter_core.faces.dlib_resnet import DlibResNet
from facecrafter_core.faces.edit import express, express_emotion
from facecrafter_core.faces.emotion import EMOTIONS, Emotion
from facecrafter_core.faces.face import Pose
from facecrafter_core.files import check_place
from facecrafter_core.terminal import escape_unprintable
from training.finder import Finder
from training.loop import World, make_folder, one_sentence, save_sheet
from training.people.directions import AIMS, FILE, SCORES, Directions, as_vector, style_inputs
from training.people.generator import SHAPE_INPUTS, SIDE, Synthesis, load_generator
from training.people.maker import Found, Maker, pixels
from training.people.measure_directions import add_options, check_device, measure
from training.people.reader import LEAST_SD, Reader, train_reader, unit
from training.people.reader import SIDE as READER_SIDE
from training.people.warp import warp_faces
from training.ranges import EVERY

FIT_SPREAD, AIM_SPREAD = 0.85, 0.8
"""Of the people behind the regression and the reader, and of those behind the aims (Maker.styles)."""

RIDGE = 0.05
IDENTITY_PARTS = 96
"""Principal components of the recogniser's vector among the regressors."""

EDIT_SPREAD = {"yaw": (22.0, 1.0), "pitch": (11.0, 1.0), "jawOpen": (0.2, 0.5), "browInnerUp": (0.25, 0.5), "mouthPucker": (0.15, 0.5)}
"""The reader's edited people: score -> standard deviation of its change, and the share of pictures that have it."""
PAIRED_SPREAD = {"mouthSmile": (0.5, 0.6), "browDown": (0.3, 0.6), "browOuterUp": (0.25, 0.6), "eyeBlink": (0.2, 0.6), "eyeSquint": (0.2, 0.6)}
"""The same, for the scores of both sides."""

WARPED = ("eyeBlink", "mouthPucker", "mouthFrown", "browDown", "browInnerUp", "mouthPress", "noseSneer", "eyeWide", "mouthSmileLeft", "mouthLeft", "mouthRight")
"""Actions by which landmarks are moved for the reader, beside the emotions'."""

FREE = {"browdown": ("eyeSquintLeft", "eyeSquintRight"), "lookD": ("eyeBlinkLeft", "eyeBlinkRight")}
"""Scores that may change along with an aim."""

ASKED, OTHERS, OTHERS_TURNED, EFFORT = 6.0, 0.15, 0.045, 2e-3
"""Weights of the loss: the asked changes (in units of themselves), the other scores (in standard deviations), these where the head turns, and the
size of the change."""
IDENTITY, IDENTITY_TURNED = 4.0, 1.0
"""Weights of the squared distance of the recogniser's vectors; a turned head is farther from itself."""

See = Callable[[Tensor], tuple[Tensor, Tensor]]
"""All style inputs [B, 23, 512] -> scores [B, 55] and the recogniser's vector [B, 128], differentiable."""


@dataclass(frozen=True)
class Settings:
    """How much is done. The defaults are those of the committed file."""

    people: int = 12_000  # random ones; as many again are edited, and as many are warped
    reader_steps: int = 2_500
    reader_batch: int = 256
    steps: int = 140  # of each aim
    pool: int = 96  # people behind each aim
    batch: int = 12
    check: int = 40  # other people, in whom the result is measured
    seed: int = 7


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE)
    add_options(parser)
    for field in fields(Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=EVERY.of(int), default=field.default)
    args = parser.parse_args()
    with one_sentence():
        settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
        _check(settings, args.device)
        make_folder(args.out.absolute().parent)
        if args.sheet:
            check_place(args.sheet)
        generator = load_generator(args.generator)
        finder = Finder(args.processes)
        try:
            maker = Maker(*generator, DlibResNet.load(), finder, World(args.device).device)
            directions = fit(maker, settings)
            print(f"wrote {directions.save(args.out)}")
            rows = measure(maker, directions, settings.check)
            if args.sheet:
                save_sheet(rows, args.sheet)
        finally:
            finder.close()


def _check(settings: Settings, device: str) -> None:
    for field in fields(settings):
        if field.name != "seed" and getattr(settings, field.name) < 2:
            raise FaceCrafterError(f"Expected --{field.name.replace('_', '-')} of at least 2, found {getattr(settings, field.name)}.")
    check_device(device)


def fit(maker: Maker, settings: Settings) -> Directions:
    """Steps 1 to 3 of this module."""
    start, random = time.perf_counter(), np.random.default_rng(settings.seed)

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - start:.0f} s] {text}", flush=True)

    styles = maker.styles(settings.people, FIT_SPREAD, settings.seed)
    found, warped = _survey_and_warp(maker, styles, random)
    say(f"found {len(found.scores)} faces in {len(styles)} pictures, {len(warped.scores)} after warps")
    ridge, names, sd = fit_ridge(styles[found.kept].cpu().numpy(), found.scores.cpu().numpy(), found.identity.cpu().numpy())
    nothing = np.zeros((0, SHAPE_INPUTS, ridge.shape[0]), np.float32)
    directions = Directions(ridge, names, sd, maker.mean.cpu().numpy(), nothing, ())
    others = maker.styles(settings.people, FIT_SPREAD, settings.seed + 1)
    edits = torch.from_numpy(random_edits(directions, settings.people, random)).to(maker.device)
    edited = Found.join([seen for _, seen in maker.survey(others, edits)])
    say(f"found {len(edited.scores)} faces in {len(others)} pictures of edited people")
    everyone = [found, edited, warped]
    small, scores = torch.cat([f.small for f in everyone]), torch.cat([f.scores for f in everyone])
    torch.manual_seed(settings.seed)
    shuffle = torch.Generator().manual_seed(settings.seed)
    reader, explained = train_reader(small, scores, settings.reader_steps, settings.reader_batch, shuffle)
    say(f"the reader explains {100 * explained:.0f}% of the variance of the median score")
    pool = maker.styles(settings.pool, AIM_SPREAD, settings.seed + 2)
    see = seer(maker.synthesis, reader, maker.recogniser, found.landmarks.mean(0))
    opt = {}
    for name, aim in AIMS.items():
        begin = torch.from_numpy(directions.along(aim)).to(maker.device)
        opt[name] = optimise(see, pool, begin, aim, reader.sd, settings, shuffle, FREE.get(name, ())).cpu().numpy()
    say(f"optimised {len(opt)} directions")
    return Directions(ridge, names, sd, directions.mean, np.stack(list(opt.values())), tuple(opt))


def _survey_and_warp(maker: Maker, styles: Tensor, random: np.random.Generator) -> tuple[Found, Found]:
    """What is found in the people's pictures, and in the same pictures after their landmarks were moved by random actions."""
    plain, warped = [], []
    for pictures, found in maker.survey(styles):
        plain.append(found)
        after = [random_expression(points, random) for points in found.landmarks.cpu().numpy()]
        if after:
            moved = torch.from_numpy(np.stack(after)).to(maker.device)
            parts = zip(pictures[found.kept].split(8), found.landmarks.split(8), moved.split(8), strict=True)
            warped.append(maker.look(torch.cat([pixels(warp_faces(unit(picture), a, b)) for picture, a, b in parts])))
    return Found.join(plain), Found.join(warped)


def random_expression(landmarks: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A face's landmarks [478, 3] with an emotion's actions added (three of five times) or a single action's."""
    if random.random() < 0.6:
        return express_emotion(landmarks, Emotion.preset(str(random.choice(EMOTIONS[1:])), random.uniform(0.4, 1)))
    return express(landmarks, {str(random.choice(WARPED)): random.uniform(0.3, 1.1)})


def fit_ridge(styles: np.ndarray, scores: np.ndarray, identities: np.ndarray) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Regression of styles [N, 512] on scores [N, 55] and on the recogniser's vectors [N, 128].

    Returns:
        The coefficients of the scores that vary [512, K], for changes by one standard deviation; their names; their standard deviations [K].
    """
    varies = [i for i, name in enumerate(SCORES) if scores[:, i].std() > LEAST_SD and name != "_neutral"]
    sd = scores[:, varies].std(0)
    vectors = identities - identities.mean(0)
    parts = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:IDENTITY_PARTS].T
    x = np.concatenate([(scores[:, varies] - scores[:, varies].mean(0)) / sd, parts / (parts.std(0) + 1e-6)], axis=1).astype(np.float64)
    covariance = (styles - styles.mean(0)).T.astype(np.float64) @ x / len(x)
    coefficients = np.linalg.solve(x.T @ x / len(x) + RIDGE * np.eye(x.shape[1]), covariance.T).T
    return coefficients[:, : len(varies)].astype(np.float32), tuple(SCORES[i] for i in varies), sd.astype(np.float32)


def random_edits(directions: Directions, count: int, random: np.random.Generator) -> np.ndarray:
    """Changes of styles [count, 512] for pose and several actions at once."""
    changes = np.zeros((count, len(directions.names)), np.float32)
    for name, (spread, share) in (EDIT_SPREAD | PAIRED_SPREAD).items():
        change = random.normal(0, spread, count) * (random.random(count) < share)
        if name in EDIT_SPREAD and name not in Pose._fields:
            change = abs(change)
        for side in ("Left", "Right") if name in PAIRED else ("",):
            if name + side in directions.names:
                changes[:, directions.names.index(name + side)] = change
    return (changes / directions.sd) @ directions.ridge.T


def seer(synthesis: Synthesis, reader: Reader, recogniser: DlibResNet, landmarks: Tensor) -> See:
    """See through the generator. landmarks: [478, 3] in sides of the picture, for the recogniser's chips of all people."""

    def see(styles: Tensor) -> tuple[Tensor, Tensor]:
        pictures = synthesis(styles)
        points = (landmarks * SIDE).expand(len(pictures), -1, -1)
        return reader(avg_pool2d(pictures, SIDE // READER_SIDE)), recogniser(face_chips((pictures.clamp(-1, 1) + 1) / 2, points))

    return see


def optimise(
    see: See, pool: Tensor, begin: Tensor, aim: dict[str, float], sd: Tensor, settings: Settings, random: torch.Generator, free: Sequence[str] = ()
) -> Tensor:
    """The change [9, 512] of the first style inputs that does to the pool's people [N, 512] what an aim says.

    Args:
        begin: [512], the ridge direction.
        sd: of the scores [55], the unit of those that should stay.
        free: scores that may change.
    """
    turned = bool(set(aim) & set(Pose._fields))
    target = as_vector(aim).to(pool.device)
    weights = torch.full_like(target, OTHERS)
    if turned:
        weights[len(Pose._fields) :] = OTHERS_TURNED
    weights[[SCORES.index(name) for name in free]] = 0
    weights = torch.where(target != 0, ASKED / target.square().clamp(min=1e-6), weights / sd.square())
    with torch.no_grad():
        scores, vectors = (torch.cat(parts) for parts in zip(*(see(style_inputs(part)) for part in pool.split(settings.batch)), strict=True))
    change = (0.7 * begin).repeat(SHAPE_INPUTS, 1).requires_grad_(True)
    optimizer = torch.optim.Adam([change], 0.02)
    for step in range(settings.steps):
        if step > 0.6 * settings.steps:
            optimizer.param_groups[0]["lr"] = 0.008
        chosen = torch.randint(len(pool), (settings.batch,), generator=random).to(pool.device)
        now, vector = see(style_inputs(pool[chosen], change[None]))
        off = (weights * (now - scores[chosen] - target).square()).sum(1).mean()
        away = (vector - vectors[chosen]).square().sum(1).mean()
        loss = off + (IDENTITY_TURNED if turned else IDENTITY) * away + EFFORT * change.square().sum() / SHAPE_INPUTS
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return change.detach()


if __name__ == "__main__":
    main()
