"""Measures the optimised directions (directions.py): a table, and a sheet to look at.

    python -m training.people.measure_directions [--directions training/people/directions.npz] [--sheet runs/directions.jpg] [--people 40]

For each direction at strength 1 and people who took no part in the fit, the table tells in how many pictures a face was found, the distance to the
unedited person in the recogniser's measure (the mean, and the share under 0.45), and the changes of the scores that were asked for and found.
The people are not chosen by age: a sheet may show children, and is not for publication.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch

from facecrafter_core.errors import FaceCrafterError
from facecrafter_core.faces.dlib_resnet import DlibResNet
from facecrafter_core.files import check_place
from facecrafter_core.terminal import escape_unprintable
from training.finder import Finder
from training.loop import World, one_sentence, save_sheet
from training.people.directions import AIMS, FILE, SCORES, Directions
from training.people.generator import load_generator
from training.people.maker import LOOK_SIDE, Found, Maker, reduce
from training.ranges import COUNT

SPREAD, SEED = 0.8, 10
"""Of the people who are looked at (Maker.styles)."""


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directions", type=Path, default=FILE)
    parser.add_argument("--people", type=COUNT.of(int), default=40)
    add_options(parser)
    args = parser.parse_args()
    with one_sentence():
        check_device(args.device)
        if args.people < 1:
            raise FaceCrafterError(f"Expected --people of at least 1, found {args.people}.")
        if args.sheet:
            check_place(args.sheet)
        directions, generator, finder = Directions.load(args.directions), load_generator(args.generator), Finder(args.processes)
        try:
            rows = measure(Maker(*generator, DlibResNet.load(), finder, World(args.device).device), directions, args.people)
            if args.sheet:
                save_sheet(rows, args.sheet)
        finally:
            finder.close()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of commands that make people and look at them."""
    parser.add_argument("--sheet", type=Path, help="a JPEG: eight people, and each direction at strength 1 in a row below them")
    parser.add_argument("--generator", type=Path, help="folder of the generator's files, where they are in another place than fetch_generator's")
    parser.add_argument("--processes", type=COUNT.of(int), default=os.cpu_count(), help="that look for faces")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")


def check_device(device: str) -> None:
    """Says that it is slow where there is no GPU.

    Raises:
        FaceCrafterError: one is asked for and there is none.
    """
    if torch.cuda.is_available():
        return
    if device == "cuda":
        raise FaceCrafterError("There is no CUDA GPU for --device cuda. Leave the option out to work on the CPU.")
    print("There is no CUDA GPU: the pictures are made on the CPU, about one a second.")


def measure(maker: Maker, directions: Directions, people: int) -> list[list[np.ndarray]]:
    """Prints what each optimised direction does at strength 1 to people who took no part, and returns the rows of a sheet."""
    styles = maker.styles(people, SPREAD, SEED)

    def look(edit: np.ndarray | None) -> tuple[list[np.ndarray], Found]:
        seen = list(maker.survey(styles, None if edit is None else torch.from_numpy(edit)[None].to(maker.device)))
        shown = reduce(seen[0][0][:8], LOOK_SIDE)
        return list(shown.permute(0, 2, 3, 1).cpu().numpy()), Found.join([found for _, found in seen])

    row, before = look(None)
    rows = [row]
    print(f"{'direction':10s} {'found':>5s} {'distance':>8s} {'under .45':>9s}  asked and found")
    for name, edit in zip(directions.optnames, directions.opt, strict=True):
        row, after = look(edit)
        rows.append(row)
        both = before.kept & after.kept
        a, b = both[before.kept], both[after.kept]  # the rows of those who have a face in both
        distance = (after.identity[b] - before.identity[a]).norm(dim=1)
        moved = (after.scores[b] - before.scores[a]).mean(0)
        text = ", ".join(f"{score} {asked:+.2f} {moved[SCORES.index(score)]:+.2f}" for score, asked in AIMS[name].items())
        share = (distance < 0.45).float().mean()
        print(f"{name:10s} {after.kept.float().mean():5.2f} {distance.mean():8.2f} {share:9.2f}  {text}", flush=True)
    return rows


if __name__ == "__main__":
    main()
