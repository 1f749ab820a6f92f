"""A disk without room: what is written is whole or not there, what was there stays, and the end is one sentence.

The operating system refuses to let files grow beyond a limit here, as a full disk does, in every library.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from stage_world import losses
from torch import nn

from facecrafter_core.control.adapter import load_adapter
from facecrafter_core.errors import FaceCrafterError, OutputError
from facecrafter_core.files import append_line, check_room, write_csv, write_folder
from training.config import PretrainConfig
from training.curves import read_log
from training.export import export
from training.logs import read_lines
from training.loop import save_checkpoint, save_sheet, store
from training.prepare import Chunk, merge
from training.prepared import FORMAT, Prepared
from training.pretrain import train as pretrain

resource = pytest.importorskip("resource", reason="Windows has no limit of that kind")
LIMIT = 20_000


@contextmanager
def full_disk(limit: int = LIMIT) -> Iterator[None]:
    """No file may become longer than `limit` bytes: a write ends in the middle, and the next one in an error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


NOISE = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
LARGE = nn.Linear(128, 128)
SMALL_UNET = {"block_out_channels": (32, 32), "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "cross_attention_dim": 8, "attention_head_dim": 8}
WRITERS: dict[str, Callable[[Path], object]] = {
    "checkpoint": lambda path: save_checkpoint(path, weights=LARGE.state_dict()),
    "network": lambda path: store(LARGE, path),
    "sheet": lambda path: save_sheet([[NOISE]], path),
    "table": lambda path: write_csv(path, [["x" * 1000]] * 100),
    "folder": lambda path: write_folder(path, UNet2DConditionModel(**SMALL_UNET).save_pretrained),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_written_whole_or_not_at_all(name: str, tmp_path: Path):
    with full_disk(), pytest.raises(OutputError, match=f"^Could not write {tmp_path / 'it'}: File too large. Nothing was changed there"):
        WRITERS[name](tmp_path / "it")
    assert not list(tmp_path.iterdir())
    WRITERS[name](tmp_path / "it")
    assert (tmp_path / "it").exists()


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    append_line(path, "first")
    with full_disk(10), pytest.raises(OutputError, match="Could not write .*log.jsonl: .* What it held is kept"):
        append_line(path, "second line")
    assert path.read_text() == "first\n"
    path.write_text("first\nhalf a li")
    append_line(path, "third")
    assert path.read_text() == "first\nhalf a li\nthird\n"


def test_the_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=999))
    check_room(tmp_path, 999, "it")
    with pytest.raises(OutputError, match=f"Expected 1,000 free bytes in {tmp_path} for it, found 999. Free some space"):
        check_room(tmp_path, 1000, "it")


ROWS = {
    "latent_mean": (4, 16, 16), "identities": (128,), "identities_flipped": (128,), "landmarks": (478, 3), "blendshapes": (52,), "emotions": (10,), "masks": (16, 16)
}  # fmt: skip


def parts(out: Path, images: int = 3, chunks: int = 2) -> tuple[list[Chunk], dict[str, object], dict[str, np.ndarray]]:
    """Chunks whose parts are there, what prepared.json is to say, and the whole arrays."""
    rng, made = np.random.default_rng(0), [Chunk(n, []) for n in range(chunks)]
    arrays = {name: [(rng.random((images, *shape)) * 255).astype(np.uint8 if name == "masks" else np.float32) for _ in made] for name, shape in ROWS.items()}
    (out / "parts").mkdir(parents=True)
    for chunk in made:
        keys = [f"{chunk.number}/{i}" for i in range(images)]
        columns = {"key": keys, "person": keys, "split": ["train"] * images, **{name: [0.0] * images for name in ("yaw", "pitch", "roll")}}
        manifest = json.dumps({"columns": columns, "rejected": [["bad", "No face."]]})
        with open(chunk.path(out), "wb") as file:
            np.savez(file, manifest=np.array(manifest), **{name: each[chunk.number] for name, each in arrays.items()})
    info = {"format": FORMAT, "family": "demo", "drawings": False, "models": {}}
    return made, info, {name: np.concatenate(each) for name, each in arrays.items()}


def test_a_merge_without_room_says_how_much_it_needs_and_keeps_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chunks, info, arrays = parts(tmp_path)
    needed = sum(array.nbytes for array in arrays.values())
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
        with pytest.raises(OutputError, match=f"Expected {needed:,} free bytes .* found {needed - 1:,}. .* run again with the same arguments"):
            merge(chunks, tmp_path, info)
    with full_disk(), pytest.raises(OutputError, match="Could not write .*npy: File too large"):  # somebody else has filled it since
        merge(chunks, tmp_path, info)
    assert len(list((tmp_path / "parts").iterdir())) == 2 and not list(tmp_path.glob(".*"))
    merge(chunks, tmp_path, info)
    prepared = Prepared.open(tmp_path, "demo")
    assert all(np.array_equal(prepared[name][:], array) and prepared[name][:].dtype == array.dtype for name, array in arrays.items())
    assert (tmp_path / "rejected.csv").read_text().splitlines() == ["key,reason", "bad,No face.", "bad,No face."] and not (tmp_path / "parts").exists()


def test_a_run_asks_for_the_room_of_its_checkpoints_before_its_first_step(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=f"Expected [0-9,]+ free bytes in {pretraining.out} for the checkpoints"):
        pretrain(pretraining)
    assert not (pretraining.out / "log.jsonl").exists()


def test_a_run_on_a_full_disk_ends_in_a_sentence_and_goes_on(pretraining: PretrainConfig):
    pretrain(replace(pretraining, steps=2))
    with full_disk(), pytest.raises(OutputError, match="Could not write .*step_00000004.pt: File too large"):
        pretrain(pretraining)
    assert [path.name for path in (pretraining.out / "checkpoints").iterdir()] == ["step_00000002.pt"]
    pretrain(pretraining)
    assert sorted(losses(pretraining.out)) == [1, 2, 3, 4]


def test_half_a_line_of_a_log_is_left_out_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 0.5}\n{"step": 2, "lo\n\xff\xfe\n[1]\n{"loss": 2}\n{"step": 3, "loss": 0.25}\n{"step": 4, "loss": ')
    assert read_lines(path) == [{"step": 1, "loss": 0.5}, {"step": 3, "loss": 0.25}]
    assert capsys.readouterr().err == f"{path}: 5 of 7 lines cannot be read and are left out; the first is line 2\n"
    assert read_log(tmp_path) == {"step": [1, 3], "loss": [0.5, 0.25]}


def test_an_export_is_whole_or_not_there(pretraining: PretrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture):
    pretrain(replace(pretraining, steps=1))
    with open(pretraining.out / "log.jsonl", "a") as file:
        file.write('{"step": 1, "lo')
    hub = tmp_path / "hub"
    with full_disk(), pytest.raises(FaceCrafterError, match=f"Could not write {hub}: File too large"):
        export(pretraining.out, hub, "mit")
    assert not hub.exists()
    export(pretraining.out, hub, "mit")
    assert load_adapter(hub / "adapter.safetensors") and "Last log line: step 1, loss" in (hub / "README.md").read_text()
    assert "1 of 2 lines cannot be read" in capsys.readouterr().err
    before = {path.name: path.read_bytes() for path in hub.iterdir()}
    with full_disk(), pytest.raises(FaceCrafterError, match="Could not write"):
        export(pretraining.out, hub, "apache-2.0")
    assert {path.name: path.read_bytes() for path in hub.iterdir()} == before
