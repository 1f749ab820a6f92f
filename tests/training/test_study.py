"""The user study: a blind page with balanced sets, and answers that become rates."""

from __future__ import annotations

import collections
import json
import sys
from pathlib import Path

import pytest
from study_world import ROWS, make_run

from facecrafter_core.errors import MetricError
from facecrafter_core.metrics.statistics import wilson_interval
from training.study import main, make_study, read_key, table, tally, write_study


@pytest.fixture
def study(tmp_path: Path) -> tuple[dict, dict]:
    runs = {"control": make_run(tmp_path / "control", True), "identity": make_run(tmp_path / "identity", False)}
    return make_study(runs, ROWS, sets=4, per=2, group=2, size=32, seed=0)


def answer(path: Path, study: dict, participant: int, choose, questions=None) -> Path:
    given = [
        {"question": q["id"], "set": s, "option": choose(q["id"], s), "seconds": 1.0}
        for q in study["questions"] if questions is None or q["id"] in questions
        for s in q["order"][: study["per"]]
    ]  # fmt: skip
    path.write_text(json.dumps({"study": study["study"], "participant": participant, "answers": given}))
    return path


def test_all_five_evaluations_of_the_paper_are_asked(study: tuple[dict, dict]):
    content, key = study
    assert [q["name"] for q in key["questions"].values()] == ["pose control", "expression control", "identity", "pose diversity", "expression diversity"]
    shapes = [(len(q["sets"]), q["sets"][0]["shown"] is not None, len(q["sets"][0]["options"]), len(q["sets"][0]["options"][0])) for q in content["questions"]]
    assert shapes == [(4, True, 3, 1)] * 3 + [(4, False, 3, 2)] * 2


def test_the_page_names_no_method_and_the_key_does(study: tuple[dict, dict], tmp_path: Path):
    write_study(*study, tmp_path / "out")
    page = (tmp_path / "out/study.html").read_text()
    for name, row in ROWS:
        assert f'"{name}"' not in page and row not in page
    assert "http" not in page.split("<script>")[1].replace("data:image", "") and page.count("</script>") == 1
    assert {name for q in study[1]["questions"].values() for s in q["sets"] for name in s} == {name for name, _ in ROWS}


def test_methods_stand_in_another_order_in_each_set_and_the_seed_decides(study: tuple[dict, dict], tmp_path: Path):
    orders = {tuple(s) for q in study[1]["questions"].values() for s in q["sets"]}
    assert len(orders) > 3
    runs = {"control": tmp_path / "control", "identity": tmp_path / "identity"}
    assert make_study(runs, ROWS, sets=4, per=2, group=2, size=32, seed=0) == study
    assert make_study(runs, ROWS, sets=4, per=2, group=2, size=32, seed=1)[0]["study"] != study[0]["study"]


def test_the_pictures_of_a_set_are_those_of_its_methods(study: tuple[dict, dict], tmp_path: Path):
    """Each option's picture, decoded, is the file of the method that the key names."""
    import base64
    import io

    import numpy as np
    from PIL import Image

    content, key = study
    known = {}
    for name, row in ROWS:
        for path in (tmp_path / "control/pictures" / row).glob("*.png"):
            known[tuple(np.asarray(Image.open(path))[0, 0])] = name
    for q in content["questions"][:3]:
        for s, names in zip(q["sets"], key["questions"][str(q["id"])]["sets"], strict=True):
            for option, name in zip(s["options"], names, strict=True):
                data = base64.b64decode(content["pictures"][option[0]].split(",")[1])
                colour = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[16, 16].astype(int)
                nearest = min(known, key=lambda c: np.abs(np.array(c, int) - colour).sum())
                assert known[nearest] == name


def test_rates_are_shares_with_wilson_intervals(study: tuple[dict, dict], tmp_path: Path):
    content, key = study

    def prefer(name: str):
        return lambda q, s: key["questions"][str(q)]["sets"][s].index(name)

    files = [answer(tmp_path / f"{i}.json", content, i, prefer(name)) for i, name in enumerate(("one", "one", "two"), 1)]
    result = tally(files, key)
    assert result["participants"] == 3 and not result["unfinished"]
    one = result["rates"]["pose control"]["one"]
    assert (one["chosen"], one["shown"]) == (4, 6) and (one["low"], one["high"]) == wilson_interval(4, 6)
    text = table(result, key["methods"])
    assert "| one | 66.7 [" in text and "| three | 0.0 [" in text and "3 participants" in text


def test_unfinished_answers_are_counted_and_said(study: tuple[dict, dict], tmp_path: Path):
    content, key = study
    result = tally([answer(tmp_path / "7.json", content, 7, lambda q, s: 0, questions=[0])], key)
    assert result["unfinished"] == ["7"] and collections.Counter(r["one"]["shown"] for r in result["rates"].values()) == {2: 1, 0: 4}
    assert "participants 7" in table(result, key["methods"])


def test_answers_that_cannot_count_are_refused(study: tuple[dict, dict], tmp_path: Path):
    content, key = study
    good = answer(tmp_path / "1.json", content, 1, lambda q, s: 0)
    with pytest.raises(MetricError, match="found none"):
        tally([], key)
    with pytest.raises(MetricError, match="Participant 1 is there twice"):
        tally([good, answer(tmp_path / "copy.json", content, 1, lambda q, s: 1)], key)
    with pytest.raises(MetricError, match="another study"):
        tally([answer(tmp_path / "other.json", content | {"study": "else"}, 2, lambda q, s: 0)], key)
    with pytest.raises(MetricError, match="no file of answers"):
        tally([answer(tmp_path / "wild.json", content, 2, lambda q, s: 9)], key)
    with pytest.raises(MetricError, match="no file of answers"):
        tally([answer(tmp_path / "negative.json", content, 2, lambda q, s: -1)], key)
    one = json.loads(good.read_text())
    (tmp_path / "often.json").write_text(json.dumps({**one, "answers": one["answers"] * 6}))
    with pytest.raises(MetricError, match="answers a question twice"):
        tally([tmp_path / "often.json"], key)
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(MetricError, match="no file of answers"):
        tally([tmp_path / "text.json"], key)


@pytest.mark.parametrize(("change", "message"), [
    ({"rows": ROWS[:1]}, "at least two methods"), ({"per": 9}, "at least 9 sets"), ({"group": 3}, "Expected 3 pictures of a person"),
    ({"rows": [("x", "a, + both"), ("y", "a, + emotion")]}, "found none"), ({"rows": [("x", "a, + both"), ("y", "a, + both")]}, "the same one twice"),
    ({"rows": [("x", "a, + both"), ("x", "b, + both")]}, "another name for each --row, found x"),
])  # fmt: skip
def test_studies_that_cannot_be_made_are_refused(study: tuple[dict, dict], tmp_path: Path, change: dict, message: str):
    settings = {"rows": ROWS, "sets": 4, "per": 2, "group": 2, "size": 32, "seed": 0} | change
    with pytest.raises(MetricError, match=message):
        make_study({"control": tmp_path / "control", "identity": tmp_path / "identity"}, **settings)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(MetricError, match="training.evaluate"):
        make_study({"control": tmp_path}, ROWS, 4, 2, 2, 32, 0)


def test_a_key_is_the_file_that_was_written_beside_the_page(study: tuple[dict, dict], tmp_path: Path):
    write_study(*study, tmp_path)
    assert read_key(tmp_path / "study.key.json") == study[1]
    for text in ("{}", "[]", "hello"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(MetricError, match="study.key.json that was written beside study.html"):
            read_key(tmp_path / "other.json")


def test_the_command_says_where_there_are_fewer_sets_and_refuses_numbers_that_ask_nothing(study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    arguments = ["study", "make", "--control", str(tmp_path / "control"), "--row", "one=a, + both", "--row", "two=b, + both", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    assert "Fewer sets than the 30" in capsys.readouterr().out
    for wrong, least in ((("--per", "0"), 1), (("--sets", "-1"), 1), (("--group", "1"), 2), (("--size", "8"), 16)):
        monkeypatch.setattr(sys, "argv", [*arguments, *wrong])
        with pytest.raises(SystemExit):
            main()
        assert f"argument {wrong[0]}: expected at least {least}, found {wrong[1]}" in capsys.readouterr().err
