"""The user study's page in a real browser, from a file and by keyboard, to the answers that are tallied."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from editor import CHROMIUM, DRIVER  # noqa: E402
from study_world import ROWS, make_run  # noqa: E402

from training.study import make_study, tally, write_study  # noqa: E402

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER and find_spec("selenium")), reason="no chromium with chromedriver and selenium")


@pytest.fixture
def page(tmp_path: Path):
    """(driver, folder): the study's page is folder/study.html, downloads arrive in folder."""
    from selenium import webdriver

    runs = {"control": make_run(tmp_path / "control", True), "identity": make_run(tmp_path / "identity", False)}
    write_study(*make_study(runs, ROWS, sets=4, per=2, group=2, size=32, seed=0), tmp_path / "out")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,900"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "out")})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver, tmp_path / "out"
    driver.quit()


def press(driver, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(driver).send_keys(key).perform()


def test_a_participant_answers_by_keyboard_and_the_saved_file_is_tallied(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver, folder = page
    driver.get((folder / "study.html").as_uri())
    press(driver, "3", Keys.ENTER)  # the participant's number
    content, key = (json.loads((folder / "study.key.json").read_text())["study"], json.loads((folder / "study.key.json").read_text()))
    seen = []
    for i in range(10):  # five questions, two sets each
        assert driver.find_element(By.CSS_SELECTOR, "nav span").text == f"{i + 1} of 10"
        buttons = driver.find_elements(By.CSS_SELECTOR, "[role=radio]")
        assert len(buttons) == 3 and not driver.find_element(By.ID, "next").is_enabled()
        press(driver, "2")
        assert [b.get_attribute("aria-checked") for b in buttons] == ["false", "true", "false"]
        seen.append((driver.find_element(By.ID, "question").text, int(buttons[1].get_attribute("data-option"))))
        if i == 3:  # a reload keeps what was answered
            driver.refresh()
            press(driver, "3", Keys.ENTER)
            assert driver.find_element(By.CSS_SELECTOR, "nav span").text == "4 of 10"
            assert driver.find_elements(By.CSS_SELECTOR, "[aria-checked=true]")
            press(driver, "2")
        if i == 5:  # back, another choice by the arrows, and on again
            press(driver, Keys.BACKSPACE, "1", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, " ", Keys.ENTER)
            seen[4] = (seen[4][0], None)
            press(driver, "2")
        press(driver, Keys.ENTER)
    driver.find_element(By.ID, "save").click()
    saved = folder / "answers-3.json"
    for _ in range(50):
        if saved.is_file():
            break
        time.sleep(0.1)
    answers = json.loads(saved.read_text())
    assert answers["study"] == content and answers["participant"] == 3
    for (_, option), given in zip(seen, answers["answers"], strict=True):
        assert option is None or given["option"] == option
    assert all(a["seconds"] > 0 for a in answers["answers"])
    result = tally([saved], key)
    assert {rates["one"]["shown"] for rates in result["rates"].values()} == {2} and not result["unfinished"]


def test_participants_share_the_sets_evenly_and_see_orders_of_their_own(page):
    driver, folder = page
    driver.get((folder / "study.html").as_uri())
    tasks = driver.execute_script("return [1, 2, 3, 4].map(p => tasksOf(p).map(t => [t.question.id, t.set, t.order]))")
    counts = {}
    for question, chosen, _ in (t for one in tasks for t in one):
        counts[question, chosen] = counts.get((question, chosen), 0) + 1
    assert set(counts.values()) == {2} and len(counts) == 5 * 4
    assert len({tuple(t[2]) for one in tasks for t in one}) > 2
    assert tasks[0] != tasks[2] and driver.execute_script("return JSON.stringify(tasksOf(1)) === JSON.stringify(tasksOf(1))")


def test_the_page_loads_nothing_from_elsewhere(page):
    driver, folder = page
    driver.get((folder / "study.html").as_uri() + "?participant=1")
    assert driver.execute_script("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
    assert driver.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth === 32)")
