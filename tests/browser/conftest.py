"""Browser tests: ComfyUI's graph editor in headless Chromium, on each host, each frontend and in both renderers.

COMFYUI_PATH            the hosts, as for the host tests (tests/host/hosts.py)
FACECRAFTER_FRONTENDS   more frontends (folders for --front-end-root, separated as in PATH) to run on the newest of the hosts

Without Chromium, its driver, selenium or a host they are skipped, loudly.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "host")]
from editor import CHROMIUM, DRIVER, Editor  # noqa: E402
from hosts import hosts  # noqa: E402
from server import Server  # noqa: E402

RENDERERS = ("canvas", "vue")
NO_DOWNLOADS = {"HF_ENDPOINT": "nowhere"}
"""A mirror that is no address: a download ends in one sentence before anybody is called."""


def combinations() -> list[tuple]:
    """(host, frontend folder or None) -> each in both renderers."""
    found = hosts()
    more = [p for p in os.environ.get("FACECRAFTER_FRONTENDS", "").split(os.pathsep) if p]
    newest = max(found, key=lambda host: [int(n) for n in host.version.split(".") if n.isdigit()], default=None)
    pairs = [(host, None) for host in found] + [(newest, path) for path in more if newest]
    return [(host, frontend, renderer) for host, frontend in pairs for renderer in RENDERERS]


def why_not(host) -> str:
    for missing, reason in (
        (host is None, "no ComfyUI checkout: set COMFYUI_PATH"),
        (host is not None and host.python is None, host and host.why_not),
        (not (CHROMIUM and DRIVER), "no chromium with chromedriver"),
        (find_spec("selenium") is None, "no selenium: pip install selenium"),
    ):
        if missing:
            return reason
    return ""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "editor" in metafunc.fixturenames:
        found = combinations() or [(None, None, "canvas")]
        names = [f"{h.version if h else 'none'}{'-' + Path(f).parts[-3] if f else ''}-{r}" for h, f, r in found]
        metafunc.parametrize("combination", found, ids=names, scope="session", indirect=True)


@pytest.fixture(scope="session")
def combination(request: pytest.FixtureRequest):
    host = request.param[0]
    if reason := why_not(host):
        pytest.skip(f"browser tests: {reason}")
    return request.param


@pytest.fixture(scope="session")
def browser(combination, tmp_path_factory: pytest.TempPathFactory):
    """The editor of a server of its own, in one renderer."""
    host, frontend, renderer = combination
    arguments = ("--front-end-root", frontend) if frontend else ()
    folder = tmp_path_factory.mktemp("browser")
    with Server(host, folder, arguments=arguments, environment=NO_DOWNLOADS) as server, Editor(server) as editor:
        editor.open(vue=renderer == "vue")
        if renderer == "vue" and not editor.shows_widgets():
            reason = f"the Vue renderer of {frontend or host.version} shows no pack's DOM widgets"
            pytest.skip(f"browser tests: {reason}")
        yield editor


@pytest.fixture
def editor(browser: Editor):
    """The editor with an empty graph; the test fails if the console shows an error."""
    browser.clear()
    yield browser
    assert browser.errors() == []
