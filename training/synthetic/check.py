"""Holds the generator against the real MediaPipe: found faces by yaw, and how its pose and scores follow ours.

    python -m training.synthetic.generate --assets ASSETS --out FACES --first 200 --people 60 --images-per-person 6
    python -m training.synthetic.check FACES
    python -m training.synthetic.check --assets ASSETS --people 40

The first form reads pictures that generate.py made; the second also renders each person at fixed yaws, and neutral beside
single actions, and prints MediaPipe's mean scores for both.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from facecrafter_core.faces.blendshapes import ACTIONS, BLENDSHAPES
from facecrafter_core.terminal import escape_unprintable
from training.ranges import COUNT

from .expressions import action_vector

YAW_BINS = (0, 15, 30, 45, 51)
# MediaPipe's score -> the action that should move it
FOLLOWED = ("mouthSmileLeft", "mouthSmileRight", "jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookInLeft", "eyeLookDownLeft",
            "browDownLeft", "browInnerUp", "browOuterUpLeft", "mouthPucker", "mouthFrownLeft", "mouthFunnel")  # fmt: skip
FIXED_YAWS = (-60, -45, -30, -15, 0, 15, 30, 45, 60)


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path, nargs="?", help="folder that generate.py wrote")
    parser.add_argument("--assets", type=Path, help="assets folder, to render fixed poses and actions")
    parser.add_argument("--people", type=COUNT.of(int), default=40)
    args = parser.parse_args()
    if not args.faces and not args.assets:
        parser.error("give a folder of faces, --assets, or both")
    if args.faces:
        check_folder(args.faces)
    if args.assets:
        check_fixed(args.assets, args.people)


def check_folder(folder: Path) -> None:
    """Prints found shares by yaw, and correlations of pose and of scores with our labels."""
    columns = json.loads((folder / "columns.json").read_text())
    names = sorted(p.name.removeprefix("labels_") for p in folder.glob("labels_*.npy"))
    labels, scores = (
        np.concatenate([np.load(folder / f"{kind}_{n}") for n in names]) for kind in ("labels", "blendshapes")
    )
    label = {name: labels[:, i] for i, name in enumerate(columns)}
    found = np.isfinite(scores[:, 0])
    yaw = np.abs(label["yaw"])
    print(
        f"{len(labels)} pictures, found in {found.mean():.1%}; within 45 degrees of yaw {found[yaw <= 45].mean():.1%}"
    )
    for low, high in zip(YAW_BINS, YAW_BINS[1:], strict=False):
        inside = (yaw >= low) & (yaw < high)
        print(f"  |yaw| {low:2d} to {high:2d}: {found[inside].sum()} of {inside.sum()}")
    print("correlation of MediaPipe's scores with our actions, and mean score where ours is under 0.1 and over 0.6:")
    for name in FOLLOWED:
        ours, theirs = label["action_" + name][found], scores[found, BLENDSHAPES.index(name)]
        low, high = theirs[ours < 0.1], theirs[ours > 0.6]
        print(
            f"  {name:18s} r = {np.corrcoef(ours, theirs)[0, 1]:+.2f}   {low.mean():.2f} -> {high.mean() if len(high) else np.nan:.2f}"
        )


def check_fixed(assets: Path, people: int) -> None:
    """Renders neutral faces at fixed yaws and frontal single actions, and prints what MediaPipe says."""
    from facecrafter_core.faces.landmarker import FaceLandmarker

    from .assets import Assets
    from .generate import draw_picture
    from .people import sample_person
    from .render import Renderer
    from .scene import posed

    renderer, landmarker = Renderer(Assets(assets)), FaceLandmarker()
    neutral = np.zeros(len(ACTIONS), np.float32)
    found = dict.fromkeys(FIXED_YAWS, 0)
    poses, rest, moved = [], [], {name: [] for name in FOLLOWED}
    for number in range(200, 200 + people):
        prepared = renderer.prepare(sample_person(number, renderer.assets.catalogue))
        _, scene = draw_picture(number, 0, 0)
        for yaw in FIXED_YAWS:
            turned = replace(posed(scene, yaw), pitch=scene.pitch * 0.7, roll=scene.roll)
            face = landmarker.largest(renderer.render(prepared, neutral, turned))
            if face is None:
                continue
            found[yaw] += 1
            poses.append([(turned.yaw, turned.pitch, turned.roll), face.pose])
            if yaw == 0:
                rest.append(face.blendshapes)
        name = FOLLOWED[number % len(FOLLOWED)]
        face = landmarker.largest(renderer.render(prepared, action_vector({name: 1.0}), posed(scene, 0.0)))
        moved[name] += [face.blendshapes[BLENDSHAPES.index(name)]] if face else []
    print(f"{people} neutral people at fixed yaws, found by MediaPipe:")
    print("  " + "  ".join(f"{yaw:+d}: {n}/{people}" for yaw, n in found.items()))
    ours, theirs = np.moveaxis(np.array(poses, float), 1, 0)
    near = np.abs(ours[:, 0]) <= 45
    for k, angle in enumerate(("yaw", "pitch", "roll")):
        r = np.corrcoef(ours[near, k], theirs[near, k])[0, 1]
        error = np.abs(ours[near, k] - theirs[near, k])
        print(
            f"  {angle:5s} (to 45 degrees) r = {r:.3f}, mean error {error.mean():.1f}, offset {(theirs - ours)[near, k].mean():+.1f} degrees"
        )
    print("MediaPipe's score, neutral -> this action at 1:")
    for name in FOLLOWED:
        before = np.mean([scores[BLENDSHAPES.index(name)] for scores in rest])
        print(f"  {name:18s} {before:.2f} -> {np.mean(moved[name]) if moved[name] else np.nan:.2f}")


if __name__ == "__main__":
    main()
