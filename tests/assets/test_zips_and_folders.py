"""Files that come out of a zip, or out of a folder on a disk."""

from dataclasses import replace

import pytest
from file_server import CONTENT, HALF, OTHER, assert_whole, files, whole, zipped

from facecrafter_core import download
from facecrafter_core.assets import ASSETS
from facecrafter_core.errors import AssetError


def test_a_zip_gives_its_member_and_goes(asset, target, server):
    packed, data = zipped(asset)
    server.answers = [lambda h: whole(h, data)]
    download.download(packed, target)
    assert_whole(target)


def test_a_zip_that_is_here_already_is_unpacked_and_kept(asset, target, server, tmp_path):
    packed, data = zipped(asset)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "renamed.zip").write_bytes(data)
    download.download(packed, target)
    assert_whole(target)
    assert server.asked == [] and (tmp_path / "cache" / "renamed.zip").is_file()


@pytest.mark.parametrize(("content", "member"), [(OTHER, "pack/weights.bin"), (CONTENT, "pack/gone.bin")])
def test_a_zip_with_something_else_inside_is_refused(asset, target, server, content, member):
    packed, data = zipped(asset, content)
    server.answers = [lambda h: whole(h, data)]
    with pytest.raises(AssetError, match="expected|Expected"):
        download.download(replace(packed, archive=replace(packed.archive, member=member)), target)
    assert files(target.parent) == []


def test_an_offline_folder_gives_the_file_by_content_whatever_its_name(asset, target, server, tmp_path):
    stick = tmp_path / "stick" / "deep"
    stick.mkdir(parents=True)
    (stick / "a.bin").write_bytes(OTHER)
    (stick / "b.bin").write_bytes(CONTENT)
    download.download(asset, target, offline=tmp_path / "stick")
    assert_whole(target)
    assert files(stick) == ["a.bin", "b.bin"] and server.asked == []


def test_an_offline_folder_gives_a_zips_member(asset, target, server, tmp_path):
    packed, data = zipped(asset)
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "pack.zip").write_bytes(data)
    download.download(packed, target, offline=tmp_path / "stick")
    assert_whole(target)
    assert server.asked == []


def test_an_offline_folder_without_the_file_is_said(asset, target, server, tmp_path):
    stick = tmp_path / "stick" / "kind"
    with pytest.raises(AssetError, match="Expected a folder"):
        download.download(asset, target, offline=tmp_path / "stick")
    stick.mkdir(parents=True)
    with pytest.raises(AssetError, match="found no file with its content"):
        download.download(asset, target, offline=tmp_path / "stick")
    (stick / "weights.bin").write_bytes(CONTENT[:HALF])
    with pytest.raises(AssetError, match="half a download"):
        download.download(asset, target, offline=tmp_path / "stick")
    assert files(target.parent) == [] and server.asked == []


def test_what_is_not_published_cannot_be_downloaded(target):
    with pytest.raises(AssetError, match="not published yet"):
        download.download(ASSETS["adapter"], target)
