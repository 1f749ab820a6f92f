"""Other people's model files, when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..facecrafter_core.errors import AssetError
from .host.acceptance import is_accepted
from .host.run import byte_progress, models_directory
from .types import CATEGORY

if TYPE_CHECKING:
    from ..facecrafter_core.assets import Asset

NOT_READ = {
    "accept_licences": "licences are accepted by a click on the node.",
    "mirror": "a mirror comes from the environment variable HF_ENDPOINT.",
}
"""Inputs that workflows of before have; a stranger's workflow must not decide them."""
SETS = {"all that the full size needs": "full", "all that the metrics need": "metrics"}


def choices() -> list[str]:
    from ..facecrafter_core.assets import ASSETS

    return [*SETS, *(asset.name for asset in ASSETS.values() if asset.urls)]


def chosen(what: str) -> list[Asset]:
    """A choice -> its files.

    Raises:
        AssetError: no such choice.
    """
    from ..facecrafter_core.assets import ASSETS, get_asset

    return [a for a in ASSETS.values() if SETS[what] in a.uses and a.urls] if what in SETS else [get_asset(what)]


def licences(what: str) -> dict[str, str]:
    """A choice -> each file's size and licence, in words."""
    return {a.name: f"{size_of(a)}, licence {a.licence}, {a.licence_url}" for a in chosen(what)}


class FaceCrafterDownloadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        options = choices()
        return io.Schema(
            node_id="FaceCrafterDownloadModels",
            display_name="Download Models",
            category=CATEGORY,
            description="Gets model files that others publish, such as Arc2Face, into ComfyUI's model folders: checked, and gone on with after an interruption. "
            "Nothing is ever downloaded without a click on this node, or the command line.",
            inputs=[
                io.Combo.Input("what", options=options, default=options[0], tooltip="A set of files, or one of them."),
                io.Boolean.Input(
                    "accept_licences",
                    default=False,
                    tooltip="Not read: a workflow cannot accept licences. Press the button 'Show and accept licences' on the node.",
                ),
                io.String.Input(
                    "mirror",
                    default="",
                    tooltip="Not read: a workflow cannot choose whom ComfyUI calls. Set the environment variable HF_ENDPOINT before ComfyUI starts.",
                ),
            ],
            outputs=[io.String.Output(id="report", display_name="REPORT", tooltip="What is here, what was downloaded, and where it lies.")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> float:
        """It looks anew in each run: files may have come or gone."""
        return float("nan")

    @classmethod
    def execute(cls, what: str, accept_licences: bool, mirror: str) -> io.NodeOutput:
        from ..facecrafter_core.download import download
        from ..facecrafter_core.search import cache_folder, files_under, look_for, search_folders

        given = {"accept_licences": accept_licences, "mirror": mirror.strip()}
        unread = [f"{name} of the workflow was not read: {NOT_READ[name]}" for name, value in given.items() if value]
        lines = list(unread)
        missing, files = [], files_under(search_folders())
        for asset in chosen(what):
            path, troubles = look_for(asset, files)
            here = path is not None and not path.is_relative_to(cache_folder())  # the user's cache is not where ComfyUI's loaders look
            lines += [f"{asset.name}: here, {path}"] if here else troubles
            missing += [] if here else [(asset, path)]
        to_accept = [asset for asset, path in missing if path is None and not is_accepted(asset.name)]
        if to_accept:
            raise AssetError(
                "Expected a click on 'Show and accept licences' on this node before anything is downloaded (or `facecrafter assets download`). Missing: "
                + "; ".join(f"{a.name} ({licences(a.name)[a.name]})" for a in to_accept)
                + " ".join([".", *unread])
            )
        for asset, path in missing:
            target = download(asset, models_directory() / asset.folder / asset.file, progress=byte_progress(), here=path)
            lines.append(f"{asset.name}: now at {target}")
        return io.NodeOutput("\n".join(lines), ui={"text": lines})


def size_of(asset: Asset) -> str:
    size = asset.archive.size if asset.archive else asset.size
    return "size not known" if size is None else f"{size / 1e6:,.0f} MB"
