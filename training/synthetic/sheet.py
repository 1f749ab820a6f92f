"""A contact sheet of rendered people, for looking.

python -m training.synthetic.sheet --assets ASSETS --out sheet.png --first 1000 --people 8 --images-per-person 8
python -m training.synthetic.sheet --assets ASSETS --out actions.png --first 7 --actions
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from facecrafter_core.terminal import escape_unprintable
from training.ranges import COUNT, EVERY, SEED, Range

from .assets import Assets
from .expressions import ACTIONS, EMOTION_ACTIONS, action_vector
from .generate import draw_picture
from .people import sample_person
from .render import Renderer
from .scene import posed, sample_scene


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    parser.add_argument("--first", type=EVERY.of(int), default=1000, help="first identity number")
    parser.add_argument("--people", type=COUNT.of(int), default=48)
    parser.add_argument("--images-per-person", type=COUNT.of(int), default=1)
    parser.add_argument("--columns", type=COUNT.of(int), default=8)
    parser.add_argument("--size", type=Range(16).of(int), default=256)
    parser.add_argument("--seed", type=SEED.of(int), default=0)
    parser.add_argument("--neutral", action="store_true", help="frontal and without expression")
    parser.add_argument("--actions", action="store_true", help="one person with each facial action and emotion")
    args = parser.parse_args()
    renderer = Renderer(Assets(args.assets), args.size)
    pictures = _actions(renderer, args.first) if args.actions else _people(renderer, args)
    columns = args.images_per_person if args.images_per_person > 1 else args.columns
    pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % columns)
    rows = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    Image.fromarray(np.concatenate(rows, 0)).save(args.out)


def _people(renderer: Renderer, args: argparse.Namespace) -> list[np.ndarray]:
    pictures = []
    for number in range(args.first, args.first + args.people):
        prepared = renderer.prepare(sample_person(number, renderer.assets.catalogue, args.seed))
        for index in range(args.images_per_person):
            actions, scene = draw_picture(number, index, args.seed)
            if args.neutral:
                actions, scene = np.zeros(len(ACTIONS), np.float32), posed(scene, 0.0)
            pictures.append(renderer.render(prepared, actions, scene))
    return pictures


def _actions(renderer: Renderer, number: int) -> list[np.ndarray]:
    prepared = renderer.prepare(sample_person(number, renderer.assets.catalogue))
    scene = replace(posed(sample_scene(np.random.default_rng(4)), 0.0), noise=0.0, jpeg=0, blur=0.0)
    expressions = [action_vector(weights) for weights in EMOTION_ACTIONS.values()]
    expressions += [action_vector({name: 1.0}) for name in ACTIONS]
    return [renderer.render(prepared, actions, scene) for actions in expressions]


if __name__ == "__main__":
    main()
