"""The command line as a user sees it: what it writes, what it prints, and one sentence with exit code 2 for a mistake."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facecrafter_core.cli import _parser, main
from facecrafter_core.errors import OutputError
from facecrafter_core.files import write_picture, write_whole
from facecrafter_core.studio import DEMO_FOLDER

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = sorted((DEMO_FOLDER / "samples").glob("*.jpg"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model folder of the demo's shape, with the sample portraits."""
    from training import export_demo

    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["export_demo", "--untrained", "--out", str(folder)])
        export_demo.main()
    shutil.copytree(DEMO_FOLDER / "samples", folder / "samples")
    return folder


@pytest.fixture(scope="session")
def photo() -> str:
    return str(SAMPLES[0])


def fails(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Runs a command that must fail with code 2 and one line on stderr, and gives that line."""
    assert main([str(a) for a in arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("facecrafter: ") and "Traceback" not in said
    return said


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_help_is_quick_and_names_all_commands():
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-m", "facecrafter_core", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and time.perf_counter() - start < 2
    assert all(command in result.stdout for command in ("demo", "generate", "landmarks", "inspect"))


def test_the_help_loads_no_heavy_package():
    code = "import sys; from facecrafter_core.cli import _parser; _parser().format_help(); print({'torch', 'cv2', 'numpy', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_the_demo_writes_a_contact_sheet_and_the_single_pictures(model, photo, tmp_path, capsys):
    assert main(["demo", "--photo", photo, "--model", str(model), "--out", str(tmp_path), "--steps", "1"]) == 0
    width, height = Image.open(tmp_path / "demo.png").size
    assert width > 3 * 256 and height > 3 * 256
    assert len(files(tmp_path / "demo")) == 9
    assert f"Wrote {tmp_path / 'demo.png'}" in capsys.readouterr().out


def test_generate_makes_as_many_pictures_as_asked_for(model, photo, tmp_path):
    arguments = ["generate", photo, "--driving", str(SAMPLES[3]), "--emotion", "happy:0.7", "--model", str(model), "--steps", "1"]
    assert main([*arguments, "--count", "2", "--seed", "5", "--out", str(tmp_path / "a.png")]) == 0
    assert files(tmp_path) == ["a_5.png", "a_6.png"]
    assert main([*arguments, "--seed", "6", "--out", str(tmp_path / "b.png")]) == 0
    again, first = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("b.png", "a_6.png"))
    assert again.shape == (256, 256, 3) and np.abs(again - first).max() <= 1  # the seed decides, whatever the batch is


def test_landmarks_written_are_landmarks_read(model, photo, tmp_path, capsys):
    assert main(["landmarks", str(SAMPLES[3]), "--out", str(tmp_path / "l.npy"), "--size", "256"]) == 0
    assert np.load(tmp_path / "l.npy").shape == (478, 3) and Image.open(tmp_path / "l.png").size == (256, 256)
    assert "yaw" in capsys.readouterr().out
    common = ["generate", photo, "--model", str(model), "--steps", "1"]
    assert main([*common, "--landmarks", str(tmp_path / "l.npy"), "--out", str(tmp_path / "from_file.png")]) == 0
    assert main([*common, "--driving", str(SAMPLES[3]), "--out", str(tmp_path / "from_photo.png")]) == 0
    np.testing.assert_array_equal(*(np.asarray(Image.open(tmp_path / f"from_{n}.png")) for n in ("file", "photo")))


def test_names_outside_of_the_terminals_code_page_do_not_end_a_command(photo, tmp_path):
    out = tmp_path / "花.npy"
    command = [sys.executable, "-m", "facecrafter_core", "landmarks", photo, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, text=True)
    assert done.returncode == 0 and out.is_file() and out.with_suffix(".png").is_file() and "\\u82b1.npy" in done.stdout


def test_inspect_tells_the_size_and_the_family(model, capsys):
    assert main(["inspect", str(model / "adapter.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "parameters" in said and "demo" in said and "neutral, happy, sad" in said


def test_wrong_photos_are_said_in_one_sentence(model, tmp_path, capsys):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (300, 200), "grey").save(blank)
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    out = tmp_path / "out" / "x.png"
    for photo, words in ((blank, "No face"), (text, "not a picture"), (tmp_path / "none.png", "There is no photo"), (tmp_path, "is a folder")):
        assert words in fails(capsys, "generate", photo, "--model", model, "--out", out)
    assert not out.parent.exists()


@pytest.mark.parametrize("arguments", [("generate", "{photo}", "{blank}"), ("generate", "{photo}", "--driving", "{blank}"),
                                       ("generate", "{photo}", "--emotion-from", "{blank}"), ("landmarks", "{blank}"), ("demo", "--photo", "{blank}")])  # fmt: skip
def test_a_photo_without_a_face_is_named(model, photo, tmp_path, capsys, arguments):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (300, 200), "grey").save(blank)
    more = [] if arguments[0] == "landmarks" else ["--model", model]
    said = fails(capsys, *(a.format(photo=photo, blank=blank) for a in arguments), *more, "--out", tmp_path / "x.png")
    assert said.startswith(f"facecrafter: {blank}: No face was found in the photo (300 x 200 pixels).")


def test_an_emotion_comes_from_another_photo(model, photo, tmp_path, capsys):
    out = tmp_path / "moved.png"
    assert main(["generate", photo, "--emotion-from", str(SAMPLES[3]), "--model", str(model), "--steps", "1", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert out.is_file() and "Emotion read by demo emotion estimator (licence: Apache-2.0)" in said and "Emotion: " in said


def test_an_estimator_without_weights_is_said(model, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("facecrafter_core.search._search_folders", [])
    monkeypatch.setattr("facecrafter_core.search.cache_folder", lambda: tmp_path)
    said = fails(capsys, "generate", photo, "--emotion-from", photo, "--estimator", "emonet", "--model", model, "--out", tmp_path / "x.png")
    assert "CC BY-NC-ND 4.0" in said and "facecrafter assets download emonet" in said
    assert not (tmp_path / "x.png").exists()


def test_wrong_emotions_are_said_before_anything_is_loaded(photo, capsys):
    for arguments, words in (
        (["--emotion", "joy"], "Expected an emotion out of"),
        (["--emotion", "happy:2"], "intensity from 0 to 1"),
        (["--emotion", "happy:much"], "NAME:INTENSITY"),
        (["--valence", "0.5"], "together"),
        (["--emotion", "sad", "--valence", "0", "--arousal", "0"], "either"),
        (["--emotion", "sad", "--emotion-from", "x.jpg"], "--emotion-from alone"),
        (["--valence", "0", "--arousal", "0", "--emotion-from", "x.jpg"], "--emotion-from alone"),
    ):
        assert words in fails(capsys, "generate", photo, "--model", "nowhere", *arguments)


def test_wrong_files_are_said_in_one_sentence(model, photo, tmp_path, capsys):
    text = tmp_path / "adapter.safetensors"
    text.write_text("not an adapter")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes((model / "adapter.safetensors").read_bytes()[:5000])
    np.save(tmp_path / "points.npy", np.zeros((68, 2)))
    assert "not a whole safetensors file" in fails(capsys, "inspect", text)
    assert "not a whole safetensors file" in fails(capsys, "inspect", truncated)
    assert "no FaceCrafter adapter" in fails(capsys, "inspect", model / "unet" / "diffusion_pytorch_model.safetensors")
    assert "no adapter file" in fails(capsys, "inspect", tmp_path / "gone.safetensors")
    assert "not a landmark file" in fails(capsys, "generate", photo, "--model", model, "--landmarks", text)
    assert "[478, 3]" in fails(capsys, "generate", photo, "--model", model, "--landmarks", tmp_path / "points.npy")
    assert "not a FaceCrafter base" in fails(capsys, "generate", photo, "--model", tmp_path)
    assert "device" in fails(capsys, "generate", photo, "--model", model, "--device", "abacus")


def test_a_place_that_cannot_be_written_is_said_before_anything_is_loaded(photo, tmp_path, capsys):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert "ending in .png" in fails(capsys, "generate", photo, "--model", "nowhere", "--out", tmp_path / "x.txt")
    assert "is a folder" in fails(capsys, "generate", photo, "--model", "nowhere", "--out", folder)
    assert "no folder in which you may write" in fails(capsys, "generate", photo, "--model", "nowhere", "--out", in_the_way / "x.png")
    assert "no folder in which you may write" in fails(capsys, "demo", "--model", "nowhere", "--out", in_the_way)


@pytest.mark.parametrize(("command", "option"), [
    ("inspect", ()), ("landmarks", ()), ("assets list", ("--folder",)), ("landmarks PHOTO", ("--out",)),
    *(("generate PHOTO", (option,)) for option in ("--landmarks", "--driving", "--model", "--adapter", "--out")),
])  # fmt: skip
def test_a_path_that_the_system_refuses_is_one_sentence(photo, tmp_path, command, option, capsys):
    words = [photo if word == "PHOTO" else word for word in command.split()]
    assert "File name too long" in fails(capsys, *words, *option, tmp_path / (300 * "a") / "x.png")


def test_the_output_must_be_a_picture_file(model, photo, tmp_path, capsys):
    assert "ending in .png" in fails(capsys, "generate", photo, "--model", model, "--steps", 1, "--out", tmp_path / "x.txt")
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert "Could not write" in fails(capsys, "landmarks", photo, "--out", in_the_way / "x.npy")


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--count", "-1"], ["--seed", "x"], ["--mode", "sum"], ["--refresh", "0"], ["--face", "left"], ["--face", "-1"], ["--driving-face", "-1"], ["--weight-identity", "nan"]])
def test_numbers_out_of_range_show_the_usage(photo, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["generate", photo, *arguments])
    assert stopped.value.code == 2 and arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "low", "high"),
    [
        *(("--alpha-landmark", 0, 2), ("--alpha-emotion", 0, 2), ("--weight-identity", 0, 20), ("--weight-landmark", 0, 20), ("--weight-emotion", 0, 20)),
        *(("--valence", -1, 1), ("--arousal", -1, 1), ("--steps", 1, 1000), ("--refresh", 1, 1000), ("--count", 1, 1000), ("--seed", 0, 2**64 - 1)),
        ("--size", 16, 8192),
    ],
)
def test_each_number_has_a_range_that_is_told_at_once(photo, tmp_path, option: str, low: int, high: int, capsys):
    command = ["landmarks" if option == "--size" else "generate", photo]
    for wrong in (low - 1, high + 1, "much", "nan"):
        with pytest.raises(SystemExit):
            main([*command, option, str(wrong), "--out", str(tmp_path / "new" / "x.png")])
        assert f"argument {option}: expected a" in (said := capsys.readouterr().err) and f"from {low} to {high}, found '{wrong}'" in said
    for right in (low, high):
        assert _parser().parse_args([*command, option, str(right)])
    assert not files(tmp_path)


def test_the_last_seed_goes_on_from_0(model, photo, tmp_path):
    last = str(2**64 - 1)
    assert main(["generate", photo, "--model", str(model), "--steps", "1", "--count", "2", "--seed", last, "--out", str(tmp_path / "a.png")]) == 0
    assert files(tmp_path) == ["a_0.png", f"a_{last}.png"]


def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("before")

    def fill(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device"):
        write_whole(path, fill)
    assert path.read_text() == "before" and files(tmp_path) == ["kept.txt"]
    write_picture(tmp_path / "next.png", np.zeros((8, 8, 3), np.uint8))
    assert files(tmp_path) == ["kept.txt", "next.png"]


def test_what_a_killed_process_has_half_written_is_removed_by_the_next_that_writes_there(tmp_path):
    path = tmp_path / "kept[1].txt"
    kill = f"import os; from facecrafter_core.files import write_whole; write_whole({str(path)!r}, lambda file: os._exit(9))"
    killed = [subprocess.run([sys.executable, "-c", kill], cwd=ROOT).returncode for _ in range(2)]
    old, fresh = tmp_path.iterdir()
    running, another = path.with_name(f".{path.name}.part{os.getppid()}"), path.with_name(".other.txt.part" + old.suffix[5:])
    for file in (old, running, another):
        file.touch()
        os.utime(file, (0, time.time() - 3600))
    write_whole(path, lambda file: file.write(b"now"))
    assert killed == [9, 9] and files(tmp_path) == sorted(p.name for p in (fresh, running, another, path))
