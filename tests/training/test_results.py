"""Tables and pictures from a benchmark's readings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.results import grid_pictures, summarise, table


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
