"""Which pictures of generated people are kept, what is read in them, and how a folder of them goes on after a stop."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from facecrafter_core.errors import OutputError
from facecrafter_core.faces.blendshapes import BLENDSHAPES
from facecrafter_core.faces.edit import neutral_landmarks
from facecrafter_core.faces.emotion import EMOTIONS, VALENCE_AROUSAL
from training.data import load_faces
from training.people.directions import BREAK_THE_FACE, SCORES, Directions
from training.people.edits import CLASS_SHARES, Edit, draw_edit, shift
from training.people.generate import COLUMNS, generate
from training.people.people import ADULT, FEWEST, REASONS, Found, emotion_vectors, verdicts

FACE = neutral_landmarks()


def test_whoever_may_not_be_an_adult_is_dropped_with_all_pictures():
    person, vectors = np.repeat([1, 2, 3], 3), np.zeros((9, 128))
    age = np.array([ADULT + 1] * 3 + [ADULT - 3, ADULT - 1, ADULT + 1] + [40.0, 40.0, 17.0])
    assert verdicts(person, vectors, age).tolist() == [""] * 3 + [REASONS[2]] * 6


def test_pictures_that_the_recogniser_takes_for_another_are_dropped_and_people_with_few_left():
    vectors = np.zeros((10, 128))
    vectors[4, 0] = 0.5  # of five pictures one is somebody else
    vectors[5:, 0] = [0, 0.5, 1.0, 1.5, 2.0]  # no two are the same person
    reasons = verdicts(np.repeat([1, 2], 5), vectors, np.full(10, 40.0))
    assert reasons[:5].tolist() == [""] * 4 + [REASONS[3]]
    assert reasons[5:].tolist() == [REASONS[3]] * 2 + [REASONS[4]] + [REASONS[3]] * 2
    assert FEWEST > 1


def test_emotions_are_the_networks_classes_and_a_smile_of_one_side_is_contempt():
    happy = torch.eye(7)[[EMOTIONS.index("happy")] * 2]
    scores = np.zeros((2, 52), np.float32)
    scores[:, BLENDSHAPES.index("mouthSmileLeft")] = 0.7
    scores[0, BLENDSHAPES.index("mouthSmileRight")] = 0.7
    even, one_sided = emotion_vectors(happy, scores)
    assert torch.allclose(even[:2], torch.tensor(VALENCE_AROUSAL["happy"])) and even[2 + EMOTIONS.index("happy")] == 1
    assert one_sided[2:].argmax() == EMOTIONS.index("contempt") and torch.isclose(one_sided[2:].sum(), torch.tensor(1.0))


def test_an_edit_depends_on_its_seed_alone_and_every_emotion_is_drawn():
    a, b = (draw_edit(np.random.default_rng([0, 5, 2])) for _ in range(2))
    assert a == b and a != draw_edit(np.random.default_rng([0, 5, 3]))
    drawn = Counter(draw_edit(np.random.default_rng(i)).emotion for i in range(2000))
    assert all(abs(drawn[e] / 2000 - share) < 0.03 for e, share in zip(EMOTIONS, CLASS_SHARES, strict=True))


def test_the_stored_directions_know_all_that_is_drawn():
    directions = Directions.load()
    for i in range(300):
        edit = draw_edit(np.random.default_rng(i))
        assert set(edit.directions) <= set(directions.optnames) - set(BREAK_THE_FACE)
        assert all(name in directions.names or f"{name}Left" in directions.names for name in edit.attributes)
        assert all(name in SCORES or f"{name}Left" in SCORES for name in edit.attributes)


def test_edits_add_up():
    directions = Directions.load()
    yaw, gaze = Edit("neutral", 1.0, {"yaw": 20.0}, {}), Edit("neutral", 1.0, {}, {"lookL": 0.5})
    both = Edit("neutral", 1.0, {"yaw": 20.0}, {"lookL": 0.5})
    shifts = shift(directions, [yaw, gaze, both])
    assert shifts.shape == (3, 9, 512) and abs(shifts[0]).sum() > 0
    assert np.allclose(shifts[0] + shifts[1], shifts[2], atol=1e-6)


class StandIn:
    """Of People: grey pictures whose brightness is the identity number. Every third picture has no face."""

    seed = 0

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.made = stop_at, []

    def blocks(self, numbers, each):
        for number in numbers:
            if number == self.stop_at:
                raise KeyboardInterrupt
            self.made.append(number)
            index = np.array([i for i in range(each) if i % 3 != 2])
            n = len(index)
            emotions = torch.zeros(n, 10)
            emotions[:, 2] = 1
            yield Found(
                np.full(n, number), index, torch.full((n, 3, 32, 32), number, dtype=torch.uint8), np.stack([FACE] * n), np.zeros((n, 52), np.float32),
                np.zeros((n, 3), np.float32), torch.zeros(n, 128), emotions, np.full(n, 40.0), np.full(n, 0.5), Counter({REASONS[0]: each - n}),
            )  # fmt: skip


def test_a_folder_is_read_as_the_rendered_peoples_and_names_what_was_dropped(tmp_path, capsys):
    meta = generate(StandIn(), tmp_path, 0, 5, 4, size=16, people_per_file=2)
    faces = load_faces(tmp_path)
    assert len(faces) == meta["images"] == 15 and faces.images.shape[1:] == (16, 16, 3)
    assert faces.person.tolist() == np.repeat(range(5), 3).tolist() and (faces.images[:, 0, 0, 0] == faces.person).all()
    assert faces.labels["age"].tolist() == [40.0] * 15 and json.loads((tmp_path / "columns.json").read_text()) == list(COLUMNS)
    assert "15 pictures of 5 people kept out of 20" in (said := capsys.readouterr().out) and "no face: 25.0%" in said


def test_a_stop_loses_no_finished_block_and_doubles_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        generate(StandIn(stop_at=3), tmp_path, 0, 6, 4, size=16, people_per_file=2)
    second = StandIn()
    generate(second, tmp_path, 0, 6, 4, size=16, people_per_file=2)
    assert second.made == [2, 3, 4, 5]
    once = tmp_path / "once"
    generate(StandIn(), once, 0, 6, 4, size=16, people_per_file=2)
    for path in once.glob("*.npy"):
        assert (np.load(path) == np.load(tmp_path / path.name)).all()


def test_more_people_later_fill_up_the_last_block(tmp_path):
    generate(StandIn(), tmp_path, 0, 3, 4, size=16, people_per_file=2)
    later = StandIn()
    generate(later, tmp_path, 0, 4, 4, size=16, people_per_file=2)
    assert later.made == [2, 3]


def test_a_folder_of_other_settings_is_refused(tmp_path):
    generate(StandIn(), tmp_path, 0, 2, 4, size=16)
    with pytest.raises(OutputError, match="images_per_person"):
        generate(StandIn(), tmp_path, 0, 2, 5, size=16)
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(OutputError, match="damaged"):
        generate(StandIn(), tmp_path, 0, 2, 4, size=16)
