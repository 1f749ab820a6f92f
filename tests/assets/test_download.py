"""Downloads over a network and onto a disk that fail in every way that a real one does: whole and right at the end, or not there at all."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import CONTENT, HALF, OTHER, Handler, announces, assert_whole, drops, files, gives, says, whole

from facecrafter_core import download
from facecrafter_core.assets import Asset
from facecrafter_core.errors import AssetError, OutputError


def test_a_file_arrives_and_nothing_else_is_left(asset, target, server):
    assert download.download(asset, target) == target
    assert_whole(target)
    assert server.ranges == [None]


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_drops_midway_is_taken_up_where_it_broke(asset, target, server, reset):
    server.answers = [drops(100_000, reset), drops(0, reset), drops(200_000, reset)]
    download.download(asset, target)
    assert_whole(target)
    assert server.ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=300000-"]


def test_more_interruptions_than_tries_are_survived_as_long_as_bytes_arrive(asset, target, server):
    server.answers = [drops(30_000)] * (download.TRIES * 3)
    download.download(asset, target)
    assert_whole(target)


def test_a_server_that_stays_away_leaves_the_half_from_which_the_next_run_goes_on(asset, target, server):
    server.answers = [drops(HALF)] + [drops(0)] * download.TRIES
    with pytest.raises(AssetError, match=f"broke off after {HALF:,} of {len(CONTENT):,} bytes"):
        download.download(asset, target)
    assert files(target.parent) == ["weights.bin.part"] and len(server.asked) == download.TRIES
    server.answers, server.asked = [], []
    download.download(asset, target)
    assert_whole(target)
    assert server.ranges == [f"bytes={HALF}-"]


def test_a_half_that_is_complete_needs_no_connection(asset, target, server):
    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").write_bytes(CONTENT)
    download.download(asset, target)
    assert_whole(target)
    assert server.asked == []


@pytest.mark.parametrize("half", [OTHER[:HALF], OTHER, OTHER + OTHER])
def test_a_half_of_something_else_is_fetched_anew(asset, target, server, half):
    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").write_bytes(half)
    download.download(asset, target)
    assert_whole(target)
    assert server.ranges[-1] is None


def test_a_server_that_ignores_ranges_sends_it_all_again(asset, target, server):
    server.answers = [drops(HALF), gives(CONTENT)]
    download.download(asset, target)
    assert_whole(target)


def test_a_server_that_goes_on_elsewhere_is_not_believed(asset, target, server):
    server.answers = [drops(HALF), lambda h: (h.head(206, len(CONTENT), Content_Range=f"bytes 0-/{len(CONTENT)}"), h.wfile.write(CONTENT))]
    download.download(asset, target)
    assert_whole(target)


@pytest.mark.parametrize("length", [HALF, len(CONTENT) * 2, None])
def test_a_false_or_missing_length_does_not_matter_where_the_size_is_known(asset, target, server, length):
    server.answers = [announces(length)]
    download.download(asset, target)
    assert_whole(target)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (gives(OTHER), "another file than expected"),
        (gives(CONTENT + b"more"), "more than the 640,000 bytes"),
        (gives(CONTENT[:1000]), "broke off after 1,000 of 640,000 bytes"),
        (gives(b"<html>Please log in</html>", Content_Type="text/html; charset=utf-8"), "a web page"),
        (says(401), "asks for a login"),
        (says(403), "refuses access"),
        (says(404), "no such file"),
        (says(500), "HTTP 500"),
        (says(429), "HTTP 429"),
        (says(416), "HTTP 416"),
        (says(302, Location="/weights.bin"), "redirects in circles (HTTP 302)"),
    ],
)
def test_a_source_of_no_use_is_named_with_its_reason_and_leaves_nothing(asset, target, server, answer, words):
    server.answers = [answer] * 30
    with pytest.raises(AssetError) as raised:
        download.download(asset, target)
    said = str(raised.value)
    assert words in said and asset.urls[0] in said and "--offline-folder" in said and "\n" not in said
    assert [name for name in files(target.parent) if not name.endswith(".part")] == []
    assert len(server.asked) <= 11


def test_what_a_wrong_source_gave_is_not_kept(asset, target, server):
    server.answers = [gives(OTHER)]
    with pytest.raises(AssetError):
        download.download(asset, target)
    assert files(target.parent) == [] and server.ranges == [None]


def test_a_failed_download_leaves_the_old_file_as_it_was(asset, target, server):
    target.parent.mkdir(parents=True)
    target.write_text("old")
    server.answers = [says(404)]
    with pytest.raises(AssetError):
        download.download(asset, target)
    assert target.read_text() == "old"
    download.download(asset, target)
    assert_whole(target)


def test_a_server_in_trouble_is_asked_again(asset, target, server):
    server.answers = [says(503), says(429), drops(HALF), says(500)]
    download.download(asset, target)
    assert_whole(target)


def test_redirections_are_followed_also_when_going_on(asset, target, server):
    server.answers = [says(302, Location="/store/1"), drops(HALF), says(307, Location=f"{server.url}/store/2")]
    download.download(asset, target)
    assert_whole(target)
    assert server.asked[1:] == [("/store/1", None), ("/weights.bin", f"bytes={HALF}-"), ("/store/2", f"bytes={HALF}-")]


def test_a_server_that_is_not_there_is_said(asset, target):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/weights.bin"
    with pytest.raises(AssetError, match="refused"):
        download.download(replace(asset, urls=(address,)), target)
    assert files(target.parent) == []


def test_a_server_that_falls_silent_is_left_after_a_while(asset, target, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.answers = [lambda h: (h.head(200, len(CONTENT)), h.wfile.write(CONTENT[:HALF]), h.wfile.flush(), time.sleep(1))]
    download.download(asset, target)
    assert_whole(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_the_next_source_goes_on_with_what_the_first_gave(asset, target, server):
    server.answers = [drops(HALF), says(404)]
    download.download(replace(asset, urls=(f"{server.url}/first", f"{server.url}/second")), target)
    assert_whole(target)
    assert server.asked[-1] == ("/second", f"bytes={HALF}-")


def test_without_a_hash_halves_are_not_put_together_and_not_kept(asset, target, server):
    unknown = replace(asset, size=None, sha256=None)
    server.answers = [drops(HALF)] * download.TRIES
    with pytest.raises(AssetError, match="broke off"):
        download.download(unknown, target)
    assert files(target.parent) == []
    target.with_name("weights.bin.part").write_bytes(OTHER[:HALF])
    server.answers, server.asked = [], []
    download.download(unknown, target)
    assert_whole(target)
    assert server.ranges == [None]


def test_a_mirror_takes_the_place_of_hugging_face_only(asset, target, server, monkeypatch):
    there = replace(asset, urls=("https://huggingface.co/owner/name/resolve/main/weights.bin",))
    download.download(there, target, mirror=f"{server.url}/hub/")
    target.unlink()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    download.download(there, target)
    target.unlink()
    download.download(asset, target, mirror="http://nowhere.invalid")
    target.unlink()
    path = "/owner/name/resolve/main/weights.bin"
    assert [asked for asked, _ in server.asked] == [f"/hub{path}", path, "/weights.bin"]
    for address in ("hf-mirror.com", "http://[::1"):
        with pytest.raises(AssetError, match="mirror's address"):
            download.download(there, target, mirror=address)


def test_the_environments_proxy_is_used(asset, target, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    download.download(replace(asset, urls=("http://models.invalid/weights.bin",)), target)
    assert_whole(target)
    assert server.asked == [("http://models.invalid/weights.bin", None)]


def test_a_proxy_that_asks_for_a_login_is_named(asset, target, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    server.answers = [says(407)]
    with pytest.raises(AssetError, match="proxy that asks for a login"):
        download.download(replace(asset, urls=("http://models.invalid/weights.bin",)), target)


def test_too_little_space_is_said_before_anything_is_fetched(asset, target, server, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OutputError, match=r"Expected 640,000 free bytes in .* for weights.bin, found 1\. Free some space"):
        download.download(asset, target)
    assert server.asked == [] and files(target.parent) == []


@pytest.fixture
def full_disk():
    """No file may grow over 300,000 bytes: a real error of the system in the middle of a write."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def release() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    yield release
    release()


def test_a_disk_that_fills_up_is_said_and_the_download_goes_on_once_there_is_room(asset, target, server, full_disk):
    with pytest.raises(OutputError, match="Free some space"):
        download.download(asset, target)
    assert files(target.parent) == ["weights.bin.part"] and len(server.asked) == 1
    full_disk()
    download.download(asset, target)
    assert_whole(target)
    assert server.ranges[-1] == "bytes=300000-"


def test_a_copy_onto_a_full_disk_is_not_left(asset, target, server, tmp_path, full_disk):
    full_disk()
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "weights.bin").write_bytes(CONTENT)
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(OutputError, match="Could not write"):
        download.download(asset, target, offline=tmp_path / "stick")
    assert files(target.parent) == []


def test_a_place_that_cannot_be_written_is_said(asset, target, server):
    target.parent.parent.mkdir()
    target.parent.write_text("in the way")
    with pytest.raises(OutputError, match="Could not write"):
        download.download(asset, target)
    target.parent.unlink()
    target.mkdir(parents=True)
    with pytest.raises(OutputError, match="is a folder"):
        download.download(asset, target)
    assert server.asked == []


def test_many_at_once_fetch_one_file_once(asset, target, server):
    def slow(h: Handler) -> None:
        time.sleep(0.3)
        whole(h)

    server.answers = [slow]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: download.download(asset, target), range(8))) == {target}
    assert_whole(target)
    assert server.ranges == [None]


def test_only_one_at_a_time_even_as_locks_come_and_go(target):
    target.parent.mkdir(parents=True)
    inside, most = [], []

    def work(number: int) -> None:
        for _ in range(20):
            with download._alone(target):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert max(most) == 1 and len(most) == 160 and files(target.parent) == []


SCRIPT = """
import sys
from pathlib import Path
from facecrafter_core import download
from facecrafter_core.assets import Asset
download.PAUSE = 0
url, size, sha256, target = sys.argv[1:]
download.download(Asset("weights", "kind/weights.bin", (url,), int(size), sha256, "CC0", "", "models", "a test", ("demo",)), Path(target))
"""


def another_process(asset: Asset, target: Path) -> subprocess.Popen:
    arguments = [asset.urls[0], str(asset.size), asset.sha256, str(target)]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stdout=subprocess.DEVNULL)


def test_several_processes_fetch_one_file_without_harm(asset, target, server):
    server.answers = [drops(HALF, reset=True), drops(1000)]
    processes = [another_process(asset, target) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert_whole(target)
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]


def test_a_killed_download_holds_nobody_up_and_is_gone_on_with(asset, target, server):
    def stall(h: Handler) -> None:
        h.head(200, len(CONTENT))
        h.wfile.write(CONTENT[:HALF])
        h.wfile.flush()
        time.sleep(5)

    server.answers = [stall]
    process = another_process(asset, target)
    part = target.with_name("weights.bin.part")
    deadline = time.monotonic() + 30
    while not (part.is_file() and part.stat().st_size == HALF) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    assert not target.exists()
    download.download(asset, target)
    assert_whole(target)
    assert server.ranges == [None, f"bytes={HALF}-"]
