"""The command `facecrafter assets download`: asks, downloads what is missing, copies what is elsewhere."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest
from file_server import CONTENT, assert_whole

from facecrafter_core.assets import ASSETS, Asset
from facecrafter_core.cli import main


@pytest.fixture
def listed(asset, target) -> Iterator[Asset]:
    """The table holds this one asset and one that is not published."""
    with patch.dict(ASSETS, {"weights": asset, "adapter": replace(ASSETS["adapter"], uses=("demo",))}, clear=True):
        yield asset


def test_the_command_shows_the_licence_first_and_asks(listed, target, server, monkeypatch, capsys):
    assert main(["assets", "download", "--for", "demo"]) == 2
    said = capsys.readouterr()
    assert "licence CC0  https://example.com/licence" in said.out and "--yes" in said.err and server.asked == []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "no")
    assert main(["assets", "download", "weights"]) == 0 and server.asked == []
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert main(["assets", "download", "weights"]) == 0
    assert_whole(target)


def test_beside_a_file_that_is_not_published_nothing_comes_without_an_answer(listed, target, server, capsys):
    assert main(["assets", "download", "weights", "adapter"]) == 2
    said = capsys.readouterr()
    assert "licence CC0" in said.out and "--yes" in said.err and server.asked == [] and not target.exists()


def test_the_command_downloads_into_comfyuis_folders_and_only_what_is_missing(listed, server, tmp_path, capsys):
    models = tmp_path / "ComfyUI" / "models"
    models.mkdir(parents=True)
    arguments = ["assets", "download", "--for", "demo", "--into", str(models), "--yes"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert_whole(models / "models" / "kind" / "weights.bin")
    assert said.index("licence CC0") < said.index("Wrote") and "not published yet" in said
    assert main(arguments) == 0
    assert "here: " in capsys.readouterr().out and len(server.asked) == 1


def test_what_lies_in_the_users_cache_is_copied_to_where_comfyui_looks(listed, target, server, tmp_path, capsys):
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    (tmp_path / "models").mkdir()
    assert main(["assets", "download", "weights", "--into", str(tmp_path / "models")]) == 0
    assert_whole(tmp_path / "models/models/kind/weights.bin")
    assert f"to be copied from {target}" in capsys.readouterr().out and server.asked == [] and target.is_file()


def test_the_commands_mistakes_are_said_in_one_sentence(listed, tmp_path, capsys):
    for arguments, words in (
        (["download"], "--for"),
        (["download", "weights", "--for", "demo"], "--for"),
        (["download", "vgg", "--yes"], "There is no asset 'vgg'"),
        (["download", "adapter", "--yes"], "not published yet"),
        (["list", "--folder", str(tmp_path / "gone")], "Expected a folder at"),
        (["download", "weights", "--yes", "--into", str(tmp_path / "gone")], "Expected a folder at"),
    ):
        assert main(["assets", *arguments]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and words in said[0]
