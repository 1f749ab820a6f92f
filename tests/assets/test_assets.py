"""The table of other people's files is complete."""

from facecrafter_core.assets import ASSETS, USES


def test_every_row_says_where_from_under_which_licence_and_what_for():
    assert [name for name, asset in ASSETS.items() if not asset.urls] == ["adapter"]
    for name, asset in ASSETS.items():
        assert asset.name == name and asset.licence and asset.purpose and asset.folder and asset.uses and set(asset.uses) <= set(USES)
        assert all(url.startswith("https://") for url in (*asset.urls, *([asset.licence_url] if asset.urls else [])))
        assert (asset.size is None) == (asset.sha256 is None) and (asset.sha256 is None or len(bytes.fromhex(asset.sha256)) == 32)
