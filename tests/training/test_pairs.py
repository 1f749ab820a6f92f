from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from world import make_prepared

from facecrafter_core.faces.face import Pose, rotation_of_pose
from training.config import ConfigError, JointConfig, PretrainConfig, read_config
from training.pairs import RULES, PairRules, Pairs
from training.prepared import Prepared, PreparedError, fingerprint
from training.pretrain import train as pretrain


@pytest.fixture(scope="module")
def prepared(prepared_folder: Path) -> Prepared:
    return Prepared.open(prepared_folder, "demo")


def angle(prepared: Prepared, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees of the turn that takes one head to the other."""
    turn = [np.array([rotation_of_pose(Pose(*prepared.pose[i])) for i in index]) for index in (a, b)]
    return np.degrees(np.arccos(((np.einsum("nij,nij->n", *turn) - 1) / 2).clip(-1, 1)))


@pytest.mark.parametrize("stage", ["landmark", "emotion"])
def test_pairs_follow_their_rule(prepared: Prepared, stage: str):
    rules = RULES[stage]
    targets, partners, mirrored = Pairs(prepared, stage).draw(0, 200)
    assert (prepared.person[targets] == prepared.person[partners]).all() and (targets != partners).all() and not mirrored.any()
    turned = angle(prepared, targets, partners)
    assert (turned >= rules.min_pose - 1e-3).all() and (turned <= rules.max_pose + 1e-3).all()
    scores = np.asarray(prepared["blendshapes"], np.float32)
    assert (np.sqrt(np.square(scores[targets] - scores[partners]).mean(1)) >= rules.min_expression - 1e-3).all()


def with_poses(folder: Path, *poses: tuple[float, float, float], each: int = 0) -> Prepared:
    """One person (with each=1: as many people as poses) and the poses of the images; expressions are random."""
    make_prepared(folder, people=len(poses) if each else 1, each=each or len(poses))
    table = pyarrow.parquet.read_table(folder / "manifest.parquet").to_pydict()
    table |= dict(zip(("yaw", "pitch", "roll"), zip(*poses, strict=True), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "manifest.parquet")
    return Prepared.open(folder, "demo")


def test_heads_that_differ_by_roll_alone_are_not_in_the_same_pose(tmp_path: Path):
    prepared = with_poses(tmp_path, (5.0, 2.0, 0.0), (5.0, 2.0, 11.0), (5.0, 2.0, 29.0))
    targets, partners, _ = Pairs(prepared, "emotion").draw(0, 100)
    assert {frozenset(pair) for pair in zip(targets.tolist(), partners.tolist(), strict=True)} == {frozenset((0, 1))}
    assert Pairs(prepared, "landmark").pairs == 6  # by 11, 18 and 29 degrees


@pytest.mark.parametrize(("stage", "sentence"), [
    ("landmark", "same expression, and the head is turned to the other side, by 8 degrees or more for 2 of the 3: it teaches pose, not expression."),
    ("emotion", "same expression, and the head is within 12 degrees for 1 of the 3: it teaches how an emotion looks, not to change"),
    ("joint", "same expression: it teaches how an emotion looks, not to change"),
])  # fmt: skip
def test_the_report_says_what_mirrored_pairs_teach(tmp_path: Path, stage: str, sentence: str):
    prepared = with_poses(tmp_path, (2.0, 30.0, 1.0), (20.0, 0.0, 0.0), (0.0, 0.0, 9.0), each=1)  # turned by 4, 40 and 18 degrees
    assert sentence in Pairs(prepared, stage).report()
    assert "mirror image has" not in Pairs(with_poses(tmp_path / "two", (0.0, 0.0, 0.0), (9.0, 0.0, 0.0)), stage).report()


def test_draws_follow_from_seed_and_step(prepared: Prepared):
    pairs, again, other = Pairs(prepared, "joint"), Pairs(prepared, "joint"), Pairs(prepared, "joint", seed=1)
    assert all((a == b).all() for a, b in zip(pairs.draw(7, 50), again.draw(7, 50), strict=True))
    assert (pairs.draw(7, 50)[0] != pairs.draw(8, 50)[0]).any()
    assert (pairs.draw(7, 50)[0] != other.draw(7, 50)[0]).any()


def test_a_person_with_one_image_is_paired_with_its_mirror_image(tmp_path: Path):
    prepared = Prepared.open(make_prepared(tmp_path, people=5, each=1), "demo")
    pairs = Pairs(prepared, "landmark")
    targets, partners, mirrored = pairs.draw(0, 20)
    assert mirrored.all() and (targets == partners).all()
    assert "5 images paired with their mirror image" in pairs.report()


def test_no_pair_is_an_error_that_says_what_to_do(tmp_path: Path):
    prepared = Prepared.open(make_prepared(tmp_path, people=5, each=1), "demo")
    with pytest.raises(PreparedError, match="at least one person with two images"):
        Pairs(prepared, "landmark", PairRules(mirror_single=False))


def test_the_report_counts_pairs(prepared: Prepared):
    assert Pairs(prepared, "joint").report().startswith("24 images of 6 people: 72 pairs")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "prepared.json").unlink(), "Expected a folder made by training/prepare.py"),
        (lambda f: (f / "masks.npy").unlink(), "Expected masks.npy"),
        (lambda f: np.save(f / "masks.npy", np.zeros((3, 8, 8))), "has 3 rows"),
        (lambda f: (f / "prepared.json").write_text(json.dumps({**json.loads((f / "prepared.json").read_text()), "format": 99})), "format 99"),
        (lambda f: (f / "prepared.json").write_text(json.dumps({**json.loads((f / "prepared.json").read_text()), "family": "full"})), "prepared for the full family"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_whole_is_refused(prepared_folder: Path, tmp_path: Path, spoil, message: str):
    folder = tmp_path / "copy"
    shutil.copytree(prepared_folder, folder)
    spoil(folder)
    with pytest.raises(PreparedError, match=message):
        Prepared.open(folder, "demo")


def test_features_of_another_model_are_refused(prepared_folder: Path, tmp_path: Path):
    folder = shutil.copytree(prepared_folder, tmp_path / "copy")
    info = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps({**info, "models": {"vae": "0"}}))
    assert len(Prepared.open(folder, "demo", {"vae": "0"})) == 24
    with pytest.raises(PreparedError, match="made with another vae"):
        Prepared.open(folder, "demo", {"vae": "1"})
    with pytest.raises(PreparedError, match="Expected model weights"):
        fingerprint(prepared_folder / "nothing")


def test_a_rule_on_the_command_line_replaces_the_stages_own():
    arguments = ["--data", "d", "--base", "b", "--out", "o", "--module", "emotion", "--rules.max-pose", "5"]
    config = read_config(PretrainConfig, None, arguments)
    assert config.rules.of_stage("emotion") == PairRules(0.0, 5.0, 0.06, True)


@pytest.mark.parametrize(("kind", "rules", "message"), [
    (PretrainConfig, {"min_pose": 200.0}, "Expected from 0 to 180 for --rules.min-pose, found 200.0"),
    (PretrainConfig, {"min_expression": float("nan")}, "Expected from 0 to 1 for --rules.min-expression, found nan"),
    (JointConfig, {"min_pose": 20.0, "max_pose": 10.0}, "Expected --rules.min-pose up to --rules.max-pose, which is 10, found 20"),
])  # fmt: skip
def test_rules_that_no_pair_can_follow_are_refused_before_anything_is_read(kind: type, rules: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        kind(data=Path("nowhere"), base="random", out=Path("nowhere"), rules=PairRules(**rules))


def test_a_rule_is_held_against_the_stages_own_before_anything_is_read():
    config = PretrainConfig(data=Path("nowhere"), base="random", out=Path("nowhere"), module="emotion", rules=PairRules(min_pose=20.0), dry_run=True)
    with pytest.raises(ConfigError, match="Expected --rules.min-pose up to --rules.max-pose, which is 12, found 20"):
        pretrain(config)
