"""A server that can do anything, an asset that names its file, and an empty cache."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from file_server import CONTENT, Server  # noqa: E402

from facecrafter_core import asset_commands, download, search
from facecrafter_core.assets import Asset


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def asset(server) -> Asset:
    return Asset(
        name="weights",
        file="kind/weights.bin",
        urls=(f"{server.url}/weights.bin",),
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="CC0",
        licence_url="https://example.com/licence",
        folder="models",
        purpose="a test",
        uses=("demo",),
    )


@pytest.fixture
def target(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(search, "_search_folders", [])
    for module in (search, asset_commands):
        monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "kind" / "weights.bin"
