"""From folders of pictures to features, with the real detector and the demo's networks."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from world import make_prepared

import training.prepare as module
from facecrafter_core import search
from facecrafter_core.errors import AssetError, ModelError, NoFaceError, OutputError
from facecrafter_core.faces.align import align_face
from facecrafter_core.faces.identity import DemoIdentityEncoder
from facecrafter_core.faces.landmarker import FaceLandmarker
from training.extract import Extractor
from training.prepare import main as prepare_command
from training.prepare import prepare
from training.prepared import ARRAYS, Prepared, PreparedError, fingerprint
from training.sources import SourceError, load, open_source
from training.summary import draw_summary

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"
PORTRAITS = [DEMO / f"samples/portrait_{i}.jpg" for i in range(1, 7)]


def small(path: Path, side: int = 256) -> Image.Image:
    return Image.open(path).resize((side, side))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Three people with two pictures each."""
    folder = tmp_path / "people"
    for i, portrait in enumerate(PORTRAITS):
        file = folder / f"person_{i // 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        small(portrait).save(file)
    return folder


def run(source: Path, out: Path, kind: str = "auto", processes: int = 1, **more: object) -> Prepared:
    arguments = {"drawings": False, "backend": "pool", "device": "cpu", "models": DEMO, **more}
    prepare([str(source)], kind, out, "demo", processes=processes, **arguments)
    return Prepared.open(out, "demo")


def test_a_folder_of_people_becomes_features(people: Path, tmp_path: Path):
    prepared = run(people, tmp_path / "out", drawings=True)
    assert len(prepared) == 6 and prepared.person.tolist() == [0, 0, 1, 1, 2, 2]
    shapes = {name: prepared[name][:].shape for name in prepared.arrays}
    assert shapes == {
        "latent_mean": (6, 4, 32, 32), "identities": (6, 128), "identities_flipped": (6, 128), "landmarks": (6, 478, 3), "blendshapes": (6, 52),
        "emotions": (6, 10), "masks": (6, 32, 32), "drawings": (6, 256, 256, 3),
    }  # fmt: skip
    assert set(shapes) == set(ARRAYS) - {"latent_std"}
    assert np.allclose(np.linalg.norm(prepared["identities"][:], axis=1), 1, atol=1e-4)
    assert np.allclose(prepared["emotions"][:][:, 2:].sum(1), 1, atol=1e-4)
    assert 0.1 < (prepared["masks"][:] / 255).mean() < 0.7
    eyes = prepared["landmarks"][:][:, [33, 263], :2].mean(1)
    assert (abs(eyes - [0.5, 0.45]) < 0.15).all(), "faces are not in the middle of their squares"
    assert prepared.columns["yaw"][3] != 0 and not (tmp_path / "out/parts").exists()


def test_the_manifest_says_where_the_square_was_cut(people: Path, tmp_path: Path):
    prepared = run(people, tmp_path / "out")
    left, top, side = (prepared.columns[f"square_{name}"][0] for name in ("left", "top", "side"))
    photo = load(open_source(people)[1][0])
    face = FaceLandmarker().find_face(photo).landmarks[:, :2]
    assert np.allclose(left + side * prepared["landmarks"][0][:, 0], face[:, 0], atol=0.1)
    assert np.allclose(top + side * prepared["landmarks"][0][:, 1], face[:, 1], atol=0.1)


def test_valence_and_arousal_of_the_owner_count(people: Path, tmp_path: Path):
    files = sorted(people.rglob("*.png"))
    rows = [f"{file.relative_to(people)},{file.parent.name},{v},{v}" for file, v in zip(files[:2], ("", "-0.5"), strict=True)]
    (people / "list.csv").write_text("\n".join(["path,person,valence,arousal", *rows]))
    emotions = run(people / "list.csv", tmp_path / "out")["emotions"][:]
    assert emotions[1, :2].tolist() == [-0.5, -0.5]
    assert np.allclose(emotions[0], run(people, tmp_path / "estimated")["emotions"][0], atol=1e-6)


class Brightness:
    """An emotion estimator that reads pixels: valence is the mean of the face's box."""

    name = licence = "test"
    batches: list[int] = []  # noqa: RUF012

    def look(self, photo: np.ndarray, face: object) -> np.ndarray:
        x0, y0, x1, y1 = (int(v) for v in face.box)
        return photo[y0:y1, x0:x1].mean((0, 1))

    def estimate(self, looks: list[np.ndarray]) -> np.ndarray:
        self.batches.append(len(looks))
        return np.stack([[look.mean() / 255, 0, 1, *[0] * 7] for look in looks]).astype(np.float32)


@pytest.fixture
def brightness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Brightness in EmoNet's place; the file of its weights."""
    weights = tmp_path / "emonet_8.pth"
    weights.write_bytes(b"weights")
    Brightness.batches.clear()
    monkeypatch.setattr(search, "find_asset", lambda name, real=search.find_asset: weights if name == "emonet" else real(name))
    monkeypatch.setattr("facecrafter_core.faces.emonet.EmoNetEstimator", lambda path, device: Brightness())
    monkeypatch.setattr(module, "_extractor", lambda settings: Extractor(**asdict(settings)))
    return weights


def test_an_estimator_of_pixels_sees_a_chunk_of_faces_at_once(people: Path, tmp_path: Path, brightness: Path):
    emotions = run(people, tmp_path / "out", emotion="emonet")["emotions"][:]
    landmarker, expected = FaceLandmarker(), []
    for item in open_source(people)[1]:
        photo = load(item)
        x0, y0, x1, y1 = (int(v) for v in landmarker.find_face(photo).box)
        expected.append(photo[y0:y1, x0:x1].mean() / 255)
    assert np.allclose(emotions[:, 0], expected, atol=1e-3) and np.ptp(expected) > 0.01
    assert Brightness.batches == [6]
    files = sorted(people.rglob("*.png"))
    (people / "list.csv").write_text(f"path,person,valence,arousal\n{files[0].relative_to(people)},a,-0.5,0.5\n{files[1].relative_to(people)},a,,\n")
    listed = run(people / "list.csv", tmp_path / "listed", emotion="emonet")["emotions"][:]
    assert np.allclose(listed[:, :3], [[-0.5, 0.5, 1], [expected[1], 0, 1]], atol=1e-3)


def test_features_of_another_emotion_estimator_are_not_mixed(people: Path, tmp_path: Path, brightness: Path):
    models = run(people, tmp_path / "out", emotion="emonet").info["models"]
    assert models["emotion"] == fingerprint(brightness) != fingerprint(DEMO / "emotion/model.safetensors")
    with pytest.raises(PreparedError, match="other images, settings or models"):
        run(people, tmp_path / "out")


def test_full_size_takes_emonet_and_not_the_bases_small_network(tmp_path: Path, brightness: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.extract.find_asset", lambda name: brightness)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/x.safetensors").write_bytes(b"vae")
    assert Extractor.fingerprints("full", tmp_path)["emotion"] == fingerprint(brightness)
    assert Extractor.fingerprints("full", tmp_path, "demo")["emotion"] == fingerprint(DEMO / "emotion/model.safetensors")


def test_an_autoencoder_with_a_distribution_gives_mean_and_deviation(people: Path, tmp_path: Path):
    models = tmp_path / "models"
    shutil.copytree(DEMO / "identity", models / "identity")
    shutil.copytree(DEMO / "emotion", models / "emotion")
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4, "block_out_channels": [8, 8, 8, 8]}
    vae = AutoencoderKL(latent_channels=4, norm_num_groups=4, scaling_factor=0.5, **blocks).eval()
    vae.save_pretrained(models / "vae")
    prepared = run(people, tmp_path / "out", models=models)
    picture = align_face(photo := load(open_source(people)[1][0]), FaceLandmarker().find_face(photo).landmarks, 256, rotate=False).image
    with torch.inference_mode():
        expected = vae.encode(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1).latent_dist
    assert np.allclose(prepared["latent_mean"][0], expected.mean[0] * 0.5, atol=2e-3)
    assert np.allclose(prepared["latent_std"][0], expected.std[0] * 0.5, atol=2e-3)


def test_pictures_that_cannot_be_used_are_listed_with_reasons(people: Path, tmp_path: Path):
    (people / "person_0/broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (256, 256), "green").save(people / "person_1/meadow.png")
    (people / "person_2/clip.mp4").write_bytes(b"no video")
    prepared = run(people, tmp_path / "out")
    assert len(prepared) == 6
    with open(tmp_path / "out/rejected.csv") as file:
        reasons = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {"person_0/broken.jpg", "person_1/meadow.png", "person_2/clip.mp4#?"}
    assert "cannot be read" in reasons["person_2/clip.mp4#?"] and "face" in reasons["person_1/meadow.png"]


def test_a_face_that_only_the_recogniser_misses_is_listed_too(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Arc2Face's recogniser looks for the face with a detector of its own."""

    def blind_once(self: DemoIdentityEncoder, crops: torch.Tensor, seen: list = [], encode=DemoIdentityEncoder.encode) -> torch.Tensor:  # noqa: B006
        seen.append(1)
        if len(seen) == 3:
            raise NoFaceError("InsightFace's detector found no face.")
        return encode(self, crops)

    monkeypatch.setattr(DemoIdentityEncoder, "encode", blind_once)
    prepared = run(people, tmp_path / "out")
    assert prepared.columns["key"].tolist() == [f"person_{i // 2}/{i}.png" for i in (0, 1, 3, 4, 5)] and len(prepared["identities"]) == 5
    assert (tmp_path / "out/rejected.csv").read_text().splitlines()[1:] == ["person_1/2.png,InsightFace's detector found no face."]


def test_what_is_left_out_and_what_is_rejected_can_be_printed_and_written_under_a_windows_code_page(people: Path, tmp_path: Path):
    (people / "花子").mkdir()
    Image.new("RGB", (99, 99)).save(people / "花子/写真.png")
    (people / "花子/覚書.txt").write_text("")
    program = "import builtins, io, runpy, sys\nreal = io.open\ndef windows(file, mode='r', buffering=-1, encoding=None, *rest, **more):\n"
    program += "    named = isinstance(file, (str, bytes)) or hasattr(file, '__fspath__')\n"
    program += "    return real(file, mode, buffering, 'cp1252' if named and encoding is None and 'b' not in mode else encoding, *rest, **more)\n"
    program += "builtins.open = io.open = windows\nrunpy.run_module('training.prepare', run_name='__main__', alter_sys=True)"
    arguments = ["--source", people, "--out", tmp_path / "out", "--family", "demo", "--models", DEMO, "--processes", "1"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True)
    said = done.stdout.decode("ascii")
    assert done.returncode == 0 and "left out: 1 files (1 .txt), the first is" in said and "\\u82b1" in said, done.stderr[-500:]
    assert "花子/写真.png,No face was found" in (tmp_path / "out/rejected.csv").read_text(encoding="utf-8")


def test_a_missing_model_file_ends_the_run_and_blames_no_picture(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FaceLandmarker, "search", lambda self, photo: (_ for _ in ()).throw(AssetError("face_landmarker.task is not on this machine.")))
    with pytest.raises(AssetError, match="not on this machine"):
        run(people, tmp_path / "out")
    assert not (tmp_path / "out/rejected.csv").exists()


def test_two_processes_make_the_rows_of_one(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    one, two = run(people, tmp_path / "one"), run(people, tmp_path / "two", processes=2)
    assert one.columns["key"].tolist() == two.columns["key"].tolist()
    for name in one.arrays:
        assert np.array_equal(one[name][:], two[name][:]), name


def test_ray_makes_the_rows_of_the_pool(people: Path, tmp_path: Path):
    pytest.importorskip("ray.data", reason="SKIPPED: the Ray backend is not tested, Ray is not installed")
    one, two = run(people, tmp_path / "one"), run(people, tmp_path / "two", backend="ray")
    for name in one.arrays:
        assert np.array_equal(one[name][:], two[name][:]), name


def test_a_run_that_was_killed_goes_on_with_nothing_lost_or_doubled(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK", 1)
    out = tmp_path / "out"
    code = f"import training.prepare as m; m.CHUNK = 1; from pathlib import Path; m.prepare([{str(people)!r}], 'auto', Path({str(out)!r}), 'demo', Path({str(DEMO)!r}), False, 1, 'pool', 'cpu')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while process.poll() is None and time.time() < deadline:
        if len(list((out / "parts").glob("*.npz"))) >= 2:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    done = sorted((out / "parts").glob("*.npz"))
    assert 2 <= len(done) < 6 and not (out / "prepared.json").exists()
    with pytest.raises(PreparedError, match="parts of an unfinished run"):
        Prepared.open(out, "demo")
    work = []
    original = module._work
    monkeypatch.setattr(module, "_work", lambda chunk, folder: (work.append(chunk.number), original(chunk, folder))[1])
    finished = run(people, out)
    assert len(work) == 6 - len(done)
    assert finished.columns["key"].tolist() == run(people, tmp_path / "whole").columns["key"].tolist()


def test_a_finished_folder_is_left_alone_and_another_run_is_refused(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(people, tmp_path / "out")
    monkeypatch.setattr(module, "run_pool", None)
    run(people, tmp_path / "out")
    with pytest.raises(PreparedError, match="other images, settings or models"):
        run(people, tmp_path / "out", drawings=True)


def test_a_source_without_a_single_face_is_an_error(tmp_path: Path):
    Image.new("RGB", (256, 256), "green").save((tmp_path / "a").mkdir() or tmp_path / "a/meadow.png")
    with pytest.raises(SourceError, match="None of the 1 images could be used"):
        run(tmp_path / "a", tmp_path / "out")


def test_missing_models_are_named(people: Path, tmp_path: Path):
    with pytest.raises(PreparedError, match="Expected model weights at"):
        run(people, tmp_path / "out", models=tmp_path)


def test_rendered_people_keep_their_labels_and_split(tmp_path: Path):
    folder = tmp_path / "faces"
    folder.mkdir()
    from facecrafter_core.faces.emotion import EMOTIONS
    from facecrafter_core.faces.landmarker import FaceLandmarker

    columns = ["person", "yaw", "pitch", "roll", "valence", "arousal", *EMOTIONS]
    (folder / "columns.json").write_text(json.dumps(columns))
    pictures = np.stack([np.asarray(small(p)) for p in PORTRAITS[:3]])
    faces = [FaceLandmarker().find_face(p) for p in pictures]
    landmarks = np.stack([f.landmarks / 256 for f in faces])
    landmarks[2] = np.nan
    labels = np.array([[person, 5, 6, 7, 0.25, -0.5, 1, 0, 0, 0, 0, 0, 0, 0] for person in (3, 250, 999)], np.float32)
    for name, array in {"images": pictures, "landmarks": landmarks, "blendshapes": np.stack([f.blendshapes for f in faces]), "labels": labels}.items():
        np.save(folder / f"{name}_000000.npy", array)
    prepared = run(folder, tmp_path / "out")
    assert prepared.columns["split"].tolist() == ["test", "validation"] and prepared.columns["yaw"].tolist() == [5, 5]
    assert prepared["emotions"][0][:3].tolist() == [0.25, -0.5, 1.0] and np.array_equal(prepared["landmarks"][:], landmarks[:2].astype(np.float32))


def test_people_of_two_sources_with_one_name_are_not_mixed_up(people: Path, tmp_path: Path):
    shutil.copytree(people, tmp_path / "again/people")
    items = module.list_items([str(people), str(tmp_path / "again/people")], "auto")
    assert len({i.key for i in items}) == 12 and len({i.person for i in items}) == 6
    shutil.copytree(people, tmp_path / "others")
    items = module.list_items([str(people), str(tmp_path / "others") + "/"], "auto")
    assert {i.person.split("/")[0] for i in items} == {"people", "others"}


def test_a_damaged_part_is_made_anew(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    out = tmp_path / "out"
    monkeypatch.setattr(module, "merge", lambda *_: sys.exit("stopped"))
    with pytest.raises(SystemExit):
        run(people, out)
    monkeypatch.undo()
    monkeypatch.setattr(module, "CHUNK", 2)
    part = sorted((out / "parts").glob("*.npz"))[1]
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(PreparedError, match="00000001.npz was damaged"):
        run(people, out)
    assert run(people, out).columns["key"].tolist() == [f"person_{i // 2}/{i}.png" for i in range(6)]


def test_a_kill_while_parts_are_removed_leaves_a_finished_folder(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    monkeypatch.setattr(module, "_tidy", lambda _: None)
    run(people, out)
    assert (out / "parts").exists() and (out / "plan.json").exists()
    monkeypatch.undo()
    run(people, out)
    assert not (out / "parts").exists() and not (out / "plan.json").exists()


def test_parts_of_another_run_are_not_mixed_in(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "merge", lambda *_: sys.exit("stopped"))
    with pytest.raises(SystemExit):
        run(people, tmp_path / "out")
    with pytest.raises(PreparedError, match=r"parts of a run with other.*\(chunk\)"):
        run(people, tmp_path / "out", chunk=3)


def test_another_label_is_another_run(people: Path, tmp_path: Path):
    file = tmp_path / "list.csv"
    for emotion in ("happy", "sad"):
        file.write_text(f"path,person,emotion\n{PORTRAITS[0]},a,{emotion}\n")
        if emotion == "happy":
            assert run(file, tmp_path / "out").columns["label"].tolist() == ["happy"]
    with pytest.raises(PreparedError, match="other images"):
        run(file, tmp_path / "out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said_before_any_work(people: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="device 'cuda' cannot be used"):
        run(people, tmp_path / "out", device="cuda")
    assert not (tmp_path / "out").exists()


def test_short_gpu_memory_is_one_sentence(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Extractor, items: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Extractor, "__call__", full)
    with pytest.raises(PreparedError, match="The memory of cpu was short. Finished chunks are kept.*fewer --processes than 1"):
        run(people, tmp_path / "out")


def test_a_place_that_cannot_be_written_is_named(people: Path):
    with pytest.raises(OutputError, match="Could not make the folder /proc/x"):
        run(people, Path("/proc/x"))


def test_a_worker_that_dies_is_one_sentence(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    monkeypatch.setattr(module, "_start_worker", os.abort)
    with pytest.raises(PreparedError, match="memory was short. Finished chunks are kept"):
        run(people, tmp_path / "out", processes=2)


def test_what_is_wrong_with_a_model_comes_out_of_the_worker(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    models = tmp_path / "models"
    shutil.copytree(DEMO, models, ignore=shutil.ignore_patterns("unet", "samples"))
    shutil.copy(DEMO / "emotion/model.safetensors", models / "identity/model.safetensors")
    with pytest.raises(ModelError, match="does not hold the weights of a face network"):
        run(people, tmp_path / "out", processes=2, models=models)


def test_the_manifest_numbers_people_and_images(people: Path, tmp_path: Path):
    prepared = run(people, tmp_path / "out")
    assert prepared.columns["index"].tolist() == list(range(6)) and prepared.columns["person_number"].tolist() == [0, 0, 1, 1, 2, 2]
    assert prepared.info["image_size"] == 256 and prepared.info["people"] == 3


def test_pairs_are_counted_among_the_images_that_are_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture):
    found = module.report_pairs(make_prepared(tmp_path, people=6, each=4), "demo")  # two of the people are for validation
    assert found["joint"] == (4 * 4 * 3, 0) and 0 < found["emotion"][0] < found["joint"][0]
    assert capsys.readouterr().out.count("16 images of 4 people") == 3
    assert Image.open(draw_summary(tmp_path, found)).width > 500


def test_the_command_says_what_it_found(people: Path, tmp_path: Path):
    out = tmp_path / "out"
    small(PORTRAITS[0]).save(people / "loose.png")
    command = [sys.executable, "-m", "training.prepare", "--family", "demo", "--models", str(DEMO), "--processes", "1", "--out", str(out), "--source"]
    done = subprocess.run([*command, str(people)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "left out beside the people's folders: 1 files, the first is loose.png" in done.stdout
    assert "6 images of 3 people" in done.stdout and "Pairs of the emotion stage: 6 images of 3 people" in done.stdout
    assert Image.open(out / "summary.png").width > 500
    wrong = subprocess.run([*command, str(tmp_path / "nowhere")], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stderr.strip().startswith("error: Expected images at") and "Traceback" not in wrong.stderr


def test_a_source_that_the_system_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["prepare", "--source", "a" * 300, "--out", str(tmp_path / "out"), "--family", "demo", "--models", str(DEMO)])
    with pytest.raises(SystemExit, match="error: a+ cannot be used: File name too long. Correct the path"):
        prepare_command()
