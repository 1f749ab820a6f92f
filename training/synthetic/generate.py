"""Renders people: pictures, labels, and the landmarks that the real MediaPipe finds in them.

    python -m training.synthetic.generate --assets ASSETS --out FACES --people 7500 --images-per-person 8

OUT gets blocks of people as memory-mappable arrays (lo = first identity number of the block):

    images_{lo:06d}.npy       uint8   [N, size, size, 3] RGB
    landmarks_{lo:06d}.npy    float32 [N, 478, 3] in 0..1 units of the picture; NaN where no face was found
    blendshapes_{lo:06d}.npy  float32 [N, 52] MediaPipe's scores in its own order; NaN where no face was found
    labels_{lo:06d}.npy       float32 [N, len(columns.json)]
    masks_{lo:06d}.npy        uint8   [N, size, size] 255 inside the face oval; 0 where no face was found (with --masks)
    meta.json, columns.json

A picture depends on (seed, identity number, index) alone. Identities 0-199 are held out, 200-399 are for choosing settings.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecrafter_core.faces.mask import face_mask
from facecrafter_core.terminal import escape_unprintable
from training.ranges import COUNT, EVERY, SEED, Range

from .assets import Assets
from .expressions import ACTIONS, EMOTIONS, emotion_vector, sample_actions
from .people import sample_person
from .scene import Scene, sample_scene

VERSION = 1
COLUMNS = (
    "person", "index", "yaw", "pitch", "roll", *(f"action_{a}" for a in ACTIONS), "valence", "arousal", *EMOTIONS, "frame_scale",
    "frame_dx", "frame_dy",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What all workers are told."""

    assets: Path
    out: Path
    images_per_person: int
    size: int
    seed: int
    landmarks: bool
    masks: bool


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="assets folder made by pack.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=EVERY.of(int), default=0, help="first identity number")
    parser.add_argument("--people", type=COUNT.of(int), default=100)
    parser.add_argument("--images-per-person", type=COUNT.of(int), default=8)
    parser.add_argument("--size", type=Range(16).of(int), default=256)
    parser.add_argument("--processes", type=COUNT.of(int), default=os.cpu_count())
    parser.add_argument("--people-per-file", type=COUNT.of(int), default=50)
    parser.add_argument("--seed", type=SEED.of(int), default=0)
    parser.add_argument("--no-landmarks", action="store_true", help="do not run MediaPipe")
    parser.add_argument("--masks", action="store_true", help="write face masks too")
    args = parser.parse_args()
    if args.masks and args.no_landmarks:
        parser.error("--masks are drawn from landmarks: leave out --no-landmarks")
    task = Task(args.assets, args.out, args.images_per_person, args.size, args.seed, not args.no_landmarks, args.masks)
    generate(task, args.first, args.people, args.processes, args.people_per_file)


def generate(task: Task, first: int, people: int, processes: int, people_per_file: int = 50) -> dict:
    """Renders identities first..first+people-1 and writes meta.json, which is returned."""
    from tqdm import tqdm

    task.out.mkdir(parents=True, exist_ok=True)
    (task.out / "columns.json").write_text(json.dumps(COLUMNS))
    end = first + people
    blocks = [(lo, min(lo + people_per_file, end)) for lo in range(first, end, people_per_file)]
    context = multiprocessing.get_context("spawn")
    done, order = context.Value("i", 0), context.Value("i", 0)
    start = time.perf_counter()
    with context.Pool(min(processes, len(blocks)), _start_worker, (task, done, order)) as pool:
        result = pool.map_async(_render_block, blocks, chunksize=1)
        with tqdm(total=people * task.images_per_person, unit="image", smoothing=0.05) as bar:
            while not result.ready():
                result.wait(0.5)
                bar.update(done.value - bar.n)
        rows = result.get()
    seconds = time.perf_counter() - start
    images = sum(row["images"] for row in rows)
    meta = {
        "generator_version": VERSION, "seed": task.seed, "size": task.size, "first": first, "people": people,
        "images_per_person": task.images_per_person, "images": images, "seconds": round(seconds, 1),
        "images_per_second": round(images / seconds, 1), "renderer": rows[0]["renderer"],
    }  # fmt: skip
    if task.landmarks:
        meta["found_share"] = round(sum(row["found"] for row in rows) / images, 4)
    (task.out / "meta.json").write_text(json.dumps(meta, indent=1))
    print(json.dumps(meta))
    return meta


def draw_picture(number: int, index: int, seed: int) -> tuple[np.ndarray, Scene]:
    """Expression [52] and scene of a person's index-th picture."""
    rng = np.random.default_rng([seed, number, index, 100])
    return sample_actions(rng), sample_scene(rng)


def label_row(number: int, index: int, actions_52: np.ndarray, scene: Scene) -> np.ndarray:
    """One row of labels, in the order of COLUMNS."""
    pose, frame = (scene.yaw, scene.pitch, scene.roll), (scene.scale, scene.dx, scene.dy)
    return np.array([number, index, *pose, *actions_52, *emotion_vector(actions_52), *frame], np.float32)


_worker: dict = {}


def _start_worker(task: Task, done, order) -> None:
    """One core, one GL context and one landmarker a process; MediaPipe takes as many threads as it sees cores."""
    with order.get_lock():
        mine = order.value
        order.value += 1
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[mine % len(cores)]})
    os.environ.setdefault("LP_NUM_THREADS", "0")
    os.environ.setdefault("GLOG_minloglevel", "2")
    import cv2

    from .render import Renderer

    cv2.setNumThreads(1)
    renderer = Renderer(Assets(task.assets), task.size)
    landmarker = None
    if task.landmarks:
        from facecrafter_core.faces.landmarker import FaceLandmarker

        landmarker = FaceLandmarker()
    _worker.update(task=task, done=done, renderer=renderer, landmarker=landmarker)


def _render_block(block: tuple[int, int]) -> dict:
    task, renderer, landmarker, done = (_worker[k] for k in ("task", "renderer", "landmarker", "done"))
    lo, hi = block
    each = task.images_per_person
    count = (hi - lo) * each
    shape = (count, task.size, task.size)

    def array(name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        return np.lib.format.open_memmap(task.out / f"{name}_{lo:06d}.npy", "w+", dtype, shape)

    images, labels = array("images", np.uint8, (*shape, 3)), array("labels", np.float32, (count, len(COLUMNS)))
    if landmarker:
        landmarks, scores = (
            array("landmarks", np.float32, (count, 478, 3)),
            array("blendshapes", np.float32, (count, 52)),
        )
    masks = array("masks", np.uint8, shape) if task.masks else None
    found = 0
    for row in range(count):
        number, index = lo + row // each, row % each
        if index == 0:
            prepared = renderer.prepare(sample_person(number, renderer.assets.catalogue, task.seed))
        actions, scene = draw_picture(number, index, task.seed)
        images[row] = renderer.render(prepared, actions, scene)
        labels[row] = label_row(number, index, actions, scene)
        if landmarker:
            face = landmarker.largest(images[row])
            landmarks[row], scores[row] = (face.landmarks / task.size, face.blendshapes) if face else (np.nan, np.nan)
            found += face is not None
            if masks is not None and face:
                masks[row] = np.round(face_mask(landmarks[row], task.size) * 255)
        with done.get_lock():
            done.value += 1
    return {"images": count, "found": found, "renderer": renderer.gl}


if __name__ == "__main__":
    main()
