"""The button of Download Models: licences are shown, and accepted by a person's click alone."""

from __future__ import annotations

import json
import time

import pytest
from conftest import NO_DOWNLOADS
from editor import Editor
from hosts import ROOT
from selenium.common.exceptions import NoAlertPresentException

KIND, BUTTON, LINE = "FaceCrafterDownloadModels", "Show and accept licences", ".fc-licences"
NOT_YET = "Nothing is downloaded before you accept the licences here."
ASKED = "Accept these licences? Run then downloads the files."


def add(editor: Editor, what: str = "arc2face_unet", **values: object) -> str:
    number = editor.add(KIND, what=what, **values)
    editor.look(420, 90)
    editor.box(LINE)
    return number


def press(editor: Editor, number: str, label: str = BUTTON) -> None:
    """Clicks the node's button where it is drawn."""
    place = editor.js(
        "const b = [...document.querySelectorAll('.lg-node button')].find((b) => b.textContent.trim() === arguments[1])?.getBoundingClientRect();"
        "if (b?.width) return [b.left + b.width / 2, b.top + b.height / 2];"
        "const n = app.graph.getNodeById(arguments[0]), w = n.widgets.find((w) => w.type === 'button'), d = app.canvas.ds, r = app.canvas.canvas.getBoundingClientRect();"
        "if (w.label !== arguments[1]) return null;"
        "return [r.left + (n.pos[0] + n.size[0] / 2 + d.offset[0]) * d.scale, r.top + (n.pos[1] + (w.y ?? w.last_y) + 10 + d.offset[1]) * d.scale]",
        number, label,
    )  # fmt: skip
    assert place, f"no button {label!r}"
    editor.pointer(place)


def dialog(editor: Editor):
    def shown():
        try:
            return editor.driver.switch_to.alert
        except NoAlertPresentException:
            return None

    return editor.until(shown, "the dialog", 10)


def refusal(editor: Editor) -> str:
    """What Run says; the host's own dialog of it, which older frontends lay over the graph, is closed."""
    messages = editor.run()["status"]["messages"]
    time.sleep(1)
    editor.js("document.querySelectorAll('.p-dialog-close-button').forEach((button) => button.click())")
    editor.until(lambda: not editor.js("return document.querySelector('.p-dialog-mask')"), "the dialog to go", 10)
    return next(content["exception_message"] for kind, content in messages if kind == "execution_error")


def test_a_click_shows_the_licences_and_the_server_knows_what_was_accepted(editor: Editor) -> None:
    number = add(editor)
    assert editor.text(LINE) == NOT_YET
    assert f"a click on '{BUTTON}'" in refusal(editor)
    press(editor, number)
    shown = dialog(editor)
    assert "arc2face_unet: " in shown.text and "MB, licence " in shown.text and "https://" in shown.text and ASKED in shown.text
    shown.dismiss()
    assert f"a click on '{BUTTON}'" in refusal(editor), "a dismissed dialog has accepted"
    assert editor.text(LINE) == NOT_YET
    press(editor, number)
    dialog(editor).accept()
    editor.until(lambda: editor.text(LINE) == "The licences are accepted. Run downloads the files.", "the word of it", 10)
    assert f"found {NO_DOWNLOADS['HF_ENDPOINT']!r}" in refusal(editor), "the download has begun, and met this server's mirror"
    editor.js("app.graph.getNodeById(arguments[0]).widgets[0].value = 'arc2face_encoder'", number)
    editor.until(lambda: editor.text(LINE) == NOT_YET, "another choice, which is not accepted", 5)
    assert "Missing: arc2face_encoder" in refusal(editor)


def test_a_workflow_with_accepted_licences_or_a_mirror_opens_and_says_that_they_are_not_read(editor: Editor) -> None:
    add(editor, what="inception", accept_licences=True, mirror="http://stranger.invalid")
    saved = editor.workflow()
    assert saved["nodes"][0]["widgets_values"] == ["inception", True, "http://stranger.invalid"], "the button or the line was saved"
    editor.clear()
    editor.load(saved)
    editor.box(LINE)
    text = editor.until(lambda: editor.text(LINE), "the line", 5)
    assert "accept_licences is not read: a workflow cannot accept licences" in text and "mirror is not read" in text and NOT_YET in text
    assert f"a click on '{BUTTON}'" in refusal(editor)


@pytest.mark.parametrize("language", ["ja", "zh"])
def test_the_button_and_the_dialog_speak_the_editors_language(editor: Editor, combination, language: str) -> None:
    words = json.loads((ROOT / "locales" / language / "main.json").read_text(encoding="utf-8"))["facecrafter"]
    vue = combination[2] == "vue"
    try:
        editor.server.post("/settings", {"Comfy.Locale": language})
        editor.open(vue)
        number = add(editor, mirror="http://stranger.invalid")
        assert all(words[text] in editor.text(LINE) for text in words if text.startswith(("Nothing", "mirror")))
        press(editor, number, words[BUTTON])
        shown = dialog(editor)
        assert words[ASKED] in shown.text
        shown.dismiss()
    finally:
        editor.server.post("/settings", {"Comfy.Locale": "en"})
        editor.open(vue)
