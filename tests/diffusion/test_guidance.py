"""Guidance (Eq. 6) as a table of coefficients."""

import math
import random

import pytest
import torch

from facecrafter_core.diffusion.guidance import (
    APPROXIMATIONS,
    ROWS,
    Guidance,
    GuidedRun,
    combine,
    guidance_coefficients,
)


def eq6_in_float64(e: dict[str, float], w_id: float, w_lmk: float, w_emo: float) -> float:
    return (
        e["none"]
        + w_id * (e["id"] - e["none"])
        + w_lmk * (e["id+lmk"] - e["id"])
        + w_emo * (e["id+emo"] - e["id"])
    )


def test_the_papers_weights():
    table = guidance_coefficients(Guidance(), sigma=1.0)
    assert table == {"none": -1.5, "id": -1.5, "id+lmk": 2.0, "id+emo": 2.0}


def test_equals_eq6_for_random_weights_and_predictions():
    draw = random.Random(0)
    for _ in range(200):
        weights = [draw.uniform(-3, 6) for _ in range(3)]
        e = {row: draw.gauss(0, 1) for row in ROWS}
        table = guidance_coefficients(Guidance(*weights), sigma=draw.uniform(0, 15))
        assert combine(e, table) == pytest.approx(eq6_in_float64(e, *weights), abs=1e-12)


@pytest.mark.parametrize("mode", ["paper", "joint"])
def test_coefficients_sum_to_one(mode: str):
    draw = random.Random(1)
    for _ in range(100):
        guidance = Guidance(*(draw.uniform(-2, 5) for _ in range(3)), mode=mode, landmark_interval=(0.5, 5))
        table = guidance_coefficients(guidance, draw.uniform(0, 15), draw.random() < 0.5, draw.random() < 0.5)
        assert sum(table.values()) == pytest.approx(1.0)


def test_a_condition_that_is_absent_leaves_plain_classifier_free_guidance():
    assert guidance_coefficients(Guidance(), 1.0, False, False) == {"none": -1.5, "id": 2.5}


def test_rows_with_coefficient_zero_are_not_in_the_table():
    assert guidance_coefficients(Guidance(1.0, 0.0, 0.0), 1.0) == {"id": 1.0}
    assert guidance_coefficients(Guidance(4.0, 2.0, 2.0), 1.0) == {"none": -3.0, "id+lmk": 2.0, "id+emo": 2.0}


def test_joint_mode_needs_three_rows_and_orders_them():
    table = guidance_coefficients(Guidance(mode="joint"), 1.0)
    assert table == {"none": -1.5, "id": 0.5, "id+lmk+emo": 2.0}


def test_joint_mode_with_one_condition_is_the_papers():
    assert guidance_coefficients(Guidance(mode="joint"), 1.0, has_emotion=False) == guidance_coefficients(Guidance(), 1.0, has_emotion=False)


def test_an_interval_switches_its_weight_off_outside():
    guidance = Guidance(emotion_interval=(1.0, 5.0), identity_interval=(0.0, 5.0))
    assert "id+emo" in guidance_coefficients(guidance, 1.0)
    assert "id+emo" not in guidance_coefficients(guidance, 0.9)
    assert guidance_coefficients(guidance, 6.0) == {"id": -1.0, "id+lmk": 2.0}


def test_each_approximation_evaluates_fewer_rows():
    def rows(**options) -> int:
        guidance, evaluated = Guidance(**options), 0
        run = GuidedRun(guidance.refresh)
        for sigma in (14.0, 9.0, 5.0, 2.0, 0.5, 0.1):
            coefficients = run.coefficients(guidance_coefficients(guidance, sigma))
            run.combine(dict.fromkeys(coefficients, 1.0), coefficients)
            evaluated += len(coefficients)
        return evaluated

    assert {name: rows(**options) for name, options in APPROXIMATIONS.items()} == {
        "joint": 18,
        "refresh": 15,
        "joint and refresh": 12,
        "joint and refresh 3": 10,
        "joint and refresh 5": 10,
    }
    assert rows() == 24


def test_refresh_adds_the_last_difference_in_the_calls_between():
    run, table = GuidedRun(2), guidance_coefficients(Guidance(), 1.0)
    first = {"none": 0.5, "id": 1.0, "id+lmk": 2.0, "id+emo": 3.0}
    coefficients = run.coefficients(table)
    assert coefficients == table and list(coefficients) == [row for row in ROWS if row in table]
    guided = run.combine(first, coefficients)
    assert guided == combine(first, table)
    coefficients = run.coefficients(table)
    assert list(coefficients) == ["id"], "one row between"
    assert run.combine({"id": 1.5}, coefficients) == 1.5 + guided - first["id"]
    assert run.coefficients(table) == table, "and then all again"


def test_refresh_needs_the_row_id_even_where_its_coefficient_is_zero():
    table = guidance_coefficients(Guidance(4.0, 2.0, 2.0), 1.0)
    assert "id" not in table
    run = GuidedRun(2)
    assert run.coefficients(table) == {"none": -3.0, "id": 0.0, "id+lmk": 2.0, "id+emo": 2.0}


def test_rows_with_a_condition_stand_together():
    for condition in ("lmk", "emo"):
        places = [i for i, row in enumerate(ROWS) if condition in row]
        assert places == list(range(places[0], places[-1] + 1))


def test_prediction_type_does_not_matter():
    """Eq. 6 on v predictions gives the v of Eq. 6 on noise predictions, since coefficients sum to 1."""
    torch.manual_seed(0)
    a, x = 0.3, torch.randn(4)
    noise = {row: torch.randn(4) for row in ROWS}
    v = {row: (math.sqrt(a) * x * 0 + (e - math.sqrt(1 - a) * x) / math.sqrt(a)) for row, e in noise.items()}
    table = guidance_coefficients(Guidance(), 1.0)
    torch.testing.assert_close((combine(noise, table) - math.sqrt(1 - a) * x) / math.sqrt(a), combine(v, table), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"mode": "both"}, "Expected a guidance mode"),
        ({"identity": math.nan}, "identity guidance weight must be a finite number"),
        ({"landmark_interval": (3.0, 1.0)}, "low <= high"),
        ({"refresh": 0}, "refreshed in every call"),
    ],
)
def test_wrong_guidance_is_refused(arguments: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        Guidance(**arguments)


def test_nothing_to_combine_is_refused():
    with pytest.raises(ValueError, match="at least one guidance row"):
        combine({}, {})


def test_pictures_may_have_weights_of_their_own():
    table = guidance_coefficients(Guidance(2.5, (2.0, 0.0, 1.0), 0.0), 1.0)
    assert table == {"none": (-1.5,) * 3, "id": (0.5, 2.5, 1.5), "id+lmk": (2.0, 0.0, 1.0)}
    e = {row: torch.randn(3, 4, 2, 2) for row in ROWS}
    together = combine(e, table)
    for i, w in enumerate((2.0, 0.0, 1.0)):
        alone = combine({row: p[i] for row, p in e.items()}, guidance_coefficients(Guidance(2.5, w, 0.0), 1.0))
        torch.testing.assert_close(together[i], alone)


def test_fewer_weights_than_pictures_are_repeated():
    e = {"id": torch.ones(4, 1, 1, 1), "id+lmk": torch.full((4, 1, 1, 1), 2.0)}
    guided = combine(e, guidance_coefficients(Guidance(1.0, (0.0, 1.0), 0.0), 1.0))
    assert guided.flatten().tolist() == [1, 2, 1, 2]


def test_weights_that_are_no_numbers_are_refused():
    for weight in ((), (1.0, math.nan)):
        with pytest.raises(ValueError, match="landmark guidance weight must be a finite number"):
            Guidance(2.5, weight)
