"""Files of others are found in a fixed order or by content, checked, and otherwise asked for by name."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from facecrafter_core import search
from facecrafter_core.assets import ASSETS
from facecrafter_core.cli import main
from facecrafter_core.errors import AssetError
from facecrafter_core.search import add_search_folder, files_under, find_asset, look_for


@pytest.fixture(scope="module")
def model() -> bytes:
    return find_asset("face_landmarker").read_bytes()


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No variable, no added folder, no copy of FaceCrafter's own, no package, an empty cache."""
    monkeypatch.delenv("FACECRAFTER_LANDMARKER", raising=False)
    monkeypatch.setattr(search, "_search_folders", [])
    monkeypatch.setattr(search, "_packaged", lambda asset: None)
    monkeypatch.setitem(ASSETS, "face_landmarker", replace(ASSETS["face_landmarker"], bundled=None))
    monkeypatch.setattr(search, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path


def test_the_landmarker_model_comes_with_the_installation():
    ours = Path(search.__file__).parent / "faces/face_landmarker.task"
    assert find_asset("face_landmarker").is_file() and search.what_is_wrong(ASSETS["face_landmarker"], ours) is None
    assert "Apache License" in ours.with_suffix(".LICENSE").read_text()


def test_the_variable_goes_first_then_folders_then_the_cache(model, nowhere, monkeypatch):
    for name in ("cache", "models", "named"):
        (nowhere / name).mkdir()
        (nowhere / name / "face_landmarker.task").write_bytes(model)
    assert find_asset("face_landmarker").parent.name == "cache"
    add_search_folder(nowhere / "models")
    assert find_asset("face_landmarker").parent.name == "models"
    monkeypatch.setenv("FACECRAFTER_LANDMARKER", str(nowhere / "named" / "face_landmarker.task"))
    assert find_asset("face_landmarker").parent.name == "named"


def test_a_missing_file_is_asked_for_with_its_licence_and_place(nowhere):
    with pytest.raises(AssetError) as raised:
        find_asset("face_landmarker")
    for words in ("facecrafter assets download face_landmarker", "Apache-2.0", str(nowhere / "cache")):
        assert words in str(raised.value)


def test_another_file_under_the_right_name_is_refused(nowhere):
    (nowhere / "face_landmarker.task").write_bytes(bytes(ASSETS["face_landmarker"].size))
    add_search_folder(nowhere)
    with pytest.raises(AssetError, match="is not the file that was expected"):
        find_asset("face_landmarker")


def test_a_variable_that_names_nothing_is_an_error(nowhere, monkeypatch):
    monkeypatch.setenv("FACECRAFTER_LANDMARKER", str(nowhere / "gone.task"))
    with pytest.raises(AssetError, match="there is no file"):
        find_asset("face_landmarker")


def test_an_unknown_asset_is_refused():
    with pytest.raises(AssetError, match="expected one of face_landmarker"):
        find_asset("vgg")


def test_a_package_that_carries_a_file_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier/__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path))
    asset = replace(ASSETS["lpips"], package="carrier", package_file="weights.pth")
    assert search._packaged(asset) == tmp_path / "carrier/weights.pth"


RECOGNISER, OWN_RECOGNISER, DETECTOR = b"Arc2Face's recogniser", b"glintr100's weights", b"the detector"


@pytest.fixture
def models(nowhere, monkeypatch) -> Path:
    """A ComfyUI models folder that is searched, and a table in which recogniser and detector are a few bytes long."""

    def changed(name: str, content: bytes) -> None:
        monkeypatch.setitem(ASSETS, name, replace(ASSETS[name], size=len(content), sha256=hashlib.sha256(content).hexdigest()))

    changed("arcface", RECOGNISER)
    changed("antelopev2", DETECTOR)
    own = (len(OWN_RECOGNISER), hashlib.sha256(OWN_RECOGNISER).hexdigest())
    monkeypatch.setattr(search, "TAKEN_FOR", {own: "antelopev2's own recogniser glintr100.onnx"})
    add_search_folder(nowhere / "models")
    return nowhere / "models"


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_is_found_in_its_folder_of_comfyuis(models):
    path = put(models / "insightface/models/antelopev2/arcface.onnx", RECOGNISER)
    assert find_asset("arcface") == path


def test_a_file_is_found_by_content_whatever_its_name_and_folder(models):
    put(models / "onnx/a.onnx", RECOGNISER[::-1])
    path = put(models / "onnx/deep/er/b.onnx", RECOGNISER)
    assert find_asset("arcface") == path


def test_only_files_of_the_right_size_are_hashed(models, monkeypatch):
    put(models / "checkpoints/large.safetensors", b"0" * 1000)
    put(models / "onnx/b.onnx", RECOGNISER)
    hashed, real = [], search.sha256
    monkeypatch.setattr(search, "sha256", lambda path: hashed.append(path.name) or real(path))
    find_asset("arcface")
    assert set(hashed) == {"b.onnx"}


def test_a_linked_folder_is_searched_and_one_that_leads_back_ends(models, nowhere):
    path = put(nowhere / "disk/b.onnx", RECOGNISER)
    models.mkdir()
    os.symlink(nowhere / "disk", models / "linked")
    os.symlink(models, nowhere / "disk/back")
    assert find_asset("arcface").samefile(path)
    assert len(files_under([models, nowhere / "disk"])) == 1
    path.unlink()
    with pytest.raises(AssetError, match="is not on this machine"):
        find_asset("arcface")


def test_antelopes_own_recogniser_in_the_place_of_arc2faces_is_named(models):
    put(models / "insightface/models/antelopev2/arcface.onnx", OWN_RECOGNISER)
    with pytest.raises(AssetError, match="is antelopev2's own recogniser glintr100.onnx, which was not expected in the place of arcface"):
        find_asset("arcface")


def test_the_right_file_elsewhere_goes_before_a_complaint(models):
    put(models / "insightface/models/antelopev2/arcface.onnx", OWN_RECOGNISER)
    path = put(models / "facecrafter/arcface.onnx", RECOGNISER)
    assert find_asset("arcface") == path
    assert len(look_for(ASSETS["arcface"])[1]) == 1


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("insightface/models/antelopev2/arcface.onnx", RECOGNISER[:5], "half a download or another file: expected 21 bytes"),
        ("insightface/models/antelopev2/arcface.onnx.part", RECOGNISER[:5], "half a download (5 of 21 bytes)"),
        ("somewhere/antelopev2/arcface.onnx", RECOGNISER + b"!", "is not the file that was expected for arcface (arcface.onnx) (22 bytes"),
    ],
)
def test_a_file_that_is_not_whole_is_named_with_what_to_do(models, file, content, words):
    path = put(models / file, content)
    with pytest.raises(AssetError) as raised:
        find_asset("arcface")
    assert words in str(raised.value) and str(path) in str(raised.value) and "`facecrafter assets download arcface`" in str(raised.value)


def test_a_zip_that_is_whole_half_or_unpacked_too_deep_is_named(models, capsys):
    zipped = put(models / "insightface/models/antelopev2.zip", b"zip")
    with pytest.raises(AssetError, match="half a download or another file: expected 360,662,982 bytes, found 3"):
        find_asset("antelopev2")
    archive = ASSETS["antelopev2"].archive
    with patch.dict(ASSETS, {"antelopev2": replace(ASSETS["antelopev2"], archive=replace(archive, size=3))}), pytest.raises(AssetError, match="is not unpacked"):
        find_asset("antelopev2")
    zipped.rename(zipped.with_name("antelopev2.zip.part"))
    with pytest.raises(AssetError, match=r"half a download \(3 of 360,662,982 bytes\)"):
        find_asset("antelopev2")
    path = put(models / "insightface/models/antelopev2/antelopev2/scrfd_10g_bnkps.onnx", DETECTOR)
    assert find_asset("antelopev2") == path
    assert main(["assets", "verify"]) == 0
    assert f"{path} lies one folder too deep" in capsys.readouterr().out


def test_an_error_names_the_searched_folders_and_what_to_do_where_this_runs(models, monkeypatch):
    monkeypatch.setattr(search, "_advice", "")
    models.mkdir()
    add_search_folder("arc2face")  # a name that --models knows, and no folder
    search.give_advice('queue the node Download Models with "{name}"')
    with pytest.raises(AssetError, match='Queue the node Download Models with "arcface", or put it in') as nowhere:
        find_asset("arcface")
    put(models / "insightface/models/antelopev2/arcface.onnx", OWN_RECOGNISER)
    with pytest.raises(AssetError, match='delete it and queue the node Download Models with "arcface"') as wrong:
        find_asset("arcface")
    for error in (nowhere, wrong):
        assert str(models) in str(error.value) and str(search.cache_folder()) in str(error.value) and "or arc2face" not in str(error.value)


def test_list_says_what_is_where_and_what_is_wrong(models, capsys):
    here = put(models / "onnx/a.onnx", DETECTOR)
    put(models / "insightface/models/antelopev2/arcface.onnx", OWN_RECOGNISER)
    assert main(["assets", "list"]) == 0
    said = capsys.readouterr().out
    for asset in ASSETS.values():
        assert all(words in said for words in (asset.name, asset.licence, asset.licence_url, asset.purpose))
    assert str(here) in said and "glintr100" in said and "3.4 GB" in said and "size unknown" in said and "not published yet" in said


def test_list_searches_the_folders_that_are_given(models, nowhere, capsys):
    path = put(nowhere / "elsewhere/a.onnx", RECOGNISER)
    assert main(["assets", "list", "--folder", str(nowhere / "elsewhere")]) == 0
    assert str(path) in capsys.readouterr().out


def test_verify_names_what_is_wrong_and_passes_over_what_is_missing(models, capsys):
    path = put(models / "insightface/models/antelopev2/arcface.onnx", RECOGNISER)
    assert main(["assets", "verify"]) == 0
    assert f"right: {path}" in capsys.readouterr().out
    assert main(["assets", "verify", "arcface", "sd_vae"]) == 2
    assert "found sd_vae wrong or missing" in capsys.readouterr().err
    put(path, RECOGNISER[::-1])
    assert main(["assets", "verify"]) == 2
    said = capsys.readouterr()
    assert "found arcface wrong" in said.err and "sha256" in said.out
