"""The landmark editor on Edit Landmarks: what it writes into the inputs, and that it shows what Python computes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from editor import Editor
from selenium.webdriver.common.keys import Keys

from facecrafter_core.faces.edit import edit, neutral_landmarks, parse_expression, parse_moves
from facecrafter_core.faces.face_model import MOVE_GROUPS

KIND = "FaceCrafterEditLandmarks"


def spot(editor: Editor, x: float, y: float) -> tuple[float, float]:
    """A place of the picture (0..1) -> the pixel of the page."""
    box = editor.box(".fc-face")
    side = min(box["width"], box["height"])
    return box["left"] + (box["width"] - side) / 2 + x * side, box["top"] + y * side


def slide(editor: Editor, name: str, value: float) -> None:
    selector = f".fc-sliders [aria-label='{name}']"
    editor.js("document.querySelector(arguments[0]).scrollIntoView({block: 'nearest'})", selector)
    box = editor.box(selector)
    y = box["top"] + box["height"] / 2
    editor.pointer((box["left"] + box["width"] / 2, y), (box["left"] + box["width"] * (value + 1) / 2, y))


def drawn(editor: Editor) -> np.ndarray:
    """The points in the picture: [478, 2]."""
    editor.driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")
    path = editor.js("return document.querySelector('.fc-points').getAttribute('d')")
    return np.array([float(n) for n in re.findall(r"M(\S+) (\S+)h0", path) for n in n]).reshape(-1, 2)


def expected(face: np.ndarray, values: dict[str, Any]) -> np.ndarray:
    angles = tuple(values[name] for name in ("yaw", "pitch", "roll"))
    return edit(face[None], angles, parse_expression(values["expression"]), parse_moves(values["moves"]))[0, :, :2]


@pytest.fixture
def node(editor: Editor) -> str:
    number = editor.add(KIND)
    editor.look(420, 60)
    editor.until(lambda: editor.js("return !!document.querySelector('.fc-points')?.getAttribute('d')"), "the face", 10)
    return number


def test_without_a_photo_it_shows_the_built_in_face(editor: Editor, node: str) -> None:
    assert np.abs(drawn(editor) - neutral_landmarks()[:, :2]).max() < 1e-3


def test_a_drag_turns_the_head_as_python_does(editor: Editor, node: str) -> None:
    editor.pointer(spot(editor, 0.5, 0.5), spot(editor, 0.6, 0.45), spot(editor, 0.7, 0.4))
    values = editor.values(node)
    assert (values["yaw"], values["pitch"]) == pytest.approx((24, 12), abs=1)
    assert np.abs(drawn(editor) - expected(neutral_landmarks(), values)).max() < 1e-3


def test_a_drag_with_shift_tilts_the_head(editor: Editor, node: str) -> None:
    editor.pointer(spot(editor, 0.5, 0.2), spot(editor, 0.65, 0.25), spot(editor, 0.5 + 0.3 * 0.5, 0.5 - 0.3 * 0.866), held=Keys.SHIFT)
    values = editor.values(node)
    assert values["roll"] == pytest.approx(30, abs=2)
    assert values["yaw"] == values["pitch"] == 0


def test_keys_turn_the_head(editor: Editor, node: str) -> None:
    editor.pointer(spot(editor, 0.1, 0.1))
    editor.press(Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.PAGE_UP)
    editor.press(Keys.ARROW_RIGHT, held=Keys.SHIFT)
    values = editor.values(node)
    assert [values[name] for name in ("yaw", "pitch", "roll")] == [6, 5, 5]


def test_sliders_write_the_expression_together_or_for_one_side(editor: Editor, node: str) -> None:
    slide(editor, "smile", 0.6)
    slide(editor, "gaze ↔", -0.5)
    editor.click("left / right")
    slide(editor, "eye left", 0.8)
    editor.click("all")
    slide(editor, "jawOpen", 0.4)
    weights = parse_expression(editor.values(node)["expression"])
    assert set(weights) == {"smile", "gazeLeft", "eyeBlinkLeft", "jawOpen"}
    assert [weights[name] for name in ("smile", "gazeLeft", "eyeBlinkLeft", "jawOpen")] == pytest.approx([0.6, 0.5, 0.8, 0.4], abs=0.03)
    assert np.abs(drawn(editor) - expected(neutral_landmarks(), editor.values(node))).max() < 1e-3


def test_a_part_is_moved_by_dragging_it(editor: Editor, node: str) -> None:
    editor.click("move parts")
    x, y = neutral_landmarks()[list(MOVE_GROUPS["leftBrow"]), :2].mean(0)
    editor.pointer(spot(editor, x, y), spot(editor, x, y - 0.02), spot(editor, x + 0.01, y - 0.05))
    moves = parse_moves(editor.values(node)["moves"])
    assert list(moves) == ["leftBrow"]
    assert moves["leftBrow"] == pytest.approx((0.01, -0.05), abs=0.006)
    assert editor.values(node)["yaw"] == 0
    assert np.abs(drawn(editor) - expected(neutral_landmarks(), editor.values(node))).max() < 1e-3


def test_reset_takes_all_edits_back_and_undo_brings_them_again(editor: Editor, node: str) -> None:
    before = editor.values(node)
    editor.pointer(spot(editor, 0.5, 0.5), spot(editor, 0.7, 0.4))
    slide(editor, "jaw", 0.5)
    edited = editor.values(node)
    editor.click("reset")
    assert editor.values(node) == before
    editor.press("z", held=Keys.CONTROL)
    editor.until(lambda: editor.values(editor.numbers(KIND)[0]) == edited, "undo", 5)


def test_a_text_that_cannot_be_read_is_named_and_left_alone(editor: Editor, node: str) -> None:
    editor.js("app.graph.getNodeById(arguments[0]).widgets.find((w) => w.name === 'expression').value = 'smlie 0.4'", node)
    editor.until(lambda: "Not understood" in editor.text(".fc-landmarks .fc-note"), "the note", 5)
    slide(editor, "jaw", 0.5)
    assert editor.values(node)["expression"] == "smlie 0.4"


def test_after_run_it_shows_the_face_on_its_photo_and_python_agrees(editor: Editor, node: str) -> None:
    portrait = editor.add("FaceCrafterSamplePortrait", -330, 0)
    extract = editor.add("FaceCrafterExtractLandmarks", -330, 400)
    editor.connect(portrait, 0, extract, "photo")
    editor.connect(extract, 0, node, "landmarks")
    editor.connect(extract, 2, node, "photo")
    editor.until(lambda: "Run once" in editor.text(".fc-landmarks .fc-note"), "the note", 5)
    for _ in range(2):  # the second time, all of it is cached
        entry = editor.run()
        (state,) = entry["outputs"][str(node)]["fc_landmarks"]
        editor.until(lambda: "Run once" not in editor.text(".fc-landmarks .fc-note"), "the face of the photo", 5)
        editor.js("app.graph.getNodeById(arguments[0]).onExecuted({})", node)  # as after a reload of the page
    editor.run()
    editor.pointer(spot(editor, 0.4, 0.5), spot(editor, 0.55, 0.45))
    slide(editor, "smile", 0.5)
    values = editor.values(node)
    assert values["yaw"] == pytest.approx(18, abs=1)
    assert np.abs(drawn(editor) - expected(np.array(state["points"]), values)).max() < 1e-3
    assert editor.js("const i = document.querySelector('.fc-face image').getAttribute('href'); return fetch(i).then((r) => r.ok)")


def test_edits_survive_saving_and_loading(editor: Editor, node: str) -> None:
    editor.pointer(spot(editor, 0.5, 0.5), spot(editor, 0.7, 0.4))
    slide(editor, "smile", 0.5)
    before, saved = editor.values(node), editor.workflow()
    editor.clear()
    editor.load(saved)
    assert editor.values(editor.numbers(KIND)[0]) == before
    assert {name: value for name, value in editor.prompt()[str(node)]["inputs"].items() if name in before} == before
