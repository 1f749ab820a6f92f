"""Each metric against a value worked out by hand."""

import math

import numpy as np
import pytest

from facecrafter_core.errors import AssetError, MetricError
from facecrafter_core.faces.landmarks import LEFT_EYE, RIGHT_EYE
from facecrafter_core.metrics import control
from facecrafter_core.metrics.estimators import Landmarks, estimators_of, read_all
from facecrafter_core.metrics.reading import same_as
from facecrafter_core.metrics.statistics import (
    bootstrap_interval,
    frechet_distance,
    paired_difference,
    root_mean,
    wilson_interval,
)


def face(shift: float = 0.0) -> np.ndarray:
    """Landmarks with the eyes 0.2 apart."""
    points = np.zeros((478, 3))
    points[list(RIGHT_EYE), 0], points[list(LEFT_EYE), 0] = 0.4, 0.6
    return points + [shift, 0, 0]


def test_landmarks_moved_by_a_tenth_of_the_eye_distance_are_10_percent_off():
    assert control.landmark_error(np.stack([face(0.02), face()]), np.stack([face(), face()])) == pytest.approx([10, 0])


def test_depth_does_not_count_in_the_landmark_error():
    assert control.landmark_error(face()[None] + [0, 0, 5.0], face()[None]) == pytest.approx([0])


def test_a_known_rotation_is_the_pose_rmse():
    asked = np.array([[0.0, 0, 0], [10, 0, 0]])
    found = asked + [[6, 0, 0], [0, 6, 0]]
    assert control.rmse(control.squared_error(found, asked)) == pytest.approx(math.sqrt(36 / 3))


def test_pictures_without_a_face_are_left_out_of_errors_and_count_as_wrong_identities():
    found = np.array([[np.nan] * 3, [3.0, 0, 0]])
    assert control.rmse(control.squared_error(found, np.zeros((2, 3)))) == pytest.approx(math.sqrt(3))
    assert math.isnan(control.rmse(np.array([np.nan])))
    assert control.own_among(np.array([[np.nan, np.nan], [0, 1.0]]), np.eye(2), np.array([0, 1])).tolist() == [0, 1]


def test_both_definitions_of_the_distribution_error():
    one, other = np.eye(8)[[0]], np.eye(8)[[1]]
    assert control.rmse(control.squared_error(one, other)) == pytest.approx(0.5)
    assert control.rmse(control.distribution_distance(one, other)) == pytest.approx(math.sqrt(2))


def test_class_accuracy_compares_the_most_likely_class():
    asked = np.array([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4]])
    found = np.array([[0.9, 0.1], [0.1, 0.9], [np.nan, np.nan]])
    values = control.same_class(found, asked)
    assert values[:2].tolist() == [1, 0] and math.isnan(values[2])
    assert np.isnan(control.same_class(asked, np.full((3, 2), np.nan))).all(), "what could not be asked for is neither right nor wrong"


def test_a_reference_without_a_face_is_nobodys_nearest():
    gallery = np.array([[np.nan, np.nan], [1.0, 0], [0, 1.0]])
    assert control.own_among(np.array([[1.0, 0], [0, 1.0]]), gallery, np.array([1, 2])).tolist() == [1, 1]


def test_similarity_is_a_cosine():
    assert control.similarity(np.array([[3.0, 4], [1, 0]]), np.array([[1.0, 0], [0, 2]])) == pytest.approx([0.6, 0])


def test_spread_is_the_deviation_within_a_person():
    values = np.array([[1.0], [3], [10], [10], [5], [np.nan]])
    assert control.spread(values, np.array([0, 0, 1, 1, 2, 2])) == pytest.approx([math.sqrt(2), 0])


def test_identical_sets_have_no_distance_and_a_shift_has_its_square():
    features = np.random.default_rng(0).normal(size=(400, 12))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(features, features + 2) == pytest.approx(12 * 4)


def test_the_distance_of_two_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 3))
    a = (a - a.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(a, rowvar=False)).T)  # covariance 1
    assert frechet_distance(a, a * [1, 2, 3]) == pytest.approx(0 + 1 + 4)  # sum of (1 - s)^2


def test_too_few_samples_are_refused():
    for a, b in ((np.zeros((1, 4)), np.zeros((9, 4))), (np.zeros((0, 4)), np.zeros((9, 4))), (np.zeros((9, 3)), np.zeros((9, 4)))):
        with pytest.raises(MetricError, match="at least two features of one width"):
            frechet_distance(a, b)
    with pytest.raises(MetricError, match="at least one, found shapes"):
        control.similarity(np.zeros((0, 4)), np.zeros((0, 4)))
    with pytest.raises(MetricError, match="as many found as asked-for"):
        control.landmark_error(face()[None], np.stack([face(), face()]))


def test_the_interval_of_a_mean_covers_it_about_95_times_in_100():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.normal(size=60), draws=300, seed=i) for i in range(200)]
    assert 0.88 < np.mean([low < 0 < high for low, high in intervals]) < 0.99
    assert bootstrap_interval(np.array([4.0, 4, 4, np.nan]), root_mean) == (2, 2)
    assert all(math.isnan(v) for v in bootstrap_interval(np.array([1.0])))


def test_the_interval_over_people_covers_the_mean_where_pictures_of_a_person_are_alike():
    people = np.repeat(np.arange(30), 5)
    covered = {"people": 0, "pictures": 0}
    for i in range(100):
        rng = np.random.default_rng(i)
        values = rng.normal(size=30)[people] + 0.1 * rng.normal(size=150)
        for what, given in (("people", people), ("pictures", None)):
            low, high = bootstrap_interval(values, draws=200, seed=i, people=given)
            covered[what] += low < 0 < high
    assert covered["people"] >= 86 and covered["pictures"] <= 75
    assert all(math.isnan(v) for v in bootstrap_interval(np.arange(5.0), people=np.zeros(5)))


def test_a_paired_difference_of_rmse_leaves_out_pairs_that_either_lacks():
    people = np.arange(4)
    value, low, high = paired_difference(np.array([9.0, 9, 9, np.nan]), np.array([4.0, 4, 4, 1]), people, root_mean)
    assert (value, low, high) == (1, 1, 1)
    assert all(math.isnan(v) for v in paired_difference(np.array([1.0, np.nan]), np.array([1.0, 1]), np.arange(2)))


def test_the_interval_of_a_rate():
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0
    with pytest.raises(MetricError, match="found 11 out of 10"):
        wilson_interval(11, 10)


def test_at_full_size_hsemotion_reads_because_emonet_conditions(monkeypatch, tmp_path):
    class Reads:
        name, licence = "HSEmotion", "Apache-2.0"

        def look(self, photo, face):
            return photo[0, 0]

        def estimate(self, looks):
            return np.array([[look[0] / 255, 0, 1, *[0] * 7] for look in looks], np.float32).reshape(-1, 10)

    def find(name):
        if name != "hsemotion":
            raise AssetError("nowhere")
        return tmp_path

    monkeypatch.setattr("facecrafter_core.search.find_asset", find)
    monkeypatch.setattr("facecrafter_core.faces.emotion_estimators.HSEmotionEstimator", lambda path: Reads())
    there, missing = estimators_of("full", tmp_path)
    pictures = [np.full((4, 4, 3), v, np.uint8) for v in (0, 51, 255)]
    found = read_all([e for e in there if "emotion" in e.reads], pictures, [object(), None, object()])["emotion"]
    assert found[[0, 2], 0].tolist() == [0, 1] and np.isnan(found[1]).all()
    assert np.isnan(there[-1].read(pictures, [None] * 3)["emotion"]).all()
    assert not [m for m in missing if "emotion" in m.reads] and there[-1].name == "HSEmotion"

    def no_package(path):
        raise AssetError("Run `pip install emotiefflib`.")

    monkeypatch.setattr("facecrafter_core.faces.emotion_estimators.HSEmotionEstimator", no_package)
    assert [m.reason for m in estimators_of("full", tmp_path)[1] if "emotion" in m.reads] == ["Run `pip install emotiefflib`."]


def test_a_demo_base_without_evaluators_is_measured_by_what_is_there(tmp_path):
    there, missing = estimators_of("demo", tmp_path)
    assert Landmarks.name in [e.name for e in there]
    assert {m.reads: "There are no network weights at" in m.reason for m in missing if m.name.startswith("demo")} == {("identity",): True, ("emotion",): True}


def test_an_estimator_that_measures_what_it_conditioned_is_named():
    sentences = same_as({"pose": Landmarks.name, "identity": "one"}, {"pose": Landmarks.name, "identity": "another"})
    assert len(sentences) == 1 and "pose was conditioned and measured by the same estimator" in sentences[0]
