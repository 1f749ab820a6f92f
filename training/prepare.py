"""Images and videos -> the features that training reads (training/prepared.py).

    python -m training.prepare --source FFHQ --source MEAD --out prepared --family full --models arc2face
    python -m training.prepare --source faces --out prepared --family demo --models demo --drawings

Work is done in chunks. A chunk is written whole or not at all, so that a run that was stopped goes on where it was, with the same arguments.
Pictures without a usable face are listed in rejected.csv, with the reason.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.extract import Extractor, Rows
from training.prepared import ARRAYS, FORMAT, PreparedError
from training.sources import READERS, Item, SourceError, open_source

CHUNK = 256


@dataclass
class Chunk:
    """Consecutive items, and where their rows are written."""

    number: int
    items: list[Item] = field(repr=False)

    def path(self, out: Path) -> Path:
        return out / "parts" / f"{self.number:08d}.npz"


def write_chunk(rows: Rows, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        manifest = np.array(json.dumps({"columns": rows.columns, "rejected": rows.rejected}))
        np.savez(file, manifest=manifest, **rows.arrays)
    os.replace(temporary, path)


_extractor: Extractor | None = None


def _start_worker(settings: dict[str, Any]) -> None:
    global _extractor
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _extractor = Extractor(**settings)


def _work(chunk: Chunk, out: Path) -> tuple[int, int]:
    rows = _extractor(chunk.items)
    write_chunk(rows, chunk.path(out))
    return len(chunk.items), len(rows.rejected)


def run_pool(chunks: list[Chunk], settings: dict[str, Any], out: Path, processes: int) -> Iterator[tuple[int, int]]:
    """Processes of this machine; yields (items, rejected) of each finished chunk."""
    if processes <= 1:
        _start_worker(settings)
        for chunk in chunks:
            yield _work(chunk, out)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed

    context = multiprocessing.get_context("spawn")  # MediaPipe and CUDA do not survive a fork
    with ProcessPoolExecutor(processes, context, _start_worker, (settings,)) as pool:
        for future in as_completed([pool.submit(_work, chunk, out) for chunk in chunks]):
            yield future.result()


def run_ray(chunks: list[Chunk], settings: dict[str, Any], out: Path, processes: int) -> Iterator[tuple[int, int]]:
    """The same function on a Ray cluster; OUT must be a folder that all its machines see."""
    try:
        import ray
    except ImportError as error:
        raise SourceError("The Ray backend needs Ray: pip install 'ray[data]'. Or leave --backend out.") from error
    gpus = 1 if str(settings["device"]).startswith("cuda") else 0

    class Worker:
        def __init__(self) -> None:
            _start_worker(settings)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            found = [_work(chunk, out) for chunk in batch["chunk"]]
            return {"items": [n for n, _ in found], "rejected": [r for _, r in found]}

    data = ray.data.from_items([{"chunk": chunk} for chunk in chunks])
    for row in data.map_batches(Worker, batch_size=1, concurrency=max(1, processes), num_gpus=gpus).iter_rows():
        yield int(row["items"]), int(row["rejected"])


def merge(chunks: list[Chunk], out: Path, info: dict[str, Any]) -> dict[str, Any]:
    """Parts -> arrays and manifest. The parts are removed last, so that a merge that was stopped is simply done again."""
    import pyarrow
    import pyarrow.parquet

    manifests, counts = [], []
    for chunk in chunks:
        with np.load(chunk.path(out)) as part:
            manifests.append(json.loads(str(part["manifest"])))
            counts.append(len(part["identities"]) if "identities" in part else 0)
    total = sum(counts)
    rejected = [r for m in manifests for r in m["rejected"]]
    with open(out / "rejected.csv", "w", newline="") as file:
        csv.writer(file).writerows([("key", "reason"), *rejected])
    if not total:
        raise SourceError(f"None of the {len(rejected)} images could be used; the first: {rejected[0][0]}: {rejected[0][1]} All reasons are in {out / 'rejected.csv'}.")
    targets: dict[str, np.ndarray] = {}
    row = 0
    for chunk, count in zip(chunks, counts, strict=True):
        if not count:
            continue
        with np.load(chunk.path(out)) as part:
            for name in ARRAYS:
                if name in part:
                    if name not in targets:
                        targets[name] = np.lib.format.open_memmap(out / f"{name}.npy", "w+", part[name].dtype, (total, *part[name].shape[1:]))
                    targets[name][row : row + count] = part[name]
        row += count
    for array in targets.values():
        array.flush()
    columns = {name: [v for m in manifests for v in m["columns"].get(name, [])] for name in next(m for m in manifests if m["columns"])["columns"]}
    pyarrow.parquet.write_table(pyarrow.table({"index": np.arange(total), **columns}), out / "manifest.parquet")
    info |= {"images": total, "rejected": len(rejected), "people": len(set(columns["person"]))}
    temporary = out / ".prepared.json"
    temporary.write_text(json.dumps(info, indent=2) + "\n")
    os.replace(temporary, out / "prepared.json")
    shutil.rmtree(out / "parts")
    return info


def prepare(sources: list[str], kind: str, out: Path, family: str, models: Path, drawings: bool, processes: int, backend: str, device: str) -> dict[str, Any]:
    """Runs all of it; returns prepared.json's content.

    Raises:
        SourceError: a source cannot be used. PreparedError: OUT holds another run. ModelError: models are missing.
    """
    from tqdm import tqdm

    items: list[Item] = []
    for source in sources:
        found, listed = open_source(source, kind)
        print(f"{source}: {len(listed)} items, read as {found}", flush=True)
        prefix = f"{Path(source).name}/" if len(sources) > 1 else ""
        items += [Item(prefix + i.key, prefix + i.person, i.path, i.place, i.size, i.label, i.split) for i in listed] if prefix else listed
    settings = {"family": family, "models": models, "drawings": drawings, "device": device}
    fingerprints = Extractor.fingerprints(family, models)
    plan = {"format": FORMAT, "family": family, "drawings": drawings, "models": fingerprints, "items": len(items), "digest": _digest(items)}
    out.mkdir(parents=True, exist_ok=True)
    if (out / "prepared.json").is_file():
        old = json.loads((out / "prepared.json").read_text())
        if {k: old.get(k) for k in plan} == plan:
            print(f"{out} is finished already: {old['images']} images of {old['people']} people")
            return old
        raise PreparedError(f"{out} holds features of other images, settings or models. Use another --out, or remove it.")
    chunks = [Chunk(n, items[i : i + CHUNK]) for n, i in enumerate(range(0, len(items), CHUNK))]
    if (out / "plan.json").is_file() and json.loads((out / "plan.json").read_text()) != plan:
        raise PreparedError(f"{out} holds parts of a run with other images, settings or models. Use another --out, or remove it.")
    (out / "plan.json").write_text(json.dumps(plan))
    for leftover in (out / "parts").glob(".*"):
        leftover.unlink()
    todo = [c for c in chunks if not c.path(out).is_file()]
    run = run_ray if backend == "ray" else run_pool
    rejected = 0
    with tqdm(total=len(items), initial=len(items) - sum(len(c.items) for c in todo), unit="img", desc="Preparing", disable=None) as bar:
        for count, bad in run(todo, settings, out, processes):
            rejected += bad
            bar.set_postfix(rejected=rejected)
            bar.update(count)
    info = merge(chunks, out, plan)
    (out / "plan.json").unlink()
    print(f"{info['images']} images of {info['people']} people in {out}; {info['rejected']} rejected (rejected.csv)")
    return info


def _digest(items: list[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.key}\0{item.person}\0{item.place}\n".encode())
    return digest.hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", action="append", required=True, help="folder or file of images; may be given several times")
    parser.add_argument("--kind", choices=("auto", *READERS), default="auto")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--family", choices=("demo", "full"), default="full")
    parser.add_argument("--models", type=Path, required=True, help="folder with the family's vae and identity encoder")
    parser.add_argument("--drawings", action="store_true", help="store landmark drawings: faster training, 0.2 MB (demo) or 0.8 MB an image")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--backend", choices=("pool", "ray"), default="pool")
    parser.add_argument("--device", default="cpu", help="of the autoencoder and the identity encoder, such as cuda")
    args = parser.parse_args()
    from facecrafter_core.errors import FaceCrafterError
    from training.summary import draw_summary

    try:
        prepare(args.source, args.kind, args.out, args.family, args.models, args.drawings, args.processes, args.backend, args.device)
        draw_summary(args.out)
    except (SourceError, PreparedError, FaceCrafterError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
