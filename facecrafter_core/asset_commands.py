"""The commands `facecrafter assets list`, `download` and `verify`: their options, and what they do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .assets import ASSETS, USES, Asset, get_asset
from .errors import AssetError
from .search import add_search_folder, cache_folder, files_under, look_for, notes_on, search_folders


def add_asset_commands(tasks: argparse._SubParsersAction, formatter: type[argparse.HelpFormatter]) -> None:
    """Adds the three commands to the parser of `facecrafter assets`; each sets `run`, which takes the parsed arguments."""
    listing = tasks.add_parser("list", help="what there is, where it is, its size and licence", formatter_class=formatter)
    listing.set_defaults(run=list_assets)
    download = tasks.add_parser("download", help="get what is missing, after its licence is accepted", formatter_class=formatter)
    download.add_argument("names", metavar="NAME", nargs="*", help="assets by name; or use --for")
    download.add_argument("--for", dest="use", choices=USES, help="all that the full size, the demo or the metrics need")
    download.add_argument("--into", metavar="FOLDER", type=Path, help="ComfyUI's models folder; without it, the user's cache")
    download.add_argument("--mirror", metavar="URL", help="in place of https://huggingface.co; without it HF_ENDPOINT")
    download.add_argument("--offline-folder", metavar="FOLDER", type=Path, help="copy from here instead of the network")
    download.add_argument("--yes", action="store_const", const=True, help="accept the licences that are shown")
    download.set_defaults(run=download_assets)
    verify = tasks.add_parser("verify", help="hash what is here and say what is wrong", formatter_class=formatter)
    verify.add_argument("names", metavar="NAME", nargs="*", help="only these; they must be there")
    verify.set_defaults(run=verify_assets)
    for task in (listing, download, verify):
        task.add_argument(
            "--folder", metavar="FOLDER", type=Path, action="append", help="search here too, such as ComfyUI/models or ~/.insightface; may be repeated"
        )


def list_assets(options: argparse.Namespace) -> None:
    """Prints every asset: size, licence, purpose, where it lies, and what is wrong with files in its place.

    Raises:
        AssetError: a folder to search does not exist.
    """
    _search_in(options)
    files = files_under(search_folders())
    for asset in ASSETS.values():
        path, troubles = look_for(asset, files)
        print(f"{asset.name:24}{_amount(asset.size):>14}  {_licence(asset)}")
        print(f"    {asset.purpose}\n    {path or 'missing'}")
        for sentence in [*troubles, *notes_on(asset, path)]:
            print(f"    {sentence}")
    print(f"Searched: {', '.join(map(str, search_folders()))}")


def download_assets(options: argparse.Namespace) -> None:
    """Gets those of the named assets, or of all for one use, that are missing, once their licences are accepted.

    Raises:
        AssetError: names and use are both given or both not, a name or folder does not exist, nobody can be asked, or see download.
        OutputError: see download.
    """
    from .download import download  # brings Python's HTTP, of which --help needs nothing

    if bool(options.names) == bool(options.use):
        raise AssetError("Expected names of assets (see `facecrafter assets list`) or --for full, demo or metrics, found both or neither.")
    _search_in(options)
    wanted = [asset for asset in ASSETS.values() if options.use in asset.uses] if options.use else [*map(get_asset, options.names)]
    files = files_under(search_folders())
    missing = []
    for asset in wanted:
        path, troubles = look_for(asset, files)
        elsewhere = path is not None and options.into is not None and path.is_relative_to(cache_folder())  # where ComfyUI's loaders do not look
        state = f"to be copied from {path}" if elsewhere else f"here: {path}" if path else "missing" if asset.urls else "not published yet, left out"
        print("\n    ".join([f"{asset.name:24}{state}", *troubles]))
        if (path is None or elsewhere) and (asset.urls or options.names):
            missing.append((asset, path))
    if not _accepted([asset for asset, path in missing if asset.urls and path is None], options.yes):
        return
    for asset, path in missing:  # download refuses one that is not published
        target = options.into / asset.folder / asset.file if options.into else cache_folder() / asset.file
        print(f"Wrote {download(asset, target, options.mirror, options.offline_folder, here=path)}")
        if asset.sha256 is None:
            print(f"Neither size nor hash of {asset.name} are known, so only its transfer was checked.")


def verify_assets(options: argparse.Namespace) -> None:
    """Hashes what is here of the named assets, or of all, and prints of each whether it is right.

    Raises:
        AssetError: a file is wrong, a named one is missing, or a name or folder does not exist.
    """
    _search_in(options)
    files = files_under(search_folders())
    wrong = []
    for asset in map(get_asset, options.names) if options.names else ASSETS.values():
        path, troubles = look_for(asset, files)
        state = f"right: {path}" if asset.sha256 else f"here, but its hash is not known: {path}"
        if path is None:
            state = "wrong" if troubles else "missing" if asset.urls else "not published yet"
        print("\n    ".join([f"{asset.name:24}{state}", *troubles, *notes_on(asset, path)]))
        if troubles or (options.names and path is None):
            wrong.append(asset.name)
    if wrong:
        raise AssetError(f"Expected the files of the table, found {', '.join(wrong)} wrong or missing; the lines above say what to do.")


def _search_in(options: argparse.Namespace) -> None:
    """Adds the folders of --folder and --into to those that are searched."""
    for folder in [*(options.folder or ()), *filter(None, [getattr(options, "into", None)])]:
        if not folder.is_dir():
            raise AssetError(f"Expected a folder at {folder}, found none. Correct its name or make it.")
        add_search_folder(folder)


def _accepted(assets: Sequence[Asset], yes: bool) -> bool:
    """Shows the licences and asks, unless --yes has answered or there is nothing to ask.

    Raises:
        AssetError: there is nobody to ask.
    """
    for asset in assets:
        size = _amount(asset.archive.size if asset.archive else asset.size)
        print(f"{asset.name}: {size}, licence {_licence(asset)}", flush=True)
    if yes or not assets:
        return True
    if not sys.stdin.isatty():
        raise AssetError("Expected an answer to these licences, found nobody to ask. Add --yes to accept them.")
    return input("Download under these licences? [y/N] ").strip().lower() in ("y", "yes")


def _licence(asset: Asset) -> str:
    return f"{asset.licence}  {asset.licence_url}".strip()


def _amount(size: int | None) -> str:
    if size is None:
        return "size unknown"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} bytes"
