"""The count of network evaluations on the Sampler, Guider and Apply nodes."""

from __future__ import annotations

import itertools
import json

import pytest
from editor import Editor
from hosts import ROOT

from facecrafter_core.diffusion.guidance import Guidance, guidance_coefficients

LINE = ".fc-evaluations"


def says(editor: Editor, text: str) -> None:
    editor.until(lambda: editor.text(LINE) == text, f"{text!r}; the node says {editor.text(LINE)!r}", 5)


def put(editor: Editor, kind: str, name: str, value: object) -> None:
    editor.js(
        "const w = app.graph._nodes.find((n) => n.type === arguments[0]).widgets.find((w) => w.name === arguments[1]); w.value = arguments[2]; w.callback?.(w.value)",
        kind, name, value,
    )  # fmt: skip


@pytest.fixture
def template(editor: Editor):
    def load(name: str) -> None:
        editor.load(json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")))
        editor.look(200, 300, 0.7)

    return load


def test_the_rows_are_those_of_guidance_coefficients(editor: Editor) -> None:
    weights, flags = (0.0, 1.0, 2.0, 2.5, 4.0), (False, True)
    cases = list(itertools.product(weights, (0.0, 1.0, 2.0), (0.0, 2.0), ("paper", "joint"), flags, flags))
    found = editor.driver.execute_async_script(
        "const [cases, done] = arguments; import('/extensions/facecrafter/evaluations.js').then((m) => done(cases.map((c) => m.rows(...c))))",
        cases,
    )
    for case, rows in zip(cases, found, strict=True):
        assert set(rows) == set(guidance_coefficients(Guidance(*case[:4]), 1.0, *case[4:])), case


def test_the_count_follows_weights_mode_steps_and_sampler(editor: Editor, template) -> None:
    template("emotion_sweep")
    says(editor, "3 rows × 12 steps × 4 pictures = 144 evaluations")
    put(editor, "FaceCrafterSampler", "steps", 5)
    says(editor, "3 rows × 5 steps × 4 pictures = 60 evaluations")
    put(editor, "FaceCrafterEmotionSweep", "count", 6)
    says(editor, "3 rows × 5 steps × 6 pictures = 90 evaluations")
    put(editor, "FaceCrafterSampler", "sampler_name", "heun")
    says(editor, "3 rows × 9 calls × 6 pictures = 162 evaluations")
    put(editor, "FaceCrafterSampler", "emotion_weight", 0)
    says(editor, "2 rows × 9 calls × 6 pictures = 108 evaluations")
    put(editor, "FaceCrafterSampler", "identity_weight", 1)
    says(editor, "1 row × 9 calls × 6 pictures = 54 evaluations")


def test_the_count_follows_the_wires(editor: Editor, template) -> None:
    template("copy_a_pose")
    text = editor.until(lambda: editor.text(LINE), "the count", 5)
    assert text.startswith("3 rows"), text
    emotion = editor.add("FaceCrafterEmotion", 300, 900)
    (conditioning,) = editor.numbers("FaceCrafterConditioning")
    editor.connect(emotion, 0, conditioning, "emotion")
    editor.until(lambda: editor.text(LINE).startswith("4 rows"), "the row with emotion", 5)
    put(editor, "FaceCrafterSampler", "mode", "joint")
    editor.until(lambda: editor.text(LINE).startswith("3 rows"), "a row less", 5)
    put(editor, "FaceCrafterConditioning", "alpha_landmarks", 0)
    put(editor, "FaceCrafterConditioning", "alpha_emotion", 0)
    editor.until(lambda: editor.text(LINE).startswith("2 rows"), "the branches cut off", 5)
    editor.js("app.graph._nodes.find((n) => n.type === 'FaceCrafterConditioning').mode = 2")
    editor.until(lambda: editor.text(LINE).startswith("up to"), "no conditioning", 5)


def test_guider_and_apply_count_rows(editor: Editor, template) -> None:
    for name, text in (("plain_ksampler", "4 rows a step"), ("guider_advanced", "up to 3 rows a step")):
        template(name)  # the second has Guidance Intervals: not all rows in all steps
        says(editor, text)


def test_refresh_is_counted(editor: Editor, template) -> None:
    template("emotion_sweep")
    says(editor, "3 rows × 12 steps × 4 pictures = 144 evaluations")
    (sampler,) = editor.numbers("FaceCrafterSampler")
    editor.connect(editor.add("FaceCrafterGuidanceIntervals", 300, 900), 0, sampler, "intervals")
    put(editor, "FaceCrafterGuidanceIntervals", "refresh", 2)
    says(editor, "3 rows (every 2nd call, else 1) × 12 steps × 4 pictures = 96 evaluations")
    put(editor, "FaceCrafterGuidanceIntervals", "refresh", 5)
    says(editor, "3 rows (every 5th call, else 1) × 12 steps × 4 pictures = 72 evaluations")
    put(editor, "FaceCrafterGuidanceIntervals", "emotion_end", 0.5)
    editor.until(lambda: editor.text(LINE).startswith("up to 3 rows"), "an interval", 5)


def test_what_would_do_nothing_is_said_in_the_node(editor: Editor, template) -> None:
    template("emotion_sweep")
    says(editor, "3 rows × 12 steps × 4 pictures = 144 evaluations")
    put(editor, "FaceCrafterSampler", "sampler_name", "ddpm")
    editor.until(lambda: "ddpm adds noise of its own" in editor.text(".fc-warning"), "the warning of noise", 5)
    put(editor, "FaceCrafterSampler", "same_noise", False)
    editor.until(lambda: editor.text(".fc-warning") == "", "no warning", 5)
    put(editor, "FaceCrafterConditioning", "alpha_emotion", 0)
    editor.until(lambda: "alpha_emotion is 0: the emotion is cut off" in editor.text(".fc-warning"), "the warning of alpha", 5)
