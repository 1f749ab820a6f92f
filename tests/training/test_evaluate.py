"""Benchmarks end to end: plan, pictures, readings, tables; with the demo model and few steps."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from facecrafter_core.errors import MetricError
from facecrafter_core.faces.landmarker import FaceLandmarker
from training import evaluate
from training.benchmark import load_plan, make_plan, save_plan
from training.methods import Folder
from training.sources import open_source

ROOT = Path(__file__).resolve().parents[2]
PORTRAITS = sorted((ROOT / "demo/samples").glob("*.jpg"))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people with two photos each."""
    folder = tmp_path_factory.mktemp("people")
    for i, portrait in enumerate(PORTRAITS):
        file = folder / f"person_{i // 2}" / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.open(portrait).resize((256, 256)).save(file)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, benchmark: str, people: Path, out: Path, *more: str) -> dict:
    arguments = ["evaluate", benchmark, "--source", str(people), "--split", "all", "--models", str(ROOT / "demo"), "--out", str(out), "--steps", "2", "--identities", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, *more])
    evaluate.main()
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def controlled(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("control")
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(monkeypatch, "control", people, out, "--targets", "2", "--count", "2", "--conditions", "identity only", "+ landmarks")
    return out


def test_the_control_benchmark_writes_its_folder(controlled: Path):
    rows = json.loads((controlled / "summary.json").read_text())["rows"]
    assert list(rows) == ["bundled, identity only", "bundled, + landmarks"]
    assert rows["bundled, identity only"]["parameters"] == 0 < rows["bundled, + landmarks"]["parameters"]
    assert rows["bundled, + landmarks"]["landmark_error"]["value"] < rows["bundled, identity only"]["landmark_error"]["value"]
    table = pyarrow.parquet.read_table(controlled / "results.parquet")
    assert table.num_rows == 4 and {"key", "seed", "landmark_error", "yaw_asked", "yaw_found", "similarity"} <= set(table.column_names)
    text = (controlled / "table.md").read_text()
    assert "measured by the same estimator" in text and "weights missing: facecrafter assets download inception" in text
    assert all((controlled / f"{kind} {name}").is_file() for name in ("bundled, + landmarks.png",) for kind in ("scatter",))
    assert (controlled / "sheet bundled, + landmarks.jpg").is_file()


def test_no_one_is_asked_for_with_a_photo_of_their_own(people: Path):
    plan = make_plan(open_source(people)[1], 128, 2, 2, 10, 0, FaceLandmarker())
    assert len(set(zip(plan.identity.tolist(), plan.target.tolist(), strict=True))) == len(plan) >= 2


def test_a_stopped_run_goes_on_and_gives_the_same_numbers(controlled: Path, people: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    again = tmp_path / "again"
    shutil.copytree(controlled, again)
    before = (again / "summary.json").read_text()
    part = next((again / "measures/bundled, + landmarks").glob("*.npz"))
    part.unlink()
    untouched = next((again / "measures/bundled, identity only").glob("*.npz"))
    written = untouched.stat().st_mtime_ns
    run(monkeypatch, "control", people, again, "--conditions", "identity only", "+ landmarks")
    assert part.is_file() and untouched.stat().st_mtime_ns == written
    assert (again / "summary.json").read_text() == before


def test_two_processes_give_the_numbers_of_one(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluate, "CHUNK", 1)
    one = run(monkeypatch, "identity", people, tmp_path / "one", "--each", "1")
    code = "import training.evaluate as e; e.CHUNK = 1; e.main()"
    (tmp_path / "two.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "two.py"), *sys.argv[1:]]
    command[command.index(str(tmp_path / "one"))] = str(tmp_path / "two")
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    two = json.loads((tmp_path / "two/summary.json").read_text())
    assert two == one and one["rows"]["bundled, identity only"]["pictures"] == 2


def test_another_methods_pictures_are_scored(controlled: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    plan = load_plan(controlled)
    save_plan(plan, out)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for key, target in zip(plan.keys, plan.target, strict=True):
        Image.fromarray(plan.targets[target]).resize((200, 200)).save(theirs / f"{key}.png")  # the perfect copy, in another size
    Image.new("RGB", (200, 200)).save(theirs / f"{plan.keys[-1]}.png")  # and one without a face
    summary = run(monkeypatch, "control", people, out, "--pictures", f"copy={theirs}")["rows"]["copy"]
    assert summary["landmark_error"]["value"] < 3 and summary["without_face"] == 1 and summary["found"]["value"] == 0.5
    text = (out / "table.md").read_text()
    assert "Pictures without a face, left out of the errors: copy 1." in text and "not known" in text


def test_an_untrained_controlnet_is_the_identity_alone(controlled: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its last layers start at zero, so it changes nothing; a trained one does."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    control = ControlNetModel.from_unet(UNet2DConditionModel.from_pretrained(ROOT / "demo/unet"))
    control.save_pretrained(tmp_path / "untrained")
    for layer in (control.controlnet_mid_block, *control.controlnet_down_blocks):
        torch.nn.init.normal_(layer.weight, std=0.1)
    control.save_pretrained(tmp_path / "other")
    out = tmp_path / "out"
    plan = load_plan(controlled)
    save_plan(plan, out)
    arguments = ["--hints", str(out / "targets"), "--method", f"ours={ROOT / 'demo/adapter.safetensors'}", "--conditions", "identity only"]
    rows = run(monkeypatch, "control", people, out, "--controlnet", str(tmp_path / "untrained"), *arguments)["rows"]
    assert rows["ControlNet"]["parameters"] == sum(p.numel() for p in control.parameters())

    def picture(row: str) -> np.ndarray:
        return np.asarray(Image.open(out / "pictures" / row / f"{plan.keys[0]}.png")).astype(int)

    same = picture("ControlNet")
    assert np.abs(same - picture("ours, identity only")).mean() < 0.2
    shutil.rmtree(out / "measures/ControlNet")
    run(monkeypatch, "control", people, out, "--controlnet", str(tmp_path / "other"), *arguments)
    assert np.abs(same - picture("ControlNet")).mean() > 3
    (out / "targets/000.png").rename(tmp_path / "away.png")
    with pytest.raises(SystemExit, match="000.png"):
        run(monkeypatch, "control", people, out, "--controlnet", str(tmp_path / "other"), "--hints", str(out / "targets"))


def test_folders_that_do_not_pair_are_refused(controlled: Path, tmp_path: Path):
    with pytest.raises(MetricError, match=r"2 are missing, such as 00000\.png"):
        Folder("empty", tmp_path, load_plan(controlled))


def test_too_few_people_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: Path):
    (tmp_path / "people/one").mkdir(parents=True)
    shutil.copy(people / "person_0/0.png", tmp_path / "people/one/0.png")
    with pytest.raises(SystemExit, match="at least two people with a face, found 1 among 1"):
        run(monkeypatch, "control", tmp_path / "people", tmp_path / "out")


def test_a_folder_of_another_run_is_refused(controlled: Path, people: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SystemExit, match=r"other settings \(seed\)"):
        run(monkeypatch, "control", people, controlled, "--seed", "5")


def test_a_grid_asks_for_each_pair_of_weights():
    import argparse

    args = argparse.Namespace(grid=[1.0, 2.0], grid_over="weight", weights=(2.5, 2.0, 2.0))
    points = dict(evaluate.grid(args, True, True))
    assert len(points) == 4
    guidance = points[", w 1 2"].guidance
    assert (guidance.identity, guidance.landmark, guidance.emotion) == (2.5, 1.0, 2.0)
    args.grid_over = "alpha"
    assert dict(evaluate.grid(args, True, True))[", alpha 1 2"].alpha_emotion == 2.0


def test_errors_of_bad_readings_are_sentences(tmp_path: Path):
    (tmp_path / "row").mkdir()
    np.savez(tmp_path / "row/0.npz", pose=np.zeros((2, 3)))
    with pytest.raises(MetricError, match="Expected 3 measured pictures"):
        evaluate.gather(tmp_path / "row", 3)


def test_a_grid_becomes_a_picture(tmp_path: Path):
    from training.results import grid_picture

    def row(value: float) -> dict:
        return {name: {"value": value, "low": value, "high": value} for name in ("landmark_error", "similarity", "found")}

    grid_picture({f"bundled, + both, w {a} {b}": row(a * b) for a in (1, 2) for b in (1, 2, 3)}, tmp_path / "grid.png")
    assert Image.open(tmp_path / "grid.png").size[0] > 500
    grid_picture({"bundled, + both": row(1.0)}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_fid_and_lpips_stand_in_the_table_with_their_sample_sizes():
    from training.results import summarise, table

    generator = np.random.default_rng(0)

    class Three:
        identity, targets = np.array([0, 0, 1]), ()

        def __len__(self) -> int:
            return 3

    plan = Three()
    reading = {"pose": np.zeros((3, 3)), "expression": np.zeros((3, 52)), "inception": generator.normal(size=(3, 8)), "lpips": np.array([0.25])}
    found = summarise({"found": np.ones(3)}, plan, reading, real=reading["inception"] + [2, 0, 0, 0, 0, 0, 0, 0])
    assert found["fid"]["value"] == pytest.approx(4.0) and found["lpips"]["value"] == 0.25
    text = table({"ours": found}, [("ours", 0, {})], [], [], {})
    assert "| FID |" in text.splitlines()[0] and "| 4.0 |" in text and "0.250" in text
    assert "FID: 3 pictures against 3 photos" in text and "biased upwards" in text
