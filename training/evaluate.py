"""The paper's tables as commands (Sec. 4.2): generates, measures, and writes one folder.

    python -m training.evaluate control  --source faces --models demo --out runs/control
    python -m training.evaluate identity --source faces --models demo --out runs/identity
    python -m training.evaluate control  --source faces --models demo --out runs/stages \
        --method pretrained=lmk/adapter.safetensors,emo/adapter.safetensors --method joint=joint/adapter.safetensors
    python -m training.evaluate control  --source CelebA --out runs/celeba --models BASE --pictures other=FOLDER

`control` is Table 1: identity photos x target photos, generated with the identity only, with landmarks, with the emotion, with both.
`identity` is Table 2: several pictures of each identity without control. Both take any source of training/prepare.py. Other methods are rows by --pictures,
--controlnet and --faceid; --real gives FID its photos, --flame the parameters of EMOCA v2 or SMIRK (docs/results.md says what each metric needs).

OUT holds results.parquet (a row a picture, every metric of single pictures), summary.json, table.md, scatter and contact sheets, and the plan that another method can
answer (training/benchmark.py; --pictures NAME=FOLDER scores its pictures). A run that was stopped goes on, and is refused where its settings or files
are others than those of the pictures that are there; `torchrun` shares the work, with the same numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from facecrafter_core.diffusion.families import FAMILIES
from facecrafter_core.diffusion.guidance import APPROXIMATIONS, Guidance
from facecrafter_core.errors import FaceCrafterError, MetricError, OutputError
from facecrafter_core.files import write_picture
from facecrafter_core.metrics.estimators import estimators_of, load_or_missing
from facecrafter_core.metrics.flame import read_flame
from facecrafter_core.metrics.perceptual import Perceptual
from facecrafter_core.metrics.reading import Estimator, Missing
from facecrafter_core.search import add_search_folder
from facecrafter_core.terminal import escape_unprintable
from training.baselines import ControlNetMethod, FaceIDMethod
from training.benchmark import Plan, Wanted, digest, load_plan, make_plan, save_plan
from training.finder import Finder
from training.loop import World
from training.methods import Conditions, FaceCrafterMethod, Folder, Method, Switches, count_parameters, load_pipe
from training.origin import digest_of_pipe, keep_origin
from training.prepare import list_items
from training.progress import progress
from training.ranges import ALPHA, COUNT, STEPS, WEIGHT, Range
from training.readings import asked_for, gather, load_picture, lpips_of, measure, real_features
from training.results import write_results
from training.sources import READERS

PLAN_SEED = Range(0, 2**32 - 1)
"""The pictures' seeds are counted on from it."""
CHUNK = 50
"""Requests that are generated together; fixed, so that the pictures do not depend on the number of processes."""

CONDITIONS = {"identity only": (False, False), "+ landmarks": (True, False), "+ emotion": (False, True), "+ both": (True, True)}


def chunks(count: int, world: World) -> Iterator[tuple[int, range]]:
    """This process's share: (number, requests)."""
    for number, start in enumerate(range(0, count, CHUNK)):
        if number % world.size == world.rank:
            yield number, range(start, min(start + CHUNK, count))


def run_row(method: Method, plan: Plan, out: Path, estimators: list[Estimator], find: Finder, world: World) -> None:
    """Generates and measures this process's chunks of one row; what is there already is not made again.

    Raises:
        MetricError: what is there was made with other settings or files.
    """
    keep_origin(out / "measures" / method.name, method.origin, estimators)
    mine = list(chunks(len(plan), world))
    with progress(sum(len(r) for _, r in mine), method.name, shown=world.rank == 0) as done:
        for number, requests in mine:
            part = out / "measures" / method.name / f"{number:05d}.npz"
            files = [out / "pictures" / method.name / f"{plan.keys[i]}.png" for i in requests]
            if not part.is_file():
                for file, picture in zip(files, method.generate(requests), strict=True):
                    write_picture(file, picture)
            measure(part, estimators, lambda files=files: [load_picture(f) for f in files], find)
            done(len(requests))


def add_flame(files: Sequence[tuple[str, Path]], plan: Plan, readings: dict[str, dict[str, np.ndarray]], asked: dict[str, dict[str, np.ndarray]]) -> list[Missing]:
    """Puts the FLAME parameters of --flame beside what was read of the rows and of the targets; what was not given.

    Raises:
        MetricError: no such row, or the files do not fit (see read_flame).
    """
    of = ["targets", *readings] if plan.targets else list(readings)
    for name, file in files:
        if name not in of:
            raise MetricError(f"Expected --flame for one of {'; '.join(of)}, found {name}.")
        if name == "targets":
            asked["target"] |= read_flame(file, [f"{i:03d}" for i in range(len(plan.targets))])
        else:
            readings[name] |= read_flame(file, plan.keys)
    if not files:
        return []
    if plan.targets and "flame_pose" not in asked["target"]:
        raise MetricError("Expected --flame targets=FILE with the parameters of the plan's targets beside those of rows, found none.")
    return [Missing("EMOCA v2 or SMIRK", ("FLAME",), "not given: --flame")] if any("flame_pose" not in r for r in readings.values()) else []


def real_photos(args: argparse.Namespace, estimators: Sequence[Estimator], find: Finder) -> np.ndarray | None:
    """Features of --real, where it is given and Inception is there."""
    inception = [e for e in estimators if "inception" in e.reads]
    if not args.real or not inception:
        return None
    return real_features(list_items(args.real, "auto"), inception[0], args.real_count, FAMILIES[args.family].image_size, args.seed, find, args.out)


def plan_in(args: argparse.Namespace, find: Finder) -> None:
    """Makes the plan in OUT, or compares the one that is there: a folder holds one run.

    Raises:
        MetricError: a plan of other settings or photos is there, or none can be made. SourceError: the photos cannot be used. OutputError: OUT is no folder.
    """
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Results cannot be written to {args.out} ({error.strerror}). Choose another --out.") from error
    items = [i for i in list_items(args.source, args.kind) if args.split == "all" or i.split in ("", args.split)]
    if not items:
        raise MetricError(f"Expected photos of the {args.split} split, found none. Choose another --split.")
    own = {"targets": args.targets, "count": args.count} if args.benchmark == "control" else {"each": args.each}
    wanted = Wanted(args.benchmark, digest(items), args.split, FAMILIES[args.family].image_size, args.seed, args.identities, **own)
    there = load_plan(args.out)
    if there is None:
        made = make_plan(items, wanted, find)
        save_plan(made, args.out)
        print("\n".join(made.notes), flush=True)
    elif different := [name for name, value in vars(wanted).items() if getattr(there.wanted, name) != value]:
        raise MetricError(f"{args.out} holds a run with other settings ({', '.join(different)}). Use another --out, or remove it.")


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE -> both; the name is that of a row, and of its folder."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, found {text!r}")
    if name in (".", "..") or set(name) & set("/\\"):
        raise argparse.ArgumentTypeError(f"expected a name that can be a folder's, without / and \\, found {name!r}")
    return name, value


def one_path(text: str) -> tuple[str, Path]:
    """NAME=PATH -> its parts."""
    name, path = pair(text)
    return name, Path(path)


def paths(text: str) -> tuple[str, list[Path]]:
    """NAME=PATH[,PATH] -> its parts."""
    name, files = pair(text)
    return name, [Path(f) for f in files.split(",")]


def rows_of(args: argparse.Namespace, plan: Plan, find: Finder, device: torch.device) -> Iterator[Method]:
    """All rows of the table, one after the other, so that one model is loaded at a time.

    Raises:
        MetricError: a method has none of the conditions that are wanted.
    """
    parameters = dict(args.parameters)
    for name, folder in args.pictures:
        yield Folder(name, folder, plan, count_parameters(parameters[name]) if name in parameters else -1)
    for name, folder in args.faceid:
        yield FaceIDMethod(name, folder, plan, args.steps, device)
    methods = args.method or ([] if args.pictures or args.faceid or args.controlnet else [("bundled", [])])
    conditions = Conditions(plan, args.family, args.models, find)
    if args.controlnet:
        pipe = load_pipe(args.models, [], args.family, device)
        yield ControlNetMethod("ControlNet", pipe, args.controlnet, args.hints, plan, conditions, args.weights[0], args.steps)
    wanted = ["identity only"] if args.benchmark == "identity" else args.conditions
    for name, adapters in methods:
        pipe = load_pipe(args.models, adapters, args.family, device)
        has = {part: getattr(pipe.adapter, part, None) is not None for part in ("landmark", "emotion")}  # a base without an adapter has neither
        can = {label: on for label, on in CONDITIONS.items() if label in wanted and has["landmark"] >= on[0] and has["emotion"] >= on[1]}
        if not can:
            raise MetricError(f"Expected an adapter for {' or '.join(wanted)} in {name}, found none. Give its files with --method, or --conditions 'identity only'.")
        weights = digest_of_pipe(pipe)
        for label, (landmarks, emotion) in can.items():
            for point, switches in grid(args, landmarks, emotion):
                yield FaceCrafterMethod(f"{name}, {label}{point}", pipe, weights, switches, plan, conditions, args.steps)


def grid(args: argparse.Namespace, landmarks: bool, emotion: bool) -> Iterator[tuple[str, Switches]]:
    """One point, the weights of Eq. 6 as given, and with --approximate its approximations; with --grid, a point for each pair of values of the
    conditions that are in use."""
    if not args.grid or not (landmarks or emotion):
        for name, changes in {"": {}, **(APPROXIMATIONS if args.approximate and landmarks and emotion else {})}.items():
            yield f", {name}" if name else "", Switches(landmarks, emotion, dataclasses.replace(Guidance(*args.weights), **changes))
        return
    for values in itertools.product(args.grid if landmarks else [None], args.grid if emotion else [None]):
        shown = " ".join("-" if value is None else f"{value:g}" for value in values)
        if args.grid_over == "alpha":
            yield f", alpha {shown}", Switches(landmarks, emotion, Guidance(*args.weights), *(1.0 if value is None else value for value in values))
        else:
            given = (weight if value is None else value for weight, value in zip(args.weights[1:], values, strict=True))
            yield f", w {shown}", Switches(landmarks, emotion, Guidance(args.weights[0], *given))


def evaluate(args: argparse.Namespace) -> None:
    """
    Raises:
        FaceCrafterError, SourceError: photos, models or pictures cannot be used.
    """
    world = World()
    find = Finder(args.processes)
    if world.rank == 0:
        plan_in(args, find)
    world.wait()
    plan = load_plan(args.out)
    if args.plan_only:
        print(f"{len(plan)} requests in {args.out / 'requests.csv'}")
        find.close()
        world.close()
        return
    if args.family == "full":
        add_search_folder(args.models)
    estimators, missing = estimators_of(args.family, args.models, str(world.device))
    lpips = load_or_missing("alexnet", "AlexNet", ("LPIPS",), Perceptual, str(world.device)) if args.benchmark == "identity" else None
    missing += [lpips] if isinstance(lpips, Missing) else []
    asked = asked_for(plan, estimators, find, args.out) if world.rank == 0 else None
    table = []
    for method in rows_of(args, plan, find, world.device):
        run_row(method, plan, args.out, estimators, find, world)
        table.append((method.name, method.parameters, method.conditioned))
    world.wait()
    if world.rank == 0:
        readings = {name: gather(args.out / "measures" / name, len(plan)) for name, _, _ in table}
        measured = {what: e.name for e in estimators for what in e.reads}
        if isinstance(lpips, Perceptual):
            measured["LPIPS"] = lpips.name
            for name, reading in readings.items():
                reading["lpips"] = lpips_of(lpips, plan, args.out / "pictures" / name)
        measured |= {"FLAME": "EMOCA v2 or SMIRK, the files of --flame"} if args.flame else {}
        missing += add_flame(args.flame, plan, readings, asked)
        real = real_photos(args, estimators, find)
        settings = {**plan.settings, "steps": args.steps, "weights": list(args.weights)}
        settings |= {"real": ", ".join(Path(r).name for r in args.real)} if real is not None else {}
        write_results(args.out, plan, table, readings, asked, measured, missing, settings, real)
        print((args.out / "table.md").read_text(encoding="utf-8"))
    find.close()
    world.close()


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=("control", "identity"))
    parser.add_argument("--source", action="append", required=True, help="photos, as training/prepare.py reads them; may be given several times")
    parser.add_argument("--kind", choices=("auto", *READERS), default="auto")
    parser.add_argument("--split", choices=("test", "validation", "all"), default="test", help="of sources that have splits")
    parser.add_argument("--family", choices=tuple(FAMILIES), default="demo")
    parser.add_argument("--models", type=Path, default=Path("demo"), help="base model")
    parser.add_argument("--method", type=paths, action="append", default=[], metavar="NAME=FILE[,FILE]", help="adapter files that make a method; default: the base's own")
    parser.add_argument("--pictures", type=one_path, action="append", default=[], metavar="NAME=FOLDER", help="another method's pictures, KEY.png")
    parser.add_argument("--parameters", type=paths, action="append", default=[], metavar="NAME=FILE[,FILE]", help="weights that NAME of --pictures adds to its base, to be counted")
    parser.add_argument("--faceid", type=one_path, action="append", default=[], metavar="NAME=FOLDER",
                        help="an IP-Adapter-FaceID as a row: FOLDER holds base, ip-adapter-faceid*.bin, w600k_r50.onnx and, for Plus, image_encoder")  # fmt: skip
    parser.add_argument("--controlnet", type=Path, help="control: a ControlNet for the base, such as Arc2Face's, as a row; needs --hints")
    parser.add_argument("--hints", type=Path, help="what the ControlNet sees: NNN.png for each picture of OUT/targets")
    parser.add_argument("--real", action="append", default=[], help="real photos for FID, such as FFHQ; default: the plan's own photos")
    parser.add_argument("--real-count", type=COUNT.of(int), default=2000, help="how many of them, by --seed")
    parser.add_argument("--flame", type=one_path, action="append", default=[], metavar="ROW=FILE",
                        help="FLAME parameters of a row's pictures, and of the targets (targets=FILE): folder, .npz or .csv; see facecrafter_core/metrics/flame.py")  # fmt: skip
    parser.add_argument("--conditions", nargs="+", choices=tuple(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--identities", type=COUNT.of(int), default=100)
    parser.add_argument("--targets", type=COUNT.of(int), default=100, help="control: target photos")
    parser.add_argument("--count", type=COUNT.of(int), default=2000, help="control: pairs")
    parser.add_argument("--each", type=COUNT.of(int), default=5, help="identity: pictures of each identity")
    parser.add_argument("--steps", type=STEPS.of(int), default=25)
    parser.add_argument("--weights", type=WEIGHT.of(float), nargs=3, default=(2.5, 2.0, 2.0), help="w_ID w_LMK w_EMO")
    parser.add_argument("--grid", type=WEIGHT.of(float), nargs="+", help="values of the landmark and emotion weights, each with each, of the conditions in use")
    parser.add_argument("--grid-over", choices=("weight", "alpha"), default="weight")
    parser.add_argument("--approximate", action="store_true", help="control: + both under each of the approximations of Eq. 6 too")
    parser.add_argument("--seed", type=PLAN_SEED.of(int), default=0)
    parser.add_argument("--processes", type=COUNT.of(int), default=max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))), help="that find faces")
    parser.add_argument("--plan-only", action="store_true", help="write the plan that other methods answer, and stop")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.grid_over == "alpha" and any(value not in ALPHA for value in args.grid or ()):
        parser.error(f"argument --grid: expected alphas {ALPHA}")
    rows = [name for name, _ in (*args.pictures, *args.faceid, *args.method)] + ["ControlNet"] * (args.controlnet is not None)
    for option, names in (("row", rows), ("--flame", [name for name, _ in args.flame]), ("--parameters", [name for name, _ in args.parameters])):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            parser.error(f"expected another name for each {option}, found {', '.join(twice)} more than once")
    if unknown := {name for name, _ in args.parameters} - {name for name, _ in args.pictures}:
        parser.error(f"expected --parameters for names of --pictures, found {', '.join(sorted(unknown))}")
    if args.controlnet and (args.hints is None or args.benchmark != "control"):
        parser.error("--controlnet is a row of control and needs --hints")
    try:
        evaluate(args)
    except FaceCrafterError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
