"""Training's own files, damaged at random: what reads them takes them or ends in one sentence. `-m slow` tries 500 more."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_full_disk import parts
from world import make_prepared

from facecrafter_core.errors import FaceCrafterError
from training.batches import StepData
from training.benchmark import Plan, Wanted, load_plan, save_plan
from training.curves import read_log
from training.export import _card
from training.logs import read_lines
from training.loop import World
from training.pairs import Pairs
from training.prepare import _check_plan, merge, report_pairs
from training.prepared import Prepared, read_info
from training.summary import draw_summary

Rng = np.random.Generator
ODD = (None, True, -1, 2**70, 1.5, float("nan"), float("inf"), "", "text", "\ud800", [], {}, [[[]]], {"a": None})


def flip(data: bytes, rng: Rng) -> bytes:
    out = bytearray(data)
    for place in rng.integers(0, max(1, min(len(out), 4000)), rng.integers(1, 20)):  # headers are in front
        out[place : place + 1] = bytes([rng.integers(256)])
    return bytes(out)


def flip_at_the_end(data: bytes, rng: Rng) -> bytes:
    return flip(data[::-1], rng)[::-1]  # where a parquet and a zip say what they hold


def cut(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(0, len(data))]


def drop(data: bytes, rng: Rng) -> bytes:
    start, length = rng.integers(0, len(data)), rng.integers(1, 200)
    return data[:start] + data[start + length :]


def insert(data: bytes, rng: Rng) -> bytes:
    start = rng.integers(0, len(data))
    return data[:start] + rng.bytes(rng.integers(1, 50)) + data[start:]


def as_a_spreadsheet_saves(data: bytes, rng: Rng) -> bytes:
    return rng.choice([b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data.replace(b",", b";"), data.decode("latin-1").encode("utf-16")])


def odd_value(data: bytes, rng: Rng) -> bytes:
    """One value of JSON becomes something else; a line of JSON lines does."""
    lines = data.splitlines()
    try:
        which, value = (None, json.loads(data)) if rng.integers(2) else ((i := rng.integers(len(lines))), json.loads(lines[i]))
    except ValueError:
        return rng.bytes(100)
    where = value
    while isinstance(where, dict) and where:
        key = list(where)[rng.integers(len(where))]
        if isinstance(where[key], dict) and where[key] and rng.integers(2):
            where = where[key]
            continue
        where[key] = ODD[rng.integers(len(ODD))]
        break
    text = json.dumps(value).encode()
    return text if which is None else b"\n".join([*lines[:which], text, *lines[which + 1 :]])


DAMAGES = (flip, flip_at_the_end, cut, drop, insert, as_a_spreadsheet_saves, odd_value, lambda data, rng: b"", lambda data, rng: rng.bytes(500))


def use_prepared(folder: Path) -> None:
    read_info(folder)
    training, _ = Prepared.open(folder, "demo", {"vae": "0"}).split()
    StepData(training, Pairs(training, "landmark"), World("cpu"), 2, 64, drawings=True, emotions=True, masks=True)[0]
    draw_summary(folder, report_pairs(folder, "demo"))


def use_parts(folder: Path) -> None:
    made, info, _ = parts(folder / "again")
    shutil.copytree(folder / "parts", folder / "again/parts", dirs_exist_ok=True)
    try:
        _check_plan(folder / "plan.json", {"format": 1, "items": 6})
        merge(made, folder / "again", info)
        with open(folder / "again/rejected.csv", encoding="utf-8", newline="") as file:
            assert next(csv.reader(file)) == ["key", "reason"]
    finally:
        shutil.rmtree(folder / "again")


def use_logs(folder: Path) -> None:
    read_log(folder)
    read_lines(folder / "held_out.jsonl")
    assert "# FaceCrafter" in _card(folder, {"step": 3, "settings": {"family": "demo"}}, "joint", {"landmark": True, "emotion": True}, True, "mit", "")


def make_parts(folder: Path) -> None:
    parts(folder)
    (folder / "plan.json").write_text(json.dumps({"format": 1, "items": 6}))


def make_logs(folder: Path) -> None:
    folder.mkdir()
    for name in ("log", "held_out"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"step": s, "loss": 1 / s, "ad": 2.0}) + "\n" for s in (1, 2, 3)))


def make_plan(folder: Path) -> None:
    pictures = [np.zeros((32, 32, 3), np.uint8)] * 2
    numbers = np.arange(2)
    save_plan(Plan(pictures, pictures, pictures, numbers, numbers, numbers, Wanted("control", "0", "test", 32, 0, 2, 2, 2), 2, []), folder)


KINDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "prepared": (lambda folder: (make_prepared(folder) / "drawings.npy").unlink(), use_prepared),
    "parts": (make_parts, use_parts),
    "logs": (make_logs, use_logs),
    "plan": (make_plan, load_plan),
}


def try_damaged(kind: str, tmp_path: Path, seeds: range) -> None:
    make, use = KINDS[kind]
    make(whole := tmp_path / "whole")
    use(whole)
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file() and p.suffix in (".json", ".jsonl", ".parquet", ".npy", ".npz", ".csv"))
    ends = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        file, damage = files[seed % len(files)], DAMAGES[rng.integers(len(DAMAGES))]
        folder = shutil.copytree(whole, tmp_path / "damaged")
        (folder / file).write_bytes(damage((folder / file).read_bytes(), rng))
        try:
            use(folder)
        except (FaceCrafterError, SystemExit) as error:
            ends += 1
            sentence = str(error)
            assert "\n" not in sentence and 20 < len(sentence) < 700 and sentence.endswith("."), f"{kind} {seed} {file}: {sentence!r}"
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {file} by {damage} ended in {type(error).__name__}: {error}") from error
        shutil.rmtree(folder)
    assert ends


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_sentences(kind: str, tmp_path: Path):
    try_damaged(kind, tmp_path, range(40))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_500_damaged_files_of_each_kind_end_in_sentences(kind: str, tmp_path: Path):
    try_damaged(kind, tmp_path, range(1000, 1500))
