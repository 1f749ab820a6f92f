"""The paper's tables as commands (Sec. 4.2): generates, measures, and writes one folder.

    python -m training.evaluate control  --source faces --models demo --out runs/control
    python -m training.evaluate identity --source faces --models demo --out runs/identity
    python -m training.evaluate control  --source faces --models demo --out runs/stages \
        --method pretrained=lmk/adapter.safetensors,emo/adapter.safetensors --method joint=joint/adapter.safetensors
    python -m training.evaluate control  --source CelebA --out runs/celeba --models BASE --pictures other=FOLDER

`control` is Table 1: identity photos x target photos, generated with the identity only, with landmarks, with the emotion, with both.
`identity` is Table 2: several pictures of each identity without control. Both take any source of training/prepare.py. Other methods are rows by --pictures,
--controlnet and --faceid; --real gives FID its photos, --flame the parameters of EMOCA v2 or SMIRK (docs/results.md says what each metric needs).

OUT holds results.parquet (a row a picture, every metric), summary.json, table.md, scatter and contact sheets, and the plan that another method can
answer (training/benchmark.py; --pictures NAME=FOLDER scores its pictures). A run that was stopped goes on; `torchrun` shares the work, with the
same numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facecrafter_core.diffusion.families import FAMILIES
from facecrafter_core.diffusion.guidance import APPROXIMATIONS, Guidance
from facecrafter_core.errors import FaceCrafterError, MetricError
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.metrics.estimators import estimators_of, load_or_missing
from facecrafter_core.metrics.flame import read_flame
from facecrafter_core.metrics.perceptual import Perceptual
from facecrafter_core.metrics.reading import Estimator, Missing
from facecrafter_core.search import add_search_folder
from training.baselines import ControlNetMethod, FaceIDMethod
from training.benchmark import Plan, load_plan, make_plan, save_plan
from training.loop import World
from training.methods import Conditions, FaceCrafterMethod, Folder, Method, Switches, load_pipe
from training.prepare import list_items
from training.readings import Finder, asked_for, gather, load_picture, measure, real_features
from training.results import write_results
from training.sources import READERS

CHUNK = 50
"""Requests that are generated together; fixed, so that the pictures do not depend on the number of processes."""

CONDITIONS = {"identity only": (False, False), "+ landmarks": (True, False), "+ emotion": (False, True), "+ both": (True, True)}


def chunks(count: int, world: World) -> Iterator[tuple[int, range]]:
    """This process's share: (number, requests)."""
    for number, start in enumerate(range(0, count, CHUNK)):
        if number % world.size == world.rank:
            yield number, range(start, min(start + CHUNK, count))


def run_row(method: Method, plan: Plan, out: Path, estimators: list[Estimator], find: Finder, world: World) -> None:
    """Generates and measures this process's chunks of one row; what is there already is not made again."""
    from tqdm import tqdm

    mine = list(chunks(len(plan), world))
    with tqdm(total=sum(len(r) for _, r in mine), unit="img", desc=method.name, disable=None if world.rank == 0 else True) as bar:
        for number, requests in mine:
            part = out / "measures" / method.name / f"{number:05d}.npz"
            files = [out / "pictures" / method.name / f"{plan.keys[i]}.png" for i in requests]
            if not part.is_file():
                files[0].parent.mkdir(parents=True, exist_ok=True)
                for file, picture in zip(files, method.generate(requests), strict=True):
                    Image.fromarray(picture).save(file)
            measure(part, estimators, lambda files=files: [load_picture(f) for f in files], find)
            bar.update(len(requests))


def add_flame(files: Sequence[tuple[str, list[Path]]], plan: Plan, readings: dict[str, dict[str, np.ndarray]], asked: dict[str, dict[str, np.ndarray]]) -> list[Missing]:
    """Puts the FLAME parameters of --flame beside what was read of the rows and of the targets; what was not given.

    Raises:
        MetricError: no such row, or the files do not fit (see read_flame).
    """
    for name, [file] in files:
        if name != "targets" and name not in readings:
            raise MetricError(f"Expected --flame for targets or a row out of {'; '.join(readings)}, found {name}.")
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


def same_settings(plan: Plan, args: argparse.Namespace) -> None:
    """A folder holds one run."""
    wanted = {"seed": args.seed, "size": FAMILIES[args.family].image_size}
    if different := [name for name, value in wanted.items() if plan.settings[name] != value]:
        raise MetricError(f"{args.out} holds a run with other settings ({', '.join(different)}). Use another --out, or remove it.")


def named(text: str) -> tuple[str, list[Path]]:
    """NAME=FILE[,FILE] -> its parts."""
    name, equals, files = text.partition("=")
    if not equals or not name or not files:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE[,FILE], found {text!r}")
    return name, [Path(f) for f in files.split(",")]


def rows_of(args: argparse.Namespace, plan: Plan, landmarker: FaceLandmarker, device: torch.device) -> Iterator[Method]:
    """All rows of the table, one after the other, so that one model is loaded at a time."""
    for name, [folder] in args.pictures:
        yield Folder(name, folder, plan)
    for name, [folder] in args.faceid:
        yield FaceIDMethod(name, folder, plan, args.steps, device)
    methods = args.method or ([] if args.pictures or args.faceid or args.controlnet else [("bundled", [])])
    conditions = Conditions(plan, args.family, args.models, landmarker)
    if args.controlnet:
        pipe = load_pipe(args.models, [], device)
        yield ControlNetMethod("ControlNet", pipe, args.controlnet, args.hints, plan, conditions, args.weights[0], args.steps)
    for name, adapters in methods:
        pipe = load_pipe(args.models, adapters, device)
        has = {part: getattr(pipe.adapter, part, None) is not None for part in ("landmark", "emotion")}  # a base without an adapter has neither
        for label, (landmarks, emotion) in CONDITIONS.items():
            wanted = label == "identity only" if args.benchmark == "identity" else label in args.conditions
            if not wanted or (landmarks and not has["landmark"]) or (emotion and not has["emotion"]):
                continue
            for point, switches in grid(args, landmarks, emotion):
                yield FaceCrafterMethod(f"{name}, {label}{point}", pipe, switches, plan, conditions, args.steps)


def grid(args: argparse.Namespace, landmarks: bool, emotion: bool) -> Iterator[tuple[str, Switches]]:
    """One point, the weights of Eq. 6 as given, and with --approximate its approximations; with --grid, a point for each pair of landmark and emotion values."""
    if not args.grid:
        for name, changes in {"": {}, **(APPROXIMATIONS if args.approximate and landmarks and emotion else {})}.items():
            yield f", {name}" if name else "", Switches(landmarks, emotion, dataclasses.replace(Guidance(*args.weights), **changes))
        return
    for a, b in itertools.product(args.grid, repeat=2):
        if args.grid_over == "alpha":
            yield f", alpha {a:g} {b:g}", Switches(landmarks, emotion, Guidance(*args.weights), a, b)
        else:
            yield f", w {a:g} {b:g}", Switches(landmarks, emotion, Guidance(args.weights[0], a, b))


def evaluate(args: argparse.Namespace) -> None:
    """
    Raises:
        FaceCrafterError, SourceError: photos, models or pictures cannot be used.
    """
    world = World()
    os.makedirs(args.out, exist_ok=True)
    find = Finder(args.processes)
    plan = load_plan(args.out)
    if plan is None:
        if world.rank == 0:
            items = [i for i in list_items(args.source, args.kind) if args.split == "all" or i.split in ("", args.split)]
            if not items:
                raise MetricError(f"Expected photos of the {args.split} split, found none. Choose another --split.")
            targets = args.targets if args.benchmark == "control" else 0
            pictures = args.count if args.benchmark == "control" else args.identities * args.each
            made = make_plan(items, FAMILIES[args.family].image_size, args.identities, targets, pictures, args.seed, find.landmarker)
            save_plan(made, args.out)
        world.wait()
        plan = load_plan(args.out)
    same_settings(plan, args)
    if args.family == "full":
        add_search_folder(args.models)
    estimators, missing = estimators_of(args.family, args.models, str(world.device))
    lpips = load_or_missing("alexnet", "AlexNet", ("LPIPS",), Perceptual, str(world.device)) if args.benchmark == "identity" else None
    missing += [lpips] if isinstance(lpips, Missing) else []
    if args.plan_only:
        find.close()
        print(f"{len(plan)} requests in {args.out / 'requests.csv'}")
        return
    asked = asked_for(plan, estimators, find, args.out) if world.rank == 0 else None
    table = []
    for method in rows_of(args, plan, find.landmarker, world.device):
        run_row(method, plan, args.out, estimators, find, world)
        table.append((method.name, method.parameters, method.conditioned))
    world.wait()
    if world.rank == 0:
        readings = {name: gather(args.out / "measures" / name, len(plan)) for name, _, _ in table}
        if isinstance(lpips, Perceptual):
            for name, reading in readings.items():
                reading["lpips"] = lpips.among([load_picture(args.out / "pictures" / name / f"{key}.png") for key in plan.keys], plan.identity)
        missing += add_flame(args.flame, plan, readings, asked)
        real = real_photos(args, estimators, find)
        settings = {"benchmark": args.benchmark, "split": args.split, "steps": args.steps, "weights": list(args.weights), **plan.settings}
        settings |= {"real": ", ".join(Path(r).name for r in args.real)} if real is not None else {}
        write_results(args.out, plan, table, readings, asked, estimators, missing, settings, real)
        print((args.out / "table.md").read_text())
    find.close()
    world.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=("control", "identity"))
    parser.add_argument("--source", action="append", required=True, help="photos, as training/prepare.py reads them; may be given several times")
    parser.add_argument("--kind", choices=("auto", *READERS), default="auto")
    parser.add_argument("--split", choices=("test", "validation", "all"), default="test", help="of sources that have splits")
    parser.add_argument("--family", choices=tuple(FAMILIES), default="demo")
    parser.add_argument("--models", type=Path, default=Path("demo"), help="base model")
    parser.add_argument("--method", type=named, action="append", default=[], metavar="NAME=FILE[,FILE]", help="adapter files that make a method; default: the base's own")
    parser.add_argument("--pictures", type=named, action="append", default=[], metavar="NAME=FOLDER", help="another method's pictures, KEY.png")
    parser.add_argument("--faceid", type=named, action="append", default=[], metavar="NAME=FOLDER",
                        help="an IP-Adapter-FaceID as a row: FOLDER holds base, ip-adapter-faceid*.bin, w600k_r50.onnx and, for Plus, image_encoder")  # fmt: skip
    parser.add_argument("--controlnet", type=Path, help="control: a ControlNet for the base, such as Arc2Face's, as a row; needs --hints")
    parser.add_argument("--hints", type=Path, help="what the ControlNet sees: NNN.png for each picture of OUT/targets")
    parser.add_argument("--real", action="append", default=[], help="real photos for FID, such as FFHQ; default: the plan's own photos")
    parser.add_argument("--real-count", type=int, default=2000, help="how many of them, by --seed")
    parser.add_argument("--flame", type=named, action="append", default=[], metavar="ROW=FILE",
                        help="FLAME parameters of a row's pictures, and of the targets (targets=FILE): folder, .npz or .csv; see facecrafter_core/metrics/flame.py")  # fmt: skip
    parser.add_argument("--conditions", nargs="+", choices=tuple(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--identities", type=int, default=100)
    parser.add_argument("--targets", type=int, default=100, help="control: target photos")
    parser.add_argument("--count", type=int, default=2000, help="control: pairs")
    parser.add_argument("--each", type=int, default=5, help="identity: pictures of each identity")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--weights", type=float, nargs=3, default=(2.5, 2.0, 2.0), help="w_ID w_LMK w_EMO")
    parser.add_argument("--grid", type=float, nargs="+", help="values of the landmark and emotion weights, each with each")
    parser.add_argument("--grid-over", choices=("weight", "alpha"), default="weight")
    parser.add_argument("--approximate", action="store_true", help="control: + both under each of the approximations of Eq. 6 too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))), help="that find faces")
    parser.add_argument("--plan-only", action="store_true", help="write the plan that other methods answer, and stop")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if min(args.identities, args.targets, args.count, args.each, args.steps, args.processes, args.real_count) < 1:
        parser.error("numbers must be at least 1")
    if args.controlnet and (args.hints is None or args.benchmark != "control"):
        parser.error("--controlnet is a row of control and needs --hints")
    try:
        evaluate(args)
    except FaceCrafterError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
