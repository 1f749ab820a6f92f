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

from facecrafter_core.diffusion.guidance import APPROXIMATIONS, Guidance
from facecrafter_core.errors import MetricError
from facecrafter_core.faces.landmarker import FaceLandmarker
from training import evaluate
from training.benchmark import Plan, Wanted, digest, load_plan, make_plan, save_plan
from training.methods import Folder
from training.readings import gather
from training.results import grid_pictures, summarise, table
from training.sources import open_source

ROOT = Path(__file__).resolve().parents[2]
PORTRAITS = sorted((ROOT / "demo/samples").glob("*.jpg"))
CONTROL = ("--targets", "2", "--count", "2")
CONDITIONS = ("--conditions", "identity only", "+ landmarks")


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
        run(monkeypatch, "control", people, out, *CONTROL, *CONDITIONS)
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
    plan = make_plan(open_source(people)[1], Wanted("control", "", "all", 128, 0, identities=2, targets=2, count=10), FaceLandmarker())
    assert len(set(zip(plan.identity.tolist(), plan.target.tolist(), strict=True))) == len(plan) >= 2


def test_a_stopped_run_goes_on_and_gives_the_same_numbers(controlled: Path, people: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    again = tmp_path / "again"
    shutil.copytree(controlled, again)
    before = (again / "summary.json").read_text()
    part = next((again / "measures/bundled, + landmarks").glob("*.npz"))
    part.unlink()
    untouched = next((again / "measures/bundled, identity only").glob("*.npz"))
    written = untouched.stat().st_mtime_ns
    run(monkeypatch, "control", people, again, *CONTROL, *CONDITIONS)
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
    summary = run(monkeypatch, "control", people, out, *CONTROL, "--pictures", f"copy={theirs}")["rows"]["copy"]
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
    rows = run(monkeypatch, "control", people, out, *CONTROL, "--controlnet", str(tmp_path / "untrained"), *arguments)["rows"]
    assert rows["ControlNet"]["parameters"] == sum(p.numel() for p in control.parameters())

    def picture(row: str) -> np.ndarray:
        return np.asarray(Image.open(out / "pictures" / row / f"{plan.keys[0]}.png")).astype(int)

    same = picture("ControlNet")
    assert np.abs(same - picture("ours, identity only")).mean() < 0.2
    shutil.rmtree(out / "measures/ControlNet")
    run(monkeypatch, "control", people, out, *CONTROL, "--controlnet", str(tmp_path / "other"), *arguments)
    assert np.abs(same - picture("ControlNet")).mean() > 3
    (out / "targets/000.png").rename(tmp_path / "away.png")
    with pytest.raises(SystemExit, match="000.png"):
        run(monkeypatch, "control", people, out, *CONTROL, "--controlnet", str(tmp_path / "other"), "--hints", str(out / "targets"))


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
        run(monkeypatch, "control", people, controlled, *CONTROL, "--seed", "5")


def test_approximations_are_rows_of_their_own_beside_the_exact_one():
    import argparse

    args = argparse.Namespace(grid=None, approximate=True, weights=(2.5, 2.0, 1.0))
    points = dict(evaluate.grid(args, True, True))
    assert list(points) == ["", *(f", {name}" for name in APPROXIMATIONS)]
    assert points[", joint"].guidance == Guidance(2.5, 2.0, 1.0, mode="joint")
    assert list(dict(evaluate.grid(args, True, False))) == [""]


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
        gather(tmp_path / "row", 3)


def test_each_method_and_condition_of_a_grid_is_a_picture(tmp_path: Path):
    def row(value: float) -> dict:
        return {name: {"value": value, "low": value, "high": value} for name in ("landmark_error", "valence_error", "same_class", "similarity")}

    both = {f"{method}, + both, w {a} {b}": row(a * b) for method in ("one", "two") for a in (1, 2) for b in (1, 2, 3)}
    grid_pictures({**both, "one, + landmarks, w 1 -": row(1), "one, + landmarks, w 2 -": row(2), "one, identity only": row(1)}, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["grid one, + both.png", "grid one, + landmarks.png", "grid two, + both.png"]
    assert Image.open(tmp_path / "grid one, + both.png").size[0] > 500


class Plan60:
    """60 pictures of two people, no targets."""

    identity, targets = np.arange(60) % 2, ()

    def __len__(self) -> int:
        return 60


def test_fid_and_lpips_stand_in_the_table_with_their_sample_sizes():
    features = np.random.default_rng(0).normal(size=(60, 8))
    reading = {"pose": np.zeros((60, 3)), "expression": np.zeros((60, 52)), "inception": features, "lpips": np.array([0.25])}
    found = summarise({"found": np.ones(60)}, Plan60(), reading, real=features + [2, 0, 0, 0, 0, 0, 0, 0])
    assert found["fid"]["value"] == pytest.approx(4.0) and found["lpips"]["value"] == 0.25
    text = table({"ours": found}, [("ours", 0, {})], {}, [], {})
    assert "| FID |" in text.splitlines()[0] and "| 4.0 |" in text and "0.250" in text
    assert "FID: 60 pictures against 60 photos of the plan" in text and "biased upwards" in text
    few = summarise({"found": np.ones(60)}, Plan60(), reading, real=features[:49])
    assert "too few: 60 pictures against 49 photos, at least 50 each" in table({"ours": few}, [("ours", 0, {})], {}, [], {})


def test_a_metric_that_is_missing_says_so_in_its_cell_and_is_no_number(controlled: Path):
    reason = "weights missing: facecrafter assets download inception"
    header, _, row = (controlled / "table.md").read_text().splitlines()[:3]
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert cells["FID"] == reason
    rows = json.loads((controlled / "summary.json").read_text())["rows"]
    assert all(values["fid"] == {"missing": reason} for values in rows.values())


class Colours:
    """In Inception's place: the mean and deviation of the three colours."""

    name, licence, reads = "colours", "none", ("inception",)

    def read(self, pictures, faces) -> dict[str, np.ndarray]:
        return {"inception": np.array([[*p.mean((0, 1)), *p.std((0, 1))] for p in pictures], np.float32)}


def test_an_estimator_that_comes_later_reads_the_pictures_that_are_there(controlled: Path, people: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """FID's weights are downloaded after the first run: the second one adds FID, generates nothing, and changes no other number."""
    again = tmp_path / "again"
    shutil.copytree(controlled, again)
    before = json.loads((again / "summary.json").read_text())["rows"]
    without = evaluate.estimators_of
    monkeypatch.setattr(evaluate, "estimators_of", lambda *a: ([*without(*a)[0], Colours()], []))
    monkeypatch.setattr("training.methods.FaceCrafterMethod.generate", lambda self, requests: pytest.fail("generated again"))
    monkeypatch.setattr("training.results.FEWEST_FOR_FID", 2)
    after = run(monkeypatch, "control", people, again, *CONTROL, *CONDITIONS)["rows"]
    for name, values in after.items():
        assert values.pop("fid")["value"] > 0 and before[name].pop("fid")
    assert after == before
    real = run(monkeypatch, "control", people, again, *CONTROL, *CONDITIONS, "--real", str(people), "--real-count", "5")
    assert {v["fid"]["real"] for v in real["rows"].values()} == {5} and real["settings"]["real"] == people.name
    assert f"against 5 photos of {people.name};" in (again / "table.md").read_text()


def test_flame_parameters_of_rows_and_targets_are_columns(controlled: Path, people: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    again, row = tmp_path / "again", "bundled, + landmarks"
    shutil.copytree(controlled, again)
    plan = load_plan(again)
    targets = np.arange(len(plan.targets) * 2, dtype=np.float32).reshape(-1, 2)
    np.savez(tmp_path / "targets.npz", name=[f"{i:03d}" for i in range(len(plan.targets))], expression=targets, pose=targets)
    np.savez(tmp_path / "row.npz", name=plan.keys, expression=targets[plan.target] + 3, pose=targets[plan.target])
    rows = run(monkeypatch, "control", people, again, *CONTROL, *CONDITIONS, "--flame", f"targets={tmp_path / 'targets.npz'}", "--flame", f"{row}={tmp_path / 'row.npz'}")["rows"]
    assert rows[row]["flame_expression_error"]["value"] == pytest.approx(3) and rows[row]["flame_pose_error"]["value"] == 0
    assert rows["bundled, identity only"]["flame_pose_error"] == {"missing": "not given: --flame"}
    with pytest.raises(SystemExit, match="Expected --flame targets=FILE"):
        run(monkeypatch, "control", people, again, *CONTROL, *CONDITIONS, "--flame", f"{row}={tmp_path / 'row.npz'}")
    with pytest.raises(SystemExit, match=r"one of targets; bundled, identity only; bundled, \+ landmarks, found nobody"):
        run(monkeypatch, "control", people, again, *CONTROL, *CONDITIONS, "--flame", f"nobody={tmp_path / 'row.npz'}")


def test_a_base_without_an_adapter_is_a_row(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Arc2Face alone: the identity, and nothing that would need landmarks or an emotion."""
    shutil.copytree(ROOT / "demo", tmp_path / "base", ignore=shutil.ignore_patterns("adapter.safetensors", "samples"))
    monkeypatch.setattr("training.methods.load_emotion_estimator", lambda *a: pytest.fail("nobody asked for an emotion"))
    rows = run(monkeypatch, "identity", people, tmp_path / "out", "--each", "1", "--models", str(tmp_path / "base"))["rows"]
    assert rows["bundled, identity only"]["parameters"] == 0
