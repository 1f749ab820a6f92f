"""What lies in a folder -> items: the kinds are told apart, people are never mixed up, and what is wrong is said before any work."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from facecrafter_core.errors import PhotoError
from training.sources import SourceError, left_out, load, loose_files, open_source, readable


def picture(path: Path, colour: str = "green") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), colour).save(path)
    return path


def png(colour: str = "green") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_ffhq_as_shipped_is_read_once(tmp_path: Path):
    for folder in ("images1024x1024", "thumbnails128x128"):
        for i in (0, 1, 1000):
            picture(tmp_path / folder / f"{i // 1000 * 1000:05d}/{i:05d}.png")
    kind, items = open_source(tmp_path)
    assert kind == "ffhq" and [i.key for i in items] == ["00000/00000.png", "00000/00001.png", "01000/01000.png"]


def test_ffhq_images_are_people_of_their_own(tmp_path: Path):
    for i in range(2):
        picture(tmp_path / f"00000/{i:05d}.png")
    kind, items = open_source(tmp_path)
    assert kind == "ffhq" and len({i.person for i in items}) == 2


def test_tar_files_left_beside_ffhqs_folders_change_nothing(tmp_path: Path):
    picture(tmp_path / "00000/00000.png")
    tar(tmp_path / "00000.tar", {"00000.png": png()})
    assert [i.key for i in open_source(tmp_path)[1]] == ["00000/00000.png"]


def test_a_stray_picture_does_not_make_strangers_of_a_persons_images(tmp_path: Path):
    picture(tmp_path / "preview.png")
    for i in range(2):
        picture(tmp_path / f"someone/{i}.png")
    kind, items = open_source(tmp_path)
    assert kind == "people" and [i.person for i in items] == ["someone"] * 2
    assert [p.name for p in loose_files(tmp_path, kind)] == [p.name for p in left_out(tmp_path, kind, items)] == ["preview.png"]


def test_five_digits_are_ffhq_only_in_thousands(tmp_path: Path):
    for i in range(2):
        picture(tmp_path / f"00017/{i}.png")
    assert open_source(tmp_path)[0] == "people"


def test_hidden_files_are_left_out(tmp_path: Path):
    picture(tmp_path / "someone/1.png")
    picture(tmp_path / "someone/._1.png")
    picture(tmp_path / "someone/.thumbnails/1.png")
    picture(tmp_path / ".trash/1.png")
    assert [i.key for i in open_source(tmp_path)[1]] == ["someone/1.png"]


def test_pictures_of_every_ending_are_listed_and_other_files_are_named(tmp_path: Path):
    names = ["1.jpg", "2.jfif", "3.avif", "4.gif", "5.JPE", "6.HEIC", "7.webp"]
    for name in names:
        (tmp_path / "alice").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "alice" / name, "PNG")
    (tmp_path / "alice/notes.txt").write_text("")
    (tmp_path / "alice/8.cr2").write_bytes(b"")
    kind, items = open_source(tmp_path)
    assert [i.key for i in items] == [f"alice/{name}" for name in names]
    assert [load(i).shape for i in items] == [(32, 32, 3)] * 7
    assert [p.name for p in left_out(tmp_path, kind, items)] == ["8.cr2", "notes.txt"]


def test_linked_folders_are_entered_and_none_leads_in_circles(tmp_path: Path):
    source, elsewhere = tmp_path / "people", tmp_path / "elsewhere"
    picture(source / "bob/1.png")
    picture(elsewhere / "s.png")
    for link in (source / "bob/session2", source / "dave"):
        link.symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(source / "bob")
    assert [i.key for i in open_source(source, "people")[1]] == ["bob/1.png", "bob/session2/s.png", "dave/back/1.png", "dave/s.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_left_out_and_can_be_printed(tmp_path: Path):
    file = picture(tmp_path / "someone/1.png")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/someone/caf\xe9.png")
    shutil.copy(file, odd)
    kind, items = open_source(tmp_path)
    assert [i.key for i in items] == ["someone/1.png"] and left_out(tmp_path, kind, items) == [Path(odd)]
    assert readable(odd) == f"{tmp_path}/someone/caf\\xe9.png"
    with pytest.raises(SourceError, match="Expected a path in UTF-8, found .*caf.xe9. Rename it"):
        open_source(odd.removesuffix(".png"))


def test_members_of_a_tar_that_are_no_pictures_are_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    items = open_source(tar(tmp_path / "0.tar", {"1.jfif": png(), "1.cls": b"7", "2.npz": b"", "3.md": b""}))[1]
    assert [i.person for i in items] == ["7"] and "left out, no pictures: 2 members, the first is 2.npz" in capsys.readouterr().out


def test_odd_exif_in_a_tar_is_no_obstacle(tmp_path: Path):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 48)).save(buffer, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x02\0\x00\x01\x02\0\4\0\0\x00123\0\x12\1\3\0\1\0\0\0\6\0\0\0" + bytes(4))
    (item,) = open_source(tar(tmp_path / "0.tar", {"1.jpg": buffer.getvalue(), "1.cls": b"7"}))[1]
    assert load(item).shape == (32, 48, 3)


def test_feed_takes_the_expression_from_the_folder(tmp_path: Path):
    picture(tmp_path / "subject1/strong_anger/1.png")
    picture(tmp_path / "subject1/2.png")
    assert [(i.person, i.label) for i in open_source(tmp_path, "feed")[1]] == [("subject1", ""), ("subject1", "strong_anger")]


def clip(file: Path) -> Path:
    """Three seconds of 10 frames: green, red, blue."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 10, (256, 256))
    for colour in np.uint8([[0, 200, 0], [200, 50, 50], [0, 0, 200]]):
        for _ in range(10):
            writer.write(np.broadcast_to(colour[::-1], (256, 256, 3)).copy())
    writer.release()
    return file


def test_a_video_without_its_length_gives_its_seconds(tmp_path: Path):
    """Browsers record such WebM: no duration and no index, in which nothing can be looked up."""
    file = tmp_path / "someone/clip.webm"
    file.parent.mkdir()
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"VP80"), 10, (64, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no WebM")
    for brightness in range(120):
        writer.write(np.full((64, 64, 3), 2 * brightness, np.uint8))
    writer.release()
    whole = bytearray(file.read_bytes())
    duration = whole.index(b"\x44\x89\x88")
    whole[duration : duration + 2] = b"\xec\x89"  # Void instead of Duration
    file.write_bytes(whole)
    items = open_source(tmp_path)[1]
    assert [i.place for i in items] == [5 + 10 * n for n in range(12)]
    assert [float(load(i).mean()) for i in items] == pytest.approx([2 * i.place for i in items], abs=6)


def test_mead_gives_one_frame_a_second(tmp_path: Path):
    clip(tmp_path / "M003/video/front/happy/level_1/001.mp4")
    tar(tmp_path / "M003/video.tar", {"video/front/happy/level_1/001.mp4": b""})  # left from its download
    kind, items = open_source(tmp_path)
    assert kind == "mead" and [(i.person, i.label, i.place) for i in items] == [("M003", "happy", 5), ("M003", "happy", 15), ("M003", "happy", 25)]
    assert abs(load(items[1]).astype(np.float32) - [200, 50, 50]).mean() < 12


def test_items_have_a_stable_order_and_travel_to_other_processes(tmp_path: Path):
    for name in ("b/2.png", "a/10.png", "a/9.png"):
        picture(tmp_path / name)
    items = open_source(tmp_path)[1]
    assert [i.key for i in items] == ["a/10.png", "a/9.png", "b/2.png"]
    assert pickle.loads(pickle.dumps(items)) == items == open_source(tmp_path)[1]


def test_webdataset_shards_are_read_in_place(tmp_path: Path):
    members = {}
    for i, (person, colour) in enumerate((("a", "red"), ("a", "lime"), ("b", "blue"))):
        members |= {f"{i:04d}.png": png(colour), f"{i:04d}.json": json.dumps({"person": person}).encode()}
    whole = tar(tmp_path / "000.tar", members).read_bytes()
    kind, items = open_source(tmp_path)
    assert kind == "webdataset" and [i.person for i in items] == ["a", "a", "b"]
    assert np.array_equal(load(items[2]), np.full((32, 32, 3), [0, 0, 255]))
    (tmp_path / "001.tar").write_bytes(whole[:300])
    with pytest.raises(SourceError, match="no whole tar file"):
        open_source(tmp_path)


@pytest.mark.parametrize("prefix", ["", "./", "part.1/", "./deep/part.1/"])
def test_tar_members_are_matched_by_path_up_to_the_names_first_dot(tmp_path: Path, prefix: str):
    members = {f"{prefix}{i:04d}.{suffix}": data for i in range(3) for suffix, data in (("PNG", png()), ("cls", b"%d\n" % (i // 2)))}
    items = open_source(tar(tmp_path / "0.tar", members))[1]
    assert [i.person for i in items] == ["0", "0", "1"] and len({i.key for i in items}) == 3


def test_tar_folders_name_people_where_no_member_does(tmp_path: Path):
    tar(tmp_path / "0/0_0.tar", {"0_17/1.png": png("red"), "0_17/2.png": png(), "0_18/1.png": png()})
    kind, items = open_source(tmp_path)
    assert kind == "webdataset" and [i.person for i in items] == ["0_17", "0_17", "0_18"]
    assert load(items[0])[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("odd", [b"[" * 100_000, b'{"person": ' + b"9" * 5000 + b"}", b"NaN", b"\xff"])
def test_a_json_that_names_nobody_leaves_the_folders_name(tmp_path: Path, odd: bytes):
    shard = tar(tmp_path / "0.tar", {"anna/1.png": png(), "anna/1.json": odd})
    assert [item.person for item in open_source(shard)[1]] == ["anna"]


def test_a_json_goes_before_a_caption_and_a_damaged_one_after_it(tmp_path: Path):
    members = {"1.png": png(), "1.json": b'{"identity": 0}', "1.txt": b"a photo of a person", "2.png": png(), "2.json": b"{", "2.cls": b"5"}
    assert [i.person for i in open_source(tar(tmp_path / "0.tar", members))[1]] == ["0", "5"]


def test_one_nameless_picture_is_a_person_of_its_own(tmp_path: Path):
    items = open_source(tar(tmp_path / "0.tar", {"1.png": png(), "1.cls": b"7", "2.png": png(), "3.png": png()}))[1]
    assert [i.person for i in items] == ["7", "0.tar/2", "0.tar/3"]


def test_a_shard_in_which_nobody_is_named_is_refused(tmp_path: Path):
    with pytest.raises(SourceError, match="Expected a KEY.json"):
        open_source(tar(tmp_path / "0.tar", {"1.png": png(), "2.png": png()}))


def test_a_compressed_shard_is_refused(tmp_path: Path):
    whole = tar(tmp_path / "0.tar", {"1.png": png(), "1.cls": b"7"})
    whole.write_bytes(gzip.compress(whole.read_bytes()))
    with pytest.raises(SourceError, match="no whole tar file"):
        open_source(tmp_path)


def test_a_damaged_picture_in_a_shard_is_its_own_error(tmp_path: Path):
    whole = png()
    items = open_source(tar(tmp_path / "0.tar", {"a/1.png": b"nothing", "a/2.png": whole[:-30], "a/3.png": whole}))[1]
    for item in items[:2]:
        with pytest.raises(PhotoError, match=f"^{item.key} is (not a picture|damaged)"):
            load(item)
    assert load(items[2]).shape == (32, 32, 3)
    (tmp_path / "0.tar").unlink()
    with pytest.raises(PhotoError, match="No such file"):
        load(items[2])


def test_a_cut_video_loses_only_its_missing_frames(tmp_path: Path):
    file = tmp_path / "someone/clip.avi"
    file.parent.mkdir()
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 64))
    rng = np.random.default_rng(0)
    for _ in range(20):
        writer.write(rng.integers(0, 255, (64, 64, 3), np.uint8))
    writer.release()
    items = open_source(tmp_path)[1]
    assert [i.place for i in items] == [2, 7, 12, 17]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert load(items[0]).shape == (64, 64, 3)
    with pytest.raises(PhotoError, match="Frame 17 of the video clip.avi cannot be read"):
        load(items[3])


def manifest(tmp_path: Path, rows: list[dict[str, str | None]], suffix: str) -> Path:
    file = tmp_path / f"list.{suffix}"
    table = pyarrow.Table.from_pylist(rows)
    (pyarrow.parquet.write_table if suffix == "parquet" else pyarrow.csv.write_csv)(table, file)
    return file


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_names_files_relative_to_itself(tmp_path: Path, suffix: str):
    names = [f"people/person_{i // 2}/{i}.png" for i in range(6)]
    rows = [{"path": name, "person": picture(tmp_path / name).parent.name, "emotion": "happy"} for name in names]
    file = manifest(tmp_path, rows, suffix)
    kind, items = open_source(file)
    assert kind == "manifest" and len(items) == 6 and {i.label for i in items} == {"happy"} and load(items[0]).shape == (32, 32, 3)
    shutil.rmtree(tmp_path / "people")
    with pytest.raises(SourceError, match="6 of the 6 files named in list"):
        open_source(file)


def test_a_manifest_without_its_columns_is_refused(tmp_path: Path):
    (tmp_path / "list.csv").write_text("file,who\na.png,b\n")
    with pytest.raises(SourceError, match="Expected the columns path and person"):
        open_source(tmp_path / "list.csv")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_keeps_names_as_they_are_written(tmp_path: Path, suffix: str):
    rows = [{"path": str(picture(tmp_path / f"{i}.png")), "person": person} for i, person in enumerate(("007", "7"))]
    assert [i.person for i in open_source(manifest(tmp_path, rows, suffix))[1]] == ["007", "7"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_without_a_person_are_counted(tmp_path: Path, suffix: str):
    rows = [{"path": str(picture(tmp_path / f"{i}.png")), "person": person} for i, person in enumerate(("a", None, ""))]
    with pytest.raises(SourceError, match="found 2 rows without, the first is row 2"):
        open_source(manifest(tmp_path, rows, suffix))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_may_give_valence_and_arousal(tmp_path: Path, suffix: str):
    given = [("0.5", "-0.25"), (None, None), ("1.5", "0")]
    rows = [{"path": str(picture(tmp_path / f"{i}.png")), "person": "a", "valence": v, "arousal": a} for i, (v, a) in enumerate(given)]
    assert [i.affect for i in open_source(manifest(tmp_path, rows[:2], suffix))[1]] == [(0.5, -0.25), None]
    with pytest.raises(SourceError, match="Expected valence and arousal from -1 to 1"):
        open_source(manifest(tmp_path, rows, suffix))


def test_a_video_in_a_manifest_gives_one_frame_a_second(tmp_path: Path):
    row = {"path": str(clip(tmp_path / "a.mp4")), "person": "a", "emotion": "happy", "valence": "0.5", "arousal": "0"}
    items = open_source(manifest(tmp_path, [row], "csv"))[1]
    assert [(i.place, i.person, i.label, i.affect) for i in items] == [(n, "a", "happy", (0.5, 0.0)) for n in (5, 15, 25)]


def test_a_single_picture_is_no_source_and_is_not_printed(tmp_path: Path):
    file = picture(tmp_path / "1.png")
    with pytest.raises(SourceError, match="found the single file .*1.png. Give its folder"):
        open_source(file)
    with pytest.raises(SourceError, match="no CSV or Parquet table") as error:
        open_source(file, "manifest")
    assert str(error.value).isascii() and str(error.value).isprintable()


def test_a_path_named_twice_is_refused(tmp_path: Path):
    file = str(picture(tmp_path / "1.png"))
    with pytest.raises(SourceError, match="Expected each path once"):
        open_source(manifest(tmp_path, [{"path": file, "person": p} for p in "ab"], "csv"))


def test_a_file_that_is_no_table_is_refused(tmp_path: Path):
    for name in ("list.csv", "list.parquet"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(SourceError, match="no CSV or Parquet table"):
            open_source(tmp_path / name)


@pytest.mark.parametrize(("make", "message"), [(False, "found nothing there"), (True, "found none. Name its kind with --kind")])
def test_an_empty_or_missing_folder_is_named(tmp_path: Path, make: bool, message: str):
    folder = tmp_path / "empty"
    if make:
        folder.mkdir()
    with pytest.raises(SourceError, match=message):
        open_source(folder)


def test_a_kind_that_does_not_fit_is_refused(tmp_path: Path):
    file = picture(tmp_path / "someone/1.png")
    with pytest.raises(SourceError, match="Expected a CSV or Parquet file"):
        open_source(tmp_path, "manifest")
    with pytest.raises(SourceError, match="Expected a folder for the kind 'people'"):
        open_source(file, "people")
    with pytest.raises(SourceError, match=r"cannot be read as 'synthetic'.*columns\.json"):
        open_source(tmp_path, "synthetic")
    with pytest.raises(SourceError, match="Expected a kind of source out of"):
        open_source(tmp_path, "lfw")


def test_a_rendered_shard_without_its_labels_is_named(tmp_path: Path):
    (tmp_path / "columns.json").write_text(json.dumps(["person"]))
    np.save(tmp_path / "images_000000.npy", np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(SourceError, match="labels_000000.npy"):
        open_source(tmp_path)
