"""Host tests need a ComfyUI checkout and an interpreter that can run it (see hosts.py); without them they are skipped, loudly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hosts import Host, hosts  # noqa: E402
from server import Server  # noqa: E402

HOSTS = hosts()
NO_HOST = "no ComfyUI checkout: set COMFYUI_PATH, or clone ComfyUI to ~/comfy/ComfyUI"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        found = HOSTS or [None]
        metafunc.parametrize(
            "host", found, ids=[h.version if h else "no-host" for h in found], scope="session", indirect=True
        )


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Host:
    reason = NO_HOST if request.param is None else request.param.why_not
    if request.param is None or request.param.python is None:
        pytest.skip(f"ComfyUI host tests: {reason}")
    return request.param


@pytest.fixture(scope="session")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory):
    """A running ComfyUI server with FaceCrafter as its only custom node pack."""
    with Server(host, tmp_path_factory.mktemp(f"comfyui-{host.version}")) as running:
        yield running
