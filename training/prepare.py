"""Images and videos -> the features that training reads (training/prepared.py).

    python -m training.prepare --source FFHQ --source MEAD --out prepared --family full --models arc2face
    python -m training.prepare --source faces --out prepared --family demo --models demo --drawings

Work is done in chunks. A chunk is written whole or not at all, so that a run that was stopped goes on where it was, with the same arguments.
Pictures without a usable face are listed in rejected.csv, with the reason.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import multiprocessing
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from facecrafter_core.diffusion.families import FAMILIES
from facecrafter_core.faces.emotion_estimators import AUTOMATIC, ESTIMATORS
from facecrafter_core.files import check_room, write_csv, write_whole
from facecrafter_core.studio import check_device
from facecrafter_core.terminal import escape_unprintable
from training.extract import Extractor, Rows
from training.loop import make_folder, one_sentence
from training.prepared import ARRAYS, FORMAT, PreparedError, read_info, read_json
from training.ranges import COUNT
from training.sources import READERS, Item, SourceError, left_out, loose_files, open_source, readable

CHUNK = 256
"""Images that a kill loses at most, in each process."""


@dataclass(frozen=True)
class Settings:
    """What training.extract.Extractor needs."""

    family: str
    models: Path
    drawings: bool
    device: str
    emotion: str


@dataclass
class Chunk:
    """Consecutive items, and where their rows are written."""

    number: int
    items: list[Item] = field(repr=False)

    def path(self, out: Path) -> Path:
        return out / "parts" / f"{self.number:08d}.npz"


def work(chunk: Chunk, out: Path, extractor: Extractor) -> tuple[int, int]:
    """Writes a chunk's part; returns how many items it has, and how many of them were rejected."""
    rows: Rows = extractor(chunk.items)
    manifest = np.array(json.dumps({"columns": rows.columns, "rejected": rows.rejected}))
    write_whole(chunk.path(out), lambda file: np.savez(file, manifest=manifest, **rows.arrays))
    return len(chunk.items), len(rows.rejected)


@cache
def _extractor(settings: Settings) -> Extractor:
    """One a process, with one thread, so that any number of processes computes the same numbers."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return Extractor(**asdict(settings))


_settings: Settings | None = None


def _start_worker(settings: Settings) -> None:
    """Models are loaded with the first chunk, so that what is wrong with them is raised there, and not as a broken pool."""
    global _settings
    _settings = settings


def _work(chunk: Chunk, out: Path) -> tuple[int, int]:
    return work(chunk, out, _extractor(_settings))


def run_pool(chunks: list[Chunk], settings: Settings, out: Path, processes: int) -> Iterator[tuple[int, int]]:
    """Processes of this machine; yields (items, rejected) of each finished chunk."""
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    if min(processes, len(chunks)) <= 1:
        _start_worker(settings)
        for chunk in chunks:
            yield _work(chunk, out)
        return
    context = multiprocessing.get_context("spawn")  # MediaPipe and CUDA do not survive a fork
    pool = ProcessPoolExecutor(min(processes, len(chunks)), context, _start_worker, (settings,))
    rest = iter(chunks)
    try:
        waiting = {pool.submit(_work, chunk, out) for chunk in islice(rest, 2 * processes)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(_work, chunk, out) for chunk in islice(rest, len(done))}
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise PreparedError(
            "A worker process was ended from outside, mostly because memory was short. Finished chunks are kept: "
            f"run again with the same arguments and fewer --processes than {processes}."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def run_ray(chunks: list[Chunk], settings: Settings, out: Path, processes: int) -> Iterator[tuple[int, int]]:
    """The same function on a Ray cluster; sources, models and OUT must be folders that all its machines see."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SourceError("The Ray backend needs Ray: pip install 'ray[data]'. Or leave --backend out.") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="warning")
    logging.getLogger("ray.data").setLevel("WARNING")
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
    workers = max(1, min(processes, len(chunks)))
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0) / workers) if settings.device.startswith("cuda") else 0
    place, arguments = str(out.absolute()), {**asdict(settings), "models": settings.models.absolute()}

    class Worker:
        """Finds everything by import: under `python -m` this module is __main__, which a worker does not have."""

        def __init__(self) -> None:
            from training import prepare

            self.prepare, self.extractor = prepare, prepare._extractor(prepare.Settings(**arguments))

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            chunks = [self.prepare.Chunk(*pickle.loads(data)) for data in batch["chunk"]]
            found = [self.prepare.work(chunk, Path(place), self.extractor) for chunk in chunks]
            return {"items": [n for n, _ in found], "rejected": [r for _, r in found]}

    rows = [{"chunk": pickle.dumps((c.number, c.items))} for c in chunks]
    pool = ray.data.ActorPoolStrategy(size=workers)
    found = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(Worker, batch_size=1, compute=pool, num_gpus=gpus, num_cpus=1)
    try:
        for row in found.iter_rows():
            yield int(row["items"]), int(row["rejected"])
    except ray.exceptions.RayError as error:
        raise PreparedError(f"The Ray backend stopped: {str(error).strip().splitlines()[-1]} Finished chunks are kept: run again with the same arguments.") from error


def merge(chunks: list[Chunk], out: Path, info: dict[str, Any]) -> dict[str, Any]:
    """Parts -> arrays and manifest. The parts are removed last, so that a merge that was stopped is simply done again.

    Raises:
        SourceError: no image could be used. PreparedError: a part is damaged. OutputError: the disk has no room for the arrays beside the parts.
    """
    import pyarrow
    import pyarrow.parquet

    manifests = [_manifest(chunk.path(out)) for chunk in chunks]
    counts = [len(m["columns"].get("key", ())) for m in manifests]
    rejected = [r for m in manifests for r in m["rejected"]]
    write_csv(out / "rejected.csv", [("key", "reason"), *rejected])
    total, people = sum(counts), {}
    if not total:
        raise SourceError(f"None of the {len(rejected)} images could be used; the first: {rejected[0][0]}: {rejected[0][1]} All reasons are in {out / 'rejected.csv'}.")
    tables, row = [], 0
    for manifest, count in zip(manifests, counts, strict=True):
        if count:
            numbers = [people.setdefault(person, len(people)) for person in manifest["columns"]["person"]]
            tables.append(pyarrow.table({"index": np.arange(row, row + count), "person_number": numbers, **manifest["columns"]}))
            row += count
    _merge_arrays([chunk.path(out) for chunk, count in zip(chunks, counts, strict=True) if count], out, total)
    write_whole(out / "manifest.parquet", lambda file: pyarrow.parquet.write_table(pyarrow.concat_tables(tables), file))
    info |= {"image_size": FAMILIES[info["family"]].image_size, "images": total, "rejected": len(rejected), "people": len(people)}
    write_whole(out / "prepared.json", lambda file: file.write((json.dumps(info, indent=2) + "\n").encode()))
    _tidy(out)
    return info


def _merge_arrays(parts: list[Path], out: Path, total: int) -> None:
    """Each array of the parts as one file, whole or not at all. They are not memory-mapped: a full disk ends a process that writes to a map."""
    for name in ARRAYS:  # of a merge that was stopped
        (out / f"{name}.npy").unlink(missing_ok=True)
    with _opened(parts[0]) as first:
        rows = {name: first[name][:1] for name in ARRAYS if name in first}
    needed = total * sum(row.nbytes for row in rows.values())
    check_room(out, needed, "the merged features", "Free some space and run again with the same arguments: what was prepared is kept.")
    for name, row in rows.items():
        write_whole(out / f"{name}.npy", lambda file, name=name, row=row: _write_array(file, name, row, parts, total))


def _write_array(file: BinaryIO, name: str, row: np.ndarray, parts: list[Path], total: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(row.dtype), "fortran_order": False, "shape": (total, *row.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)
    for part in parts:
        with _opened(part) as arrays:
            array = arrays[name]
            if array.dtype != row.dtype or array.shape[1:] != row.shape[1:]:
                raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
            data = array.tobytes()
        file.write(data)


@contextmanager
def _opened(part: Path) -> Iterator[Any]:
    """The arrays of a part.

    Raises:
        PreparedError: it is damaged; it is removed, so that the next run makes it again.
    """
    try:
        with open(part, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
        return
    except PermissionError as error:
        raise PreparedError(f"Could not read {part}: {error.strerror}. Mend that and run again with the same arguments.") from error
    except Exception as error:  # NumPy, zipfile, zlib, struct and json have one each
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    part.unlink()
    raise PreparedError(f"{part} was damaged ({reason}) and has been removed. Run again with the same arguments to make it anew.")


def _manifest(part: Path) -> dict[str, Any]:
    """Columns and rejected items of a part. Raises PreparedError where it is damaged."""
    with _opened(part) as arrays:
        return json.loads(str(arrays["manifest"]))


def _tidy(out: Path) -> None:
    shutil.rmtree(out / "parts", ignore_errors=True)
    (out / "plan.json").unlink(missing_ok=True)


def list_items(sources: list[str], kind: str) -> list[Item]:
    """All items of all sources; keys and people of several sources are told apart by the source's name.

    Raises:
        SourceError: see training.sources.open_source.
    """
    names = [Path(source).resolve().name for source in sources]
    doubled = {name for name, count in Counter(names).items() if count > 1}
    items: list[Item] = []
    for number, (source, name) in enumerate(zip(sources, names, strict=True), start=1):
        found, listed = open_source(source, kind)
        print(f"{source}: {len(listed)} items, read as {found}", flush=True)
        folder = Path(os.path.expanduser(source))
        if loose := loose_files(folder, found):
            print(f"{source}: left out beside the people's folders: {len(loose)} files, the first is {readable(loose[0].name)}", flush=True)
        if rest := [file for file in left_out(folder, found, listed) if file not in loose]:
            kinds = ", ".join(f"{count} {readable(suffix) or 'without an ending'}" for suffix, count in Counter(file.suffix.lower() for file in rest).most_common())
            print(f"{source}: left out: {len(rest)} files ({kinds}), the first is {readable(str(rest[0]))}", flush=True)
        prefix = f"{name}-{number}/" if name in doubled else f"{name}/"
        items += [replace(i, key=prefix + i.key, person=prefix + i.person) for i in listed] if len(sources) > 1 else listed
    return items


def prepare(
    sources: list[str], kind: str, out: Path, family: str, models: Path, drawings: bool, processes: int, backend: str, device: str, chunk: int | None = None,
    emotion: str = AUTOMATIC,
) -> dict[str, Any]:
    """Runs all of it; returns prepared.json's content.

    Raises:
        SourceError: a source cannot be used. PreparedError: OUT holds another run, or memory was short. ModelError: models or the device are missing.
        OutputError: OUT cannot be written.
    """
    import torch
    from tqdm import tqdm

    if backend != "ray":  # the cluster's machines may have what this one lacks
        check_device(device)
    fingerprints = Extractor.fingerprints(family, models, emotion)
    items = list_items(sources, kind)
    plan = {"format": FORMAT, "family": family, "drawings": drawings, "models": fingerprints, "items": len(items), "digest": _digest(items)}
    make_folder(out)
    if (out / "prepared.json").is_file():
        old = read_info(out)
        if {k: old.get(k) for k in plan} != plan:
            raise PreparedError(f"{out} holds features of other images, settings or models. Use another --out, or remove it.")
        _tidy(out)
        print(f"{out} is finished already: {old['images']} images of {old['people']} people")
        return old
    chunk = chunk or CHUNK
    chunks = [Chunk(n, items[i : i + chunk]) for n, i in enumerate(range(0, len(items), chunk))]
    _check_plan(out / "plan.json", {**plan, "chunk": chunk})
    for leftover in (out / "parts").glob(".*"):
        leftover.unlink()
    todo = [c for c in chunks if not c.path(out).is_file()]
    run = run_ray if backend == "ray" else run_pool
    rejected = 0
    with tqdm(total=len(items), initial=len(items) - sum(len(c.items) for c in todo), unit="img", desc="Preparing", disable=None) as bar:
        try:
            for count, bad in run(todo, Settings(family, models, drawings, device, emotion), out, processes) if todo else ():
                rejected += bad
                bar.set_postfix(rejected=rejected)
                bar.update(count)
        except torch.cuda.OutOfMemoryError as error:
            raise PreparedError(
                f"The memory of {device} was short. Finished chunks are kept: run again with the same arguments and fewer --processes than {processes}, or free memory there."
            ) from error
    info = merge(chunks, out, plan)
    print(f"{info['images']} images of {info['people']} people in {out}; {info['rejected']} rejected (rejected.csv)")
    return info


def _check_plan(path: Path, plan: dict[str, Any]) -> None:
    """Writes the plan of this run, or compares it with the one whose parts are there."""
    if path.is_file() and (old := read_json(path)) != plan:
        changed = ", ".join(name for name in plan if old.get(name) != plan[name])
        raise PreparedError(f"{path.parent} holds parts of a run with other images, settings or models ({changed}). Use another --out, or remove it.")
    write_whole(path, lambda file: file.write(json.dumps(plan).encode()))


def _digest(items: list[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.key}\0{item.person}\0{item.place}\0{item.label}\0{item.split}\0{item.affect or ''}\n".encode())
    return digest.hexdigest()[:16]


def report_pairs(out: Path, family: str) -> dict[str, tuple[int, int]]:
    """Prints how many pairs each stage finds among the images that are trained on.

    Returns:
        pairs, and images paired with their mirror image, by stage.
    """
    from training.pairs import RULES, Pairs
    from training.prepared import Prepared

    found = dict.fromkeys(RULES, (0, 0))
    try:
        training, _ = Prepared.open(out, family).split()
        for stage in RULES:
            try:
                pairs = Pairs(training, stage)
                found[stage] = pairs.pairs, int(pairs.mirrored.sum())
                print(f"Pairs of the {stage} stage: {pairs.report()}")
            except PreparedError as error:
                print(f"Pairs of the {stage} stage: {error}")
    except PreparedError as error:
        print(f"Pairs: {error}")
    return found


@one_sentence()
def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", action="append", required=True, help="folder or file of images; may be given several times")
    parser.add_argument("--kind", choices=("auto", *READERS), default="auto")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--family", choices=("demo", "full"), default="full")
    parser.add_argument("--models", type=Path, required=True, help="folder with the family's vae and identity encoder")
    parser.add_argument(
        "--emotion", choices=ESTIMATORS, default=AUTOMATIC, help="who estimates emotions; automatic: the demo's network for demo, EmoNet (CC BY-NC-ND 4.0) for full"
    )
    parser.add_argument("--drawings", action="store_true", help="store landmark drawings: faster training, 0.2 MB (demo) or 0.8 MB an image")
    parser.add_argument("--processes", type=COUNT.of(int), default=os.cpu_count() or 1)
    parser.add_argument("--backend", choices=("pool", "ray"), default="pool")
    parser.add_argument("--device", default="cpu", help="of the autoencoder and the identity encoder, such as cuda")
    parser.add_argument("--chunk", type=COUNT.of(int), default=CHUNK, help="images that are written together; a kill loses at most one chunk a process")
    args = parser.parse_args()
    from training.summary import draw_summary

    prepare(args.source, args.kind, args.out, args.family, args.models, args.drawings, args.processes, args.backend, args.device, args.chunk, args.emotion)
    draw_summary(args.out, report_pairs(args.out, args.family))


if __name__ == "__main__":
    main()
