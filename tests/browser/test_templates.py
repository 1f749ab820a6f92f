"""Templates and blueprints in the browser, with the mouse."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from editor import Editor

ROOT = Path(__file__).resolve().parents[2]
FIND = """
const words = arguments[0].toLowerCase()
const fits = (e) => e.innerText?.trim().toLowerCase() === words && e.getBoundingClientRect().width > 0
const found = [...document.querySelectorAll('button, span, div, a, li, h3, p')].filter(fits).at(-1)
"""


def click_words(editor: Editor, words: str) -> None:
    """Moves to the innermost visible element with these words, and clicks."""
    from selenium.webdriver.common.action_chains import ActionChains

    def at_rest() -> Any:
        """The element, once it no longer moves: lists are laid out anew while one types and pictures arrive."""
        place = f"{FIND} const box = found?.getBoundingClientRect(); return box ? [box.left, box.top] : null"
        editor.js(f"{FIND} found?.scrollIntoView({{block: 'center'}})", words)
        before = editor.js(place, words)
        time.sleep(0.5)
        return editor.js(f"{FIND} return found", words) if before and editor.js(place, words) == before else None

    element = editor.until(at_rest, f"the words {words!r}")
    ActionChains(editor.driver).move_to_element(element).click().perform()


def search(editor: Editor, words: str) -> None:
    """Types into the field of the templates' dialog."""
    field = "return [...document.querySelectorAll('[role=dialog] input')].find((i) => /search/i.test(i.placeholder))"
    editor.until(lambda: editor.js(field), "the search field").send_keys(words)
    time.sleep(1.5)  # the dialog waits for the end of the word before it looks


def fewer_steps(editor: Editor) -> None:
    editor.js(
        "for (const n of app.graph._nodes) for (const w of n.widgets ?? []) if (w.name === 'steps' && n.type !== 'FaceCrafterGuidanceIntervals') w.value = 2"
    )


def run_with_the_button(editor: Editor) -> dict[str, Any]:
    before = set(editor.server.get("/history"))
    editor.js("[...document.querySelectorAll('button')].find((b) => b.innerText.trim() === 'Run').click()")
    new = editor.until(lambda: set(editor.server.get("/history")) - before, "the run", 120)
    return editor.server.get("/history")[new.pop()]


@pytest.mark.parametrize("name", ["portrait_from_photo", "edit_landmarks", "strip_expression"])
def test_a_template_is_opened_and_run_with_the_mouse(editor: Editor, name: str) -> None:
    editor.driver.get(editor.driver.current_url)  # the dialog remembers the category that was open
    editor.until(lambda: editor.js("return !!(window.app?.graph && window.LiteGraph?.registered_node_types.FaceCrafterEmotion)"), "the editor")
    time.sleep(2)
    editor.until(lambda: editor.js("return document.querySelector('.templates-tab-button')"), "the Templates button").click()
    click_words(editor, "facecrafter")
    search(editor, name)  # the list stands in the order of the disk, and its end is loaded by scrolling
    click_words(editor, name)
    editor.until(lambda: editor.numbers("FaceCrafterLoader"), "the template")
    fewer_steps(editor)
    entry = run_with_the_button(editor)
    assert entry["status"]["status_str"] == "success", entry["status"]
    [picture] = editor.server.images(entry)
    assert picture.size == (256, 256)


@pytest.mark.parametrize("path", sorted((ROOT / "subgraphs").glob("*.json")), ids=lambda path: path.stem)
def test_a_blueprint_runs_as_one_node(editor: Editor, path: Path) -> None:
    if not editor.js("return typeof app.graph.convertToSubgraph === 'function'"):
        pytest.skip("this frontend knows no subgraphs")
    editor.load(json.loads(path.read_text(encoding="utf-8")))
    [node] = editor.js("return app.graph._nodes.map((n) => n.id)")
    for name in editor.js("return app.graph.getNodeById(arguments[0]).inputs.filter((i) => i.type === 'IMAGE').map((i) => i.name)", node):
        photo = editor.add("FaceCrafterSamplePortrait", -400, 0)
        editor.connect(photo, 0, node, name)
    save = editor.add("SaveImage", 600, 0)
    editor.connect(node, 0, save, "images")
    editor.js("for (const n of app.graph._nodes) for (const w of n.subgraph?._nodes.flatMap((m) => m.widgets ?? []) ?? []) if (w.name === 'steps') w.value = 2")
    entry = run_with_the_button(editor)
    assert entry["status"]["status_str"] == "success", entry["status"]
    assert editor.server.images(entry)
