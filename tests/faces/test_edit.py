"""Landmarks edited in 3-D, held against rendered and photographed faces."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from facecrafter_core.errors import LandmarkError
from facecrafter_core.faces import edit
from facecrafter_core.faces.align import align_face, face_square
from facecrafter_core.faces.drawing import edges
from facecrafter_core.faces.face import Pose, pose_of_rotation, rotation_of_pose
from facecrafter_core.faces.face_model import GROUPS, MOVE_GROUPS, RIGID, face_model
from facecrafter_core.faces.landmarker import FaceLandmarker
from facecrafter_core.faces.landmarks import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE
from facecrafter_core.faces.photo import load_photo

ROOT = Path(__file__).resolve().parents[2]
PORTRAITS = sorted((ROOT / "demo/samples").glob("*.jpg"))


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Landmarks of the six sample portraits in their squares, [6, 478, 3]."""
    landmarker, out = FaceLandmarker(), []
    for path in PORTRAITS:
        photo = load_photo(path)
        out.append(align_face(photo, landmarker.find_face(photo).landmarks, 256, rotate=False).landmarks)
    return np.stack(out)


def corners(face: np.ndarray) -> np.ndarray:
    """Height of the mouth's corners over its middle, right and left, by the eye distance."""
    eyes = np.linalg.norm(face[list(LEFT_EYE), :2].mean(0) - face[list(RIGHT_EYE), :2].mean(0))
    return (face[[0, 17], 1].mean() - face[list(MOUTH_CORNERS), 1]) / eyes


def opening(face: np.ndarray, upper: int, lower: int) -> float:
    return float(face[lower, 1] - face[upper, 1])


def test_pose_and_rotation_are_inverse():
    for pose in (Pose(30, -20, 10), Pose(-60, 5, -40), Pose(0, 0, 0)):
        assert pose_of_rotation(rotation_of_pose(pose)) == pytest.approx(pose, abs=1e-9)


def test_the_built_in_face_is_frontal_symmetric_and_framed_as_a_photo_is():
    neutral = edit.neutral_landmarks()
    assert edit.head_pose(neutral) == pytest.approx((0, 0, 0), abs=0.01)
    centre, half, _ = face_square(neutral, rotate=False)
    assert (*centre, half) == pytest.approx((0.5, 0.5, 0.5), abs=1e-5)
    assert neutral[list(LEFT_EYE), 0].mean() - 0.5 == pytest.approx(0.5 - neutral[list(RIGHT_EYE), 0].mean(), abs=1e-5)


def test_turning_there_and_back_changes_nothing(faces: np.ndarray):
    for face in faces:
        there = edit.turn(face, 20, -10, 5)
        assert np.abs(there - face).max() > 0.01
        assert np.abs(edit.turn(there, -20, 10, -5) - face).max() < 2e-3 * np.ptp(face[:, 0]) * 10


@pytest.mark.parametrize("change", [(15.0, 0.0, 0.0), (0.0, 10.0, 0.0), (0.0, 0.0, 12.0), (-20.0, 5.0, -8.0)])
def test_the_head_turns_by_what_was_asked(faces: np.ndarray, change: tuple[float, float, float]):
    for face in faces:
        found = np.array(edit.head_pose(edit.turn(face, *change))) - edit.head_pose(face)
        assert found == pytest.approx(change, abs=0.05)


def test_a_turned_face_keeps_its_square(faces: np.ndarray):
    before, after = (face_square(f, rotate=False) for f in (faces[0], edit.turn(faces[0], 30)))
    assert np.allclose(before[0], after[0], atol=1e-5) and before[1] == pytest.approx(after[1], abs=1e-5)


def test_a_smile_raises_the_corners_of_the_mouth_and_a_frown_lowers_them(faces: np.ndarray):
    for face in faces:
        assert (corners(edit.express(face, {"smile": 1.0})) > corners(face) + 0.05).all()
        assert (corners(edit.express(face, {"frown": 1.0})) < corners(face)).all()


def test_left_and_right_go_apart():
    neutral = edit.neutral_landmarks()
    change = corners(edit.express(neutral, {"mouthSmileLeft": 1.0})) - corners(neutral)
    assert change[1] > 3 * abs(change[0])


def test_actions_do_what_their_names_say():
    neutral = edit.neutral_landmarks()
    jaw, blink, brow = (edit.express(neutral, {name: 1.0}) for name in ("jaw", "eyeBlinkRight", "browUp"))
    assert opening(jaw, 13, 14) > opening(neutral, 13, 14) + 0.02
    assert opening(blink, 159, 145) < 0.4 * opening(neutral, 159, 145)
    assert abs(opening(blink, 386, 374) - opening(neutral, 386, 374)) < 0.3 * opening(neutral, 386, 374)
    assert brow[105, 1] < neutral[105, 1] - 0.005
    left = edit.express(neutral, {"gazeLeft": 1.0})
    assert left[468, 0] > neutral[468, 0] and left[473, 0] > neutral[473, 0], "the person's left is the picture's right"


def test_an_expression_turns_with_the_head(faces: np.ndarray):
    """Smiling and then turning is turning and then smiling, but for the square, which follows the mouth."""
    a = edit.turn(edit.express(faces[0], {"smile": 0.8}), 25)
    b = edit.express(edit.turn(faces[0], 25), {"smile": 0.8})
    assert np.abs(a - edit.reframe(b, a)).max() < 0.005


def test_a_stripped_face_loses_most_of_what_was_added():
    neutral = edit.neutral_landmarks()
    for weights, share in (({"smile": 1.0}, 0.4), ({"jaw": 0.8}, 0.2), ({"frown": 1.0}, 0.5)):
        shown = edit.express(neutral, weights)
        left = np.linalg.norm(edit.strip_expression(shown) - neutral)
        assert left < share * np.linalg.norm(shown - neutral), weights
    assert np.abs(edit.strip_expression(neutral) - neutral).max() < 1e-3
    assert np.array_equal(edit.strip_expression(shown, 0.0), shown)


def test_retargeting_onto_itself_changes_nothing(faces: np.ndarray):
    for face in faces:
        assert np.abs(edit.retarget(face, face) - face).max() < 1e-4


def test_retargeting_takes_pose_and_expression_and_leaves_the_shape(faces: np.ndarray):
    source, target = edit.turn(edit.express(faces[0], {"jaw": 1.0}), 10), faces[2]
    result = edit.retarget(source, target)
    assert edit.head_pose(result) == pytest.approx(edit.head_pose(source), abs=3)
    assert np.abs(edit.expression_of(result) - edit.expression_of(source)).max() < 0.05
    model = face_model()

    def shape(face: np.ndarray) -> np.ndarray:
        return model.frame(face).to_local(face) - edit.expression_of(face)

    assert np.linalg.norm(shape(result) - shape(target)) < 0.3 * np.linalg.norm(shape(source) - shape(target))
    assert np.abs(edit.retarget(source, target, 0.0) - source).max() < 1e-4


def test_batches_pair_or_say_why_not(faces: np.ndarray):
    assert len(edit.retarget_all(faces[:3], faces[:1])) == len(edit.retarget_all(faces[:1], faces[:3])) == 3
    with pytest.raises(LandmarkError, match="1 or 3 entries of shapes, found 2"):
        edit.retarget_all(faces[:3], faces[:2])


def test_pose_and_expression_can_be_held(faces: np.ndarray):
    held = edit.edit(faces, pose_source="the first face's", expression_source="the first face's")
    poses = np.array([edit.head_pose(face) for face in held])
    assert np.ptp(poses, axis=0).max() < 0.1
    frontal = edit.edit(faces, pose_source="frontal", expression_source="neutral")
    assert np.abs([edit.head_pose(face) for face in frontal]).max() < 0.1
    assert np.array_equal(edit.edit(faces), faces)


def test_groups_move_alone():
    neutral = edit.neutral_landmarks()
    moved = edit.move(neutral, {"leftBrow": (0.01, -0.02)})
    change = moved - neutral
    brow = list(MOVE_GROUPS["leftBrow"])
    assert np.allclose(change[brow, :2], (0.01, -0.02), atol=1e-6)
    assert not np.delete(change, brow, axis=0).any()


def test_a_blend_ends_at_its_ends_and_turns_the_head_evenly(faces: np.ndarray):
    a, b = edit.turn(faces[0], -30), edit.turn(faces[0], 30)
    assert np.abs(edit.blend(a, b, 0.0) - a).max() < 1e-5 and np.abs(edit.blend(a, b, 1.0) - b).max() < 1e-5
    yaws = [edit.head_pose(edit.blend(a, b, t)).yaw for t in (0, 0.25, 0.5, 0.75, 1)]
    assert np.diff(yaws) == pytest.approx([15] * 4, abs=0.5)


def test_texts_are_read_as_they_are_meant():
    assert edit.parse_expression("Smile 0.6, jawopen:0.3\neyeBlinkLeft = 1;") == {"smile": 0.6, "jawOpen": 0.3, "eyeBlinkLeft": 1.0}
    assert edit.parse_expression("") == {} and edit.parse_moves(" ") == {}
    assert edit.parse_moves("leftbrow 0 -.02, mouth 0.01 0") == {"leftBrow": (0.0, -0.02), "mouth": (0.01, 0.0)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("smiel 1", "no facial action 'smiel'; did you mean .*smile"),
        ("smile", "Expected a name and a number, such as 'smile 0.6, jawOpen 0.3', found 'smile'"),
        ("smile much", "Expected a name and a number"),
        ("smile nan", "Expected a name and a number"),
        ("qqqq 1", "no facial action 'qqqq'; use one of"),
    ],
)
def test_texts_that_cannot_be_read_are_told(text: str, sentence: str):
    with pytest.raises(LandmarkError, match=sentence):
        edit.parse_expression(text)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: edit.turn(np.zeros((68, 2))), r"shape \[478, 3\], found \[68, 2\]"),
        (lambda: edit.turn(np.full((478, 3), np.nan)), "not finite"),
        (lambda: edit.turn(np.zeros((478, 3)), 5), "span no volume"),
        (lambda: edit.edit(np.zeros((0, 478, 3))), "at least one face"),
        (lambda: edit.edit(edit.neutral_landmarks()[None], pose_source="sideways"), "Expected the pose to be one of"),
        (lambda: edit.move(edit.neutral_landmarks(), {"ear": (0, 0)}), "no group of points 'ear'"),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, sentence: str):
    with pytest.raises(LandmarkError, match=sentence):
        call()


def test_the_editors_file_holds_the_same_model():
    import base64

    model, data = face_model(), json.loads((ROOT / "web/face.json").read_text())
    steps = np.frombuffer(base64.b64decode(data["displacements"]), "<i2").reshape(model.expressions.shape)
    assert np.abs(steps * data["resolution"] - model.expressions).max() < 1e-3
    assert np.abs(np.array(data["neutral"]) - model.neutral).max() < 1e-5
    assert tuple(data["names"]) == model.names and data["groups"] == GROUPS and data["rigid"] == RIGID.tolist()
    assert {name: tuple(points) for name, points in data["move_groups"].items()} == MOVE_GROUPS
    assert [tuple(pair) for pair in data["edges"]] == edges()


@pytest.mark.skipif(not shutil.which("node"), reason="SKIPPED: the editor's arithmetic is not tested, node is not installed")
def test_the_editor_computes_what_the_core_computes(faces: np.ndarray, tmp_path: Path):
    cases = [
        {"face": None, "pose": (0, 0, 0), "expression": "", "moves": ""},
        {"face": None, "pose": (25, -10, 5), "expression": "smile 0.7, eyeBlinkLeft 1", "moves": "mouth 0.01 0.02"},
        {"face": 3, "pose": (-30, 12, 0), "expression": "jaw 0.5", "moves": ""},
        {"face": 4, "pose": (0, 0, 0), "expression": "browUp -0.5", "moves": "leftBrow 0 -0.02"},
    ]
    states = [None if c["face"] is None else edit.editor_state(faces[c["face"]]) for c in cases]
    (tmp_path / "cases.json").write_text(json.dumps([{**c, "state": s} for c, s in zip(cases, states, strict=True)]))
    (tmp_path / "face_model.mjs").write_text((ROOT / "web/face_model.js").read_text())
    (tmp_path / "run.mjs").write_text(f"""
        import {{ readFileSync }} from "node:fs"
        import * as m from "./face_model.mjs"
        const model = m.unpack(JSON.parse(readFileSync({json.dumps(str(ROOT / "web/face.json"))})))
        const out = JSON.parse(readFileSync("cases.json")).map((c) => {{
          const face = c.state ? {{ ...c.state, points: c.state.points.flat() }} : m.neutralFace(model)
          const [yaw, pitch, roll] = c.pose
          return m.edit(model, face, {{ yaw, pitch, roll }}, m.parseExpression(model, c.expression), m.parseMoves(model, c.moves))
        }})
        console.log(JSON.stringify(out))""")
    found = json.loads(subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    for case, points in zip(cases, found, strict=True):
        face = edit.neutral_landmarks() if case["face"] is None else faces[case["face"]]
        expected = edit.edit(face[None], case["pose"], edit.parse_expression(case["expression"]), edit.parse_moves(case["moves"]))[0]
        assert np.abs(np.array(points).reshape(478, 3) - expected).max() < 2e-4, case
