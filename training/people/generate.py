"""Makes photographs of people who do not exist, several of each, with what was found in them.

    python -m training.people.generate --out FACES --people 7500 --images-per-person 8

OUT gets blocks of people, in the format of the rendered people (training/synthetic/generate.py); lo is the first identity number of a block:

    images_{lo:06d}.npy       uint8   [N, size, size, 3] RGB
    landmarks_{lo:06d}.npy    float32 [N, 478, 3] in 0..1 units of the picture
    blendshapes_{lo:06d}.npy  float32 [N, 52] MediaPipe's scores in its own order
    vectors_{lo:06d}.npy      float32 [N, 128] dlib's recogniser
    masks_{lo:06d}.npy        uint8   [N, size, size] 255 inside the face oval
    labels_{lo:06d}.npy       float32 [N, len(columns.json)]
    meta.json, columns.json

Dropped pictures are left out; why and how many is printed and kept in meta.json. A picture depends on (seed, identity number, index) alone. Identities
0-199 are held out, 200-399 are for choosing settings. The same command goes on where it was stopped: finished blocks are kept.

The pictures are for research and non-commercial use (see training/people/generator.py).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from facecrafter_core.errors import OutputError
from facecrafter_core.faces.emotion import EMOTIONS
from facecrafter_core.faces.mask import face_mask
from facecrafter_core.files import check_room, write_array, write_whole
from facecrafter_core.studio import check_device
from facecrafter_core.terminal import escape_unprintable
from training.finder import Finder
from training.loop import one_sentence
from training.ranges import COUNT, EVERY, Range

from .generator import SIDE
from .people import REASONS, Found, People

VERSION = 1
COLUMNS = ("person", "index", "yaw", "pitch", "roll", "valence", "arousal", *EMOTIONS, "age", "male")


@one_sentence()
def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=EVERY.of(int), default=0, help="first identity number")
    parser.add_argument("--people", type=COUNT.of(int), default=100)
    parser.add_argument("--images-per-person", type=COUNT.of(int), default=8)
    parser.add_argument("--size", type=Range(1, SIDE).of(int), default=SIDE, help=f"side of the pictures, at most {SIDE}")
    parser.add_argument("--processes", type=COUNT.of(int), default=os.cpu_count(), help="of MediaPipe")
    parser.add_argument("--people-per-file", type=COUNT.of(int), default=24)
    parser.add_argument("--batch", type=COUNT.of(int), default=32, help="pictures that the generator makes at a time")
    parser.add_argument("--seed", type=Range(0, 2**32 - 1).of(int), default=0)
    parser.add_argument("--device", help="cuda or cpu; the GPU, where there is one")
    args = parser.parse_args()
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    if device == "cpu":
        print("The generator runs on the CPU, which takes seconds for each picture. A GPU makes hundreds a second.")
    finder = Finder(args.processes)
    try:
        generate(People.on(device, finder, args.seed, args.batch), args.out, args.first, args.people, args.images_per_person, args.size, args.people_per_file)
    finally:
        finder.close()


def generate(source: People, out: Path, first: int, people: int, each: int, size: int = SIDE, people_per_file: int = 24) -> dict:
    """Makes identities first..first+people-1 where they are missing, and writes meta.json, which is returned.

    Raises:
        OutputError: OUT holds pictures of other settings, or the disk has no room.
    """
    settings = {"generator_version": VERSION, "seed": source.seed, "size": size, "images_per_person": each, "people_per_file": people_per_file}
    done = _known(out, settings)
    starts = [
        lo for lo in range(first, first + people, people_per_file)
        if done.get(str(lo), {}).get("people") != len(_numbers(lo, first, people, people_per_file))
    ]  # fmt: skip
    bytes_each = size * size * 4 + 4 * (478 * 3 + 52 + 128 + len(COLUMNS))
    check_room(out, bytes_each * each * people_per_file * len(starts), "the pictures")
    began, made = time.perf_counter(), 0
    missing = sum(each * len(_numbers(lo, first, people, people_per_file)) for lo in starts)
    with tqdm(total=people * each, initial=people * each - missing, unit="image") as bar:
        for lo in starts:
            numbers = _numbers(lo, first, people, people_per_file)
            kept, dropped = [], Counter()
            for block in source.blocks(numbers, each):
                kept.append(block)
                dropped += block.dropped
                rows = len(block.person) + sum(block.dropped.values())
                made += rows
                bar.update(rows)
            done[str(lo)] = {"images": _write(kept, out, lo, size), "people": len(numbers), "dropped": dict(dropped)}
            _write_meta(out, settings, done)
    meta = _write_meta(out, settings, done)
    if made:
        print(f"{made / (time.perf_counter() - began):.1f} pictures a second")
    print(_in_words(meta))
    return meta


def _numbers(lo: int, first: int, people: int, people_per_file: int) -> list[int]:
    return list(range(lo, min(lo + people_per_file, first + people)))


def _known(out: Path, settings: dict) -> dict:
    """Finished blocks of OUT by their first identity number."""
    if not (out / "meta.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        return {}
    try:
        meta = json.loads((out / "meta.json").read_text())
        found = {name: meta[name] for name in settings}
        blocks = meta["blocks"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{out / 'meta.json'} is damaged or of another generator ({type(error).__name__}: {error}). Use another --out.") from error
    if found != settings:
        raise OutputError(f"{out} holds people made with {found}, this command asks for {settings}. Use another --out.")
    return blocks


def _write(blocks: list[Found], out: Path, lo: int, size: int) -> int:
    """Writes the arrays of one file's people; returns how many pictures they hold."""
    name = f"{lo:06d}.npy"
    landmarks = np.concatenate([b.landmarks for b in blocks])
    labels = [np.column_stack([b.person, b.index, b.pose, b.emotions.cpu().numpy(), b.age, b.male]) for b in blocks]
    masks = np.stack([np.round(face_mask(points, size) * 255).astype(np.uint8) for points in landmarks]) if len(landmarks) else np.zeros((0, size, size), np.uint8)
    arrays = {
        "images": np.concatenate([_reduced(b.pictures, size) for b in blocks]),
        "landmarks": landmarks,
        "blendshapes": np.concatenate([b.blendshapes for b in blocks]),
        "vectors": np.concatenate([b.vectors.float().cpu().numpy() for b in blocks]),
        "masks": masks,
        "labels": np.concatenate(labels).astype(np.float32),
    }
    for kind, array in arrays.items():
        write_array(out / f"{kind}_{name}", array)
    return len(landmarks)


def _reduced(pictures: Tensor, size: int) -> np.ndarray:
    """uint8 [N, 3, S, S] -> uint8 [N, size, size, 3]."""
    if size != pictures.shape[-1] and len(pictures):
        pictures = interpolate(pictures.float(), size=size, mode="area").round().byte()
    elif size != pictures.shape[-1]:
        pictures = pictures.new_zeros(0, 3, size, size)
    return pictures.permute(0, 2, 3, 1).cpu().numpy()


def _write_meta(out: Path, settings: dict, blocks: dict) -> dict:
    totals = Counter()
    for block in blocks.values():
        totals += Counter(block["dropped"])
    meta = settings | {"images": sum(b["images"] for b in blocks.values()), "people": sum(b["people"] for b in blocks.values()), "dropped": dict(totals), "blocks": blocks}
    write_whole(out / "columns.json", lambda file: file.write(json.dumps(COLUMNS).encode()))
    write_whole(out / "meta.json", lambda file: file.write(json.dumps(meta, indent=1).encode()))
    return meta


def _in_words(meta: dict) -> str:
    total = meta["images"] + sum(meta["dropped"].values())
    shares = ", ".join(f"{reason}: {meta['dropped'].get(reason, 0) / max(total, 1):.1%}" for reason in REASONS)
    return f"{meta['images']} pictures of {meta['people']} people kept out of {total}. Dropped: {shares}."


if __name__ == "__main__":
    main()
