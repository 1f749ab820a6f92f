"""Benchmarks end to end: plan, pictures, readings, tables; with the demo model and few steps."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.compute
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from facecrafter_core.diffusion.guidance import APPROXIMATIONS, Guidance
from facecrafter_core.errors import MetricError, PhotoError
from training import evaluate, progress
from training.benchmark import load_plan, save_plan
from training.methods import Folder, count_parameters
from training.origin import digest_of_pipe
from training.readings import gather

ROOT = Path(__file__).resolve().parents[2]
CONTROL = ("--targets", "2", "--count", "2")
CONDITIONS = ("--conditions", "identity only", "+ landmarks")


def run(monkeypatch: pytest.MonkeyPatch, benchmark: str, people: Path, out: Path, *more: str) -> dict:
    arguments = ["evaluate", benchmark, "--source", str(people), "--split", "all", "--models", str(ROOT / "demo"), "--out", str(out), "--steps", "2", "--identities", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--processes", "1", *more])
    evaluate.main()
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def controlled(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("control")
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(monkeypatch, "control", people, out, *CONTROL, *CONDITIONS, "--processes", "2")
    return out


def test_the_control_benchmark_writes_its_folder(controlled: Path):
    rows = json.loads((controlled / "summary.json").read_text())["rows"]
    assert list(rows) == ["bundled, identity only", "bundled, + landmarks"]
    assert rows["bundled, identity only"]["parameters"] == 0 < rows["bundled, + landmarks"]["parameters"]
    assert rows["bundled, + landmarks"]["landmark_error"]["value"] < rows["bundled, identity only"]["landmark_error"]["value"]
    table = pyarrow.parquet.read_table(controlled / "results.parquet")
    assert table.num_rows == 4 and {"key", "seed", "landmark_error", "yaw_asked", "yaw_found", "similarity"} <= set(table.column_names)
    errors = table.filter(pyarrow.compute.equal(table["method"], "bundled, + landmarks"))["pose_error"].to_numpy()
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(rows["bundled, + landmarks"]["pose_error"]["value"]), "degrees, as in the table"
    text = (controlled / "table.md").read_text()
    assert "its errors flatter the method: bundled, + landmarks." in text and "weights missing: facecrafter assets download inception" in text
    assert all((controlled / f"{kind} {name}").is_file() for name in ("bundled, + landmarks.png",) for kind in ("scatter",))
    assert (controlled / "sheet bundled, + landmarks.jpg").is_file()


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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does, since sums are rounded otherwise with more
    try:
        one = run(monkeypatch, "identity", people, tmp_path / "one", "--each", "1")
    finally:
        torch.set_num_threads(threads)
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
    theirs = tmp_path / "theirs, at 200"
    theirs.mkdir()
    for key, target in zip(plan.keys, plan.target, strict=True):
        Image.fromarray(plan.targets[target]).resize((200, 200)).save(theirs / f"{key}.png")  # the perfect copy, in another size
    Image.new("RGB", (200, 200)).save(theirs / f"{plan.keys[-1]}.png")  # and one without a face
    summary = run(monkeypatch, "control", people, out, *CONTROL, "--pictures", f"copy={theirs}")["rows"]["copy"]
    assert summary["landmark_error"]["value"] < 3 and summary["without_face"] == 1 and summary["found"]["value"] == 0.5
    text = (out / "table.md").read_text()
    assert "Pictures without a face, left out of the errors: copy 1." in text and "not known" in text
    Image.fromarray(plan.targets[0]).save(theirs / f"{plan.keys[0]}.png")
    with pytest.raises(SystemExit, match=r"measures/copy were made with other settings or files \(pictures\)"):
        run(monkeypatch, "control", people, out, *CONTROL, "--pictures", f"copy={theirs}")


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
    for key in load_plan(controlled).keys:
        Image.new("RGB", (64, 32)).save(tmp_path / f"{key}.png")
    with pytest.raises(MetricError, match=r"Expected square pictures, .*00000\.png with 64 x 32 pixels"):
        Folder("wide", tmp_path, load_plan(controlled)).generate([0])
    (tmp_path / "00001.png").write_bytes(b"no picture")
    with pytest.raises(PhotoError, match=r"00001\.png is not a picture"):
        Folder("broken", tmp_path, load_plan(controlled)).generate([1])


def test_parameters_are_counted_from_files(controlled: Path, tmp_path: Path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(5)}, tmp_path / "one.safetensors")
    torch.save({"part": {"c": torch.zeros(4)}, "step": 7}, tmp_path / "two.bin")
    assert count_parameters([tmp_path / "one.safetensors", tmp_path / "two.bin"]) == 6 + 5 + 4
    (tmp_path / "three.bin").write_text("hello")
    with pytest.raises(MetricError, match=r"weights to count at .*three\.bin"):
        count_parameters([tmp_path / "three.bin"])


def test_too_few_people_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: Path):
    (tmp_path / "people/one").mkdir(parents=True)
    shutil.copy(people / "person_0/0.png", tmp_path / "people/one/0.png")
    with pytest.raises(SystemExit, match="at least two people with a face, found 1 among 1"):
        run(monkeypatch, "control", tmp_path / "people", tmp_path / "out")


@pytest.mark.parametrize(("benchmark", "more", "different"), [
    ("control", (*CONTROL, "--seed", "5"), "seed"), ("control", (*CONTROL[:2], "--count", "3"), "count"), ("identity", (), "benchmark, targets, count, each"),
])  # fmt: skip
def test_a_folder_of_another_run_is_refused(controlled: Path, people: Path, monkeypatch: pytest.MonkeyPatch, benchmark: str, more: tuple[str, ...], different: str):
    with pytest.raises(SystemExit, match=rf"other settings \({different}\)"):
        run(monkeypatch, benchmark, people, controlled, *more)


def test_a_folder_of_other_photos_is_refused(controlled: Path, people: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    shutil.copytree(people, tmp_path / "people")
    next((tmp_path / "people/person_0").iterdir()).unlink()
    with pytest.raises(SystemExit, match=r"other settings \(source\)"):
        run(monkeypatch, "control", tmp_path / "people", controlled, *CONTROL)


def test_pictures_of_other_settings_are_not_taken_for_those_asked_for(controlled: Path, people: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SystemExit, match=r"measures/bundled, identity only were made with other settings or files \(steps, guidance\)"):
        run(monkeypatch, "control", people, controlled, *CONTROL, *CONDITIONS, "--steps", "3", "--weights", "9", "1", "1")


def test_a_retrained_adapter_is_another_origin():
    def pipe(adapter: torch.nn.Module | None) -> SimpleNamespace:
        return SimpleNamespace(scheduler=None, unet=torch.nn.Identity(), vae=torch.nn.Identity(), text_encoder=torch.nn.Identity(), adapter=adapter)

    trained = torch.nn.Linear(2, 2)
    before = digest_of_pipe(pipe(trained))
    assert digest_of_pipe(pipe(trained)) == before != digest_of_pipe(pipe(None))
    trained.weight.data[0, 0] += 1
    assert digest_of_pipe(pipe(trained)) != before


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("--pictures", "x=a", "--method", "x=b"), "another name for each row, found x more than once"), (("--pictures", "a/b=c"), "found 'a/b'"),
    (("--parameters", "x=weights.bin"), "names of --pictures, found x"),
])  # fmt: skip
def test_names_that_no_row_can_have_are_refused(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path, arguments: tuple[str, ...], sentence: str):
    with pytest.raises(SystemExit):
        run(monkeypatch, "control", tmp_path, tmp_path / "out", *arguments)
    assert sentence in capsys.readouterr().err


def test_results_in_the_place_of_a_file_are_refused(people: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "out").touch()
    with pytest.raises(SystemExit, match="Choose another --out"):
        run(monkeypatch, "control", people, tmp_path / "out")


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


def test_a_grid_varies_only_the_weights_in_use():
    import argparse

    args = argparse.Namespace(grid=[1.0, 3.0], grid_over="weight", approximate=False, weights=(2.5, 2.0, 1.5))
    assert list(dict(evaluate.grid(args, False, False))) == [""]
    assert list(dict(evaluate.grid(args, True, False))) == [", w 1 -", ", w 3 -"]
    points = dict(evaluate.grid(args, False, True))
    assert list(points) == [", w - 1", ", w - 3"] and points[", w - 3"].guidance == Guidance(2.5, 2.0, 3.0)


def test_errors_of_bad_readings_are_sentences(tmp_path: Path):
    (tmp_path / "row").mkdir()
    np.savez(tmp_path / "row/0.npz", pose=np.zeros((2, 3)))
    with pytest.raises(MetricError, match="Expected 3 measured pictures"):
        gather(tmp_path / "row", 3)


def test_a_run_without_a_terminal_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with progress.progress(3, "LPIPS") as done:
        done(1)
        done(2)
    assert capsys.readouterr().out == "LPIPS: 1 of 3\nLPIPS: 3 of 3\n"


def test_flame_parameters_of_targets_need_targets(tmp_path: Path):
    with pytest.raises(MetricError, match="one of ours, found targets"):
        evaluate.add_flame([("targets", tmp_path)], SimpleNamespace(targets=[]), {"ours": {}}, {})


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
    """Arc2Face alone: the identity, and nothing that would need landmarks or an emotion. What has no evaluators is measured by what is there."""
    shutil.copytree(ROOT / "demo", tmp_path / "base", ignore=shutil.ignore_patterns("adapter.safetensors", "samples", "evaluators"))
    monkeypatch.setattr("training.methods.load_emotion_estimator", lambda *a: pytest.fail("nobody asked for an emotion"))
    base = ("--models", str(tmp_path / "base"))
    row = run(monkeypatch, "identity", people, tmp_path / "out", "--each", "1", *base)["rows"]["bundled, identity only"]
    assert row["parameters"] == 0 and "There are no network weights" in row["similarity"]["missing"] and row["found"]["value"] == 1
    with pytest.raises(SystemExit, match=r"Expected an adapter for \+ both in bundled, found none"):
        run(monkeypatch, "control", people, tmp_path / "control", *CONTROL, "--conditions", "+ both", *base)
