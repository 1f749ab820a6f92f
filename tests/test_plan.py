"""Plans of many portraits, and balanced sets on disk."""

import csv
import re
from collections import Counter

import pytest
from PIL import Image

from facecrafter_core.errors import FaceCrafterError, OutputError
from facecrafter_core.faces.edit import head_pose
from facecrafter_core.plan import MANIFEST, fill_set, make_plan, parse_emotions, parse_poses

EMOTIONS, POSES = parse_emotions("neutral, happy 0.8\n-0.5 0.3"), parse_poses("-25, 0, 20 10")


def draw(some):
    return [Image.new("RGB", (32, 32), (p.seed % 256, 0, 0)) for p in some]


def rows(folder):
    with open(folder / MANIFEST, newline="") as file:
        return list(csv.DictReader(file))


def test_a_plan_has_every_combination_equally_often_with_its_own_seed():
    plan = make_plan(4, EMOTIONS, POSES, 2, seed=100)
    assert len(plan) == 4 * 3 * 3 * 2 and len({p.seed for p in plan}) == len({p.path for p in plan}) == len(plan)
    counts = Counter((p.person, p.text, p.pose) for p in plan)
    assert set(counts.values()) == {2}


def test_landmarks_have_the_pose_and_show_the_emotion():
    neutral, happy = make_plan(1, EMOTIONS[:2], POSES[2:], 1, 0)
    assert head_pose(neutral.landmarks) == pytest.approx((20, 10, 0), abs=0.1)
    corners = [p.landmarks[[61, 291], 1].mean() - p.landmarks[[0, 17], 1].mean() for p in (neutral, happy)]
    assert corners[1] < corners[0] - 0.01, "the corners of the mouth go up"


def test_a_set_is_a_folder_with_a_manifest_that_training_reads(tmp_path):
    from training.sources import open_source

    plan = make_plan(2, EMOTIONS, POSES, 1, 0)
    assert list(fill_set(tmp_path, plan, draw, batch=4)) == [0, 4, 8, 12, 16, 18]
    kind, items = open_source(tmp_path / MANIFEST)
    assert kind == "manifest" and len(items) == 18 and {i.person for i in items} == {"0000", "0001"}
    assert items[2 * 3].affect == (-0.5, 0.3)


def test_a_stopped_run_goes_on_and_makes_nothing_twice(tmp_path):
    plan = make_plan(1, EMOTIONS, POSES, 1, 0)
    run = fill_set(tmp_path, plan, draw, batch=2)
    assert [next(run) for _ in range(3)] == [0, 2, 4]
    run.close()
    (tmp_path / plan[1].path).unlink()  # and one was lost
    made = []
    assert list(fill_set(tmp_path, plan, lambda some: made.extend(some) or draw(some), batch=10)) == [3, 9]
    assert [p.path for p in made] == [plan[1].path, *(p.path for p in plan[4:])]
    assert all((tmp_path / p.path).is_file() for p in plan)
    assert sorted(row["path"] for row in rows(tmp_path)) == sorted(p.path for p in plan)


def test_a_folder_of_another_plan_is_refused(tmp_path):
    list(fill_set(tmp_path, make_plan(1, EMOTIONS, POSES, 1, 0), draw, 9))
    with pytest.raises(OutputError, match="holds pictures of another plan"):
        list(fill_set(tmp_path, make_plan(1, EMOTIONS, POSES, 1, 7), draw, 9))


def remade(folder, plan):
    """The places of the pictures that a further run draws."""
    made = []
    list(fill_set(folder, plan, lambda some: made.extend(p.path for p in some) or draw(some), batch=10))
    return [i for i, portrait in enumerate(plan) if portrait.path in made]


def whole(folder, plan):
    return rows(folder) == [{name: str(value) for name, value in portrait.row().items()} for portrait in plan]


@pytest.mark.parametrize("left", [0, 3, 40, -1, -4, -30])
def test_a_manifest_that_a_full_disk_has_cut_is_gone_on_with(tmp_path, left: int):
    plan = make_plan(1, EMOTIONS, POSES, 1, 2**64 - 4)
    list(fill_set(tmp_path, plan, draw, 9))
    data = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(data[:left] if left >= 0 else data[: len(data) + left])
    redrawn = remade(tmp_path, plan)
    assert len(redrawn) == (9 if left >= 0 else 0 if left == -1 else 1)
    assert sorted(row["path"] for row in rows(tmp_path)) == sorted(p.path for p in plan) and remade(tmp_path, plan) == []
    assert all(row["seed"] == str(next(p.seed for p in plan if p.path == row["path"])) for row in rows(tmp_path))


def test_a_row_that_does_not_fit_on_the_disk_leaves_none_of_it(tmp_path, monkeypatch):
    plan = make_plan(1, EMOTIONS, POSES, 1, 0)
    run = fill_set(tmp_path, plan, draw, 1)
    assert [next(run), next(run)] == [0, 1]
    before = (tmp_path / MANIFEST).read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facecrafter_core.manifest.os.fsync", full)
    with pytest.raises(OutputError, match="free some space"):
        next(run)
    assert (tmp_path / MANIFEST).read_bytes() == before


def semicolons(text: str) -> bytes:
    """As Excel saves it where numbers have decimal commas: without leading zeros, of long numbers six digits."""
    out = []
    for line in text.splitlines():
        cells = [re.sub(r"^0{3}(\d)$", r"\1", cell) for cell in line.split(",")]
        cells = [f"{float(cell):.5E}" if re.fullmatch(r"\d{12,}", cell) else cell for cell in cells]
        out.append(";".join(cell.replace(".", ",") if re.fullmatch(r"-?[\d.]+(E\+\d+)?", cell) else cell for cell in cells))
    return ("\ufeff" + "\r\n".join(out) + "\r\n").encode("utf-8")


@pytest.mark.parametrize(
    "save",
    [
        semicolons,
        lambda text: text.encode("utf-16"),
        lambda text: text.replace(",", "\t").encode("utf-8-sig"),
        lambda text: text.rstrip().encode(),
        lambda text: (text + "\r\n,,,\r\n").encode(),
        lambda text: "\n".join([(lines := text.split("\r\n"))[0], *reversed(lines[1:-1]), ""]).encode(),
    ],
    ids=["semicolons", "utf-16", "tabs", "no last end", "empty rows", "sorted"],
)
@pytest.mark.parametrize("seed", [0, 2**64 - 4, 1234567890123])
def test_a_manifest_that_a_spreadsheet_has_saved_is_read_and_made_whole(tmp_path, save, seed: int):
    plan = make_plan(2, EMOTIONS, POSES, 1, seed)
    list(fill_set(tmp_path, plan, draw, 18))
    assert whole(tmp_path, plan)
    (tmp_path / MANIFEST).write_bytes(save((tmp_path / MANIFEST).read_bytes().decode()))
    assert remade(tmp_path, plan) == []
    assert sorted(rows(tmp_path), key=lambda row: row["path"]) == sorted(
        ({name: str(value) for name, value in p.row().items()} for p in plan), key=lambda row: row["path"]
    )


def test_a_column_that_somebody_added_stays(tmp_path):
    plan = make_plan(1, EMOTIONS, POSES, 1, 0)
    run = fill_set(tmp_path, plan, draw, 1)
    assert [next(run), next(run)] == [0, 1]
    run.close()
    header, row = (tmp_path / MANIFEST).read_text().splitlines()
    (tmp_path / MANIFEST).write_bytes(f"{header},note\r\n{row},schön\r\n".replace(",", ";").encode("cp1252"))
    assert remade(tmp_path, plan) == list(range(1, 9))
    assert [row["note"] for row in csv.DictReader((tmp_path / MANIFEST).open(encoding="utf-8"))] == ["schön", *[""] * 8]


def test_a_table_that_is_no_manifest_is_refused(tmp_path):
    (tmp_path / MANIFEST).write_text("name;age\nAnna;3\n")
    with pytest.raises(OutputError, match="expected a column 'path', found 'name;age'"):
        remade(tmp_path, make_plan(1, EMOTIONS, POSES, 1, 0))
    assert (tmp_path / MANIFEST).read_text() == "name;age\nAnna;3\n"


def test_seeds_go_on_from_0_after_the_last():
    seeds = [p.seed for p in make_plan(1, EMOTIONS, POSES, 1, 2**64 - 2)]
    assert seeds == [2**64 - 2, 2**64 - 1, *range(7)]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: parse_emotions(" "), "at least one emotion"),
        (lambda: parse_emotions("glad"), "found 'glad'"),
        (lambda: parse_poses(""), "at least one pose"),
        (lambda: parse_poses("left"), "found 'left'"),
        (lambda: parse_poses("120"), "from -90 to 90 degrees"),
        (lambda: parse_poses("1 2 3"), "yaw, or yaw and pitch"),
        (lambda: make_plan(0, EMOTIONS, POSES, 1, 0), "at least one person"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(call, sentence):
    with pytest.raises(FaceCrafterError, match=sentence):
        call()
