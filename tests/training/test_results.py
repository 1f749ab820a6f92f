"""Tables and pictures from a benchmark's readings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.compare import differences, table_of_differences
from training.results import METRICS, grid_pictures, summarise, table


class Plan60:
    """60 pictures of two people, no targets."""

    identity, targets = np.arange(60) % 2, ()

    def __len__(self) -> int:
        return 60


def test_each_method_and_condition_of_a_grid_is_a_picture(tmp_path: Path):
    def row(value: float) -> dict:
        return {name: {"value": value, "low": value, "high": value} for name in ("landmark_error", "valence_error", "same_class", "similarity")}

    both = {f"{method}, + both, w {a} {b}": row(a * b) for method in ("one", "two") for a in (1, 2) for b in (1, 2, 3)}
    grid_pictures({**both, "one, + landmarks, w 1 -": row(1), "one, + landmarks, w 2 -": row(2), "one, identity only": row(1)}, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["grid one, + both.png", "grid one, + landmarks.png", "grid two, + both.png"]
    assert Image.open(tmp_path / "grid one, + both.png").size[0] > 500


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


def test_a_table_says_where_a_metric_had_fewer_values():
    flame = np.r_[np.full(50, np.nan), np.zeros(10)]
    columns = {"found": np.ones(60), "similarity": np.r_[0.5, np.full(59, np.nan)]}
    reading = {"pose": np.random.default_rng(0).normal(size=(60, 3)), "expression": np.zeros((60, 52)), "lpips": np.array([0.25])}
    reading |= {"flame_pose": flame[:, None], "flame_expression": flame[:, None]}
    found = summarise(columns, Plan60(), reading)
    assert found["similarity"] == {"value": 0.5, "low": None, "high": None, "count": 1, "of": 60}
    text = table({"ours": found}, [("ours", 0, {})], {"LPIPS": "LPIPS (AlexNet)"}, [], {}, ["18 photos looked at."])
    assert "| 0.500 |" in text and "ID-Sim could be measured in fewer: ours 1 of 60 pictures." in text
    assert "LPIPS between a person's pictures could be measured in fewer: ours 1 of 2 people." in text
    assert "Measured by: LPIPS: LPIPS (AlexNet)." in text and "- 18 photos looked at." in text and "over people for spreads" in text


def test_one_picture_each_is_too_few_for_a_spread():
    plan = Plan60()
    plan.identity = np.arange(60)
    found = summarise({"found": np.ones(60)}, plan, {"pose": np.zeros((60, 3)), "expression": np.zeros((60, 52)), "lpips": np.array([])})
    assert {name: found[name] for name in ("pose_spread", "lpips")} == dict.fromkeys(("pose_spread", "lpips"), {"missing": "too few: nobody has two usable pictures (--each 2 or more)"})


def several_of_each(people: int = 40, each: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Whose picture, and a likeness that is a person's own but for a little."""
    rng = np.random.default_rng(0)
    identity = np.repeat(np.arange(people), each)
    return identity, 0.7 + 0.1 * rng.normal(size=people)[identity] + 0.001 * rng.normal(size=people * each)


def test_intervals_of_likeness_are_over_people():
    class Plan200(Plan60):
        identity, likeness = several_of_each()

        def __len__(self) -> int:
            return 200

    likeness = Plan200.likeness
    columns = {"found": np.ones(200), "similarity": likeness, "landmark_error": likeness}
    found = summarise(columns, Plan200(), {"pose": np.zeros((200, 3)), "expression": np.zeros((200, 52))})
    width = {name: found[name]["high"] - found[name]["low"] for name in ("similarity", "landmark_error")}
    people = likeness.reshape(40, 5).mean(1)
    assert width["similarity"] == pytest.approx(2 * 1.96 * people.std(ddof=1) / 40**0.5, rel=0.1)
    assert width["similarity"] > 2 * width["landmark_error"]  # as if the 200 pictures were of 200 people
    assert "over pictures (over people for spreads and LPIPS and for likeness)" in table({"ours": found}, [("ours", 0, {})], {}, [], {})


def test_methods_that_share_pairs_and_seeds_are_compared_pair_by_pair():
    identity, likeness = several_of_each()
    rng = np.random.default_rng(1)
    columns = {
        "pretrained, + both": {"similarity": likeness, "found": np.ones(200)},
        "joint, + both": {"similarity": likeness + 0.01 + 0.002 * rng.normal(size=200), "found": np.ones(200)},
        "joint, + landmarks": {"similarity": likeness, "found": np.ones(200)},
        "Arc2Face": {"similarity": likeness, "found": np.ones(200)},
    }
    found = differences(columns, identity, METRICS)
    assert list(found) == ["joint - pretrained, + both"]
    values = found["joint - pretrained, + both"]["similarity"]
    assert values["value"] == pytest.approx(0.01, abs=5e-4) and 0.009 < values["low"] < values["value"] < values["high"] < 0.011
    text = table_of_differences(found, METRICS)
    assert "| joint - pretrained, + both | **+0.010** [+0.010, +0.010] | +0.0 [+0.0, +0.0] |" in text and "ID-Sim" in text and "over people" in text
    assert table_of_differences(differences({"joint, + both": columns["joint, + both"]}, identity, METRICS), METRICS) == ""


def test_who_judged_the_demo_is_said():
    found = summarise({"found": np.ones(60)}, Plan60(), {"pose": np.zeros((60, 3)), "expression": np.zeros((60, 52))})
    text = {name: table({"ours": found}, [("ours", 0, {})], {"identity": name}, [], {}) for name in ("demo identity evaluator", "FaceNet")}
    assert ["other networks of the same rendered world" in t for t in text.values()] == [True, False]
