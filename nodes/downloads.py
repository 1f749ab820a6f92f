"""Other people's model files, when they are asked for."""

from __future__ import annotations

from comfy_api.latest import io

from ..facecrafter_core.errors import AssetError
from .host.run import byte_progress, models_directory
from .types import CATEGORY

SETS = {"all that the full size needs": "full", "all that the metrics need": "metrics"}


def choices() -> list[str]:
    from ..facecrafter_core.assets import ASSETS

    return [*SETS, *(asset.name for asset in ASSETS.values() if asset.urls)]


class FaceCrafterDownloadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        options = choices()
        return io.Schema(
            node_id="FaceCrafterDownloadModels",
            display_name="Download Models",
            category=CATEGORY,
            description="Gets model files that others publish, such as Arc2Face, into ComfyUI's model folders: checked, and gone on with after an interruption. "
            "Nothing is ever downloaded without this node or the command line.",
            inputs=[
                io.Combo.Input("what", options=options, default=options[0], tooltip="A set of files, or one of them."),
                io.Boolean.Input(
                    "accept_licences",
                    default=False,
                    tooltip="On: you accept the licences of these files. Off: the licences and sizes are shown, and nothing is downloaded.",
                ),
                io.String.Input("mirror", default="", tooltip="An address in place of https://huggingface.co. Empty: none."),
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
        from ..facecrafter_core.assets import ASSETS, get_asset
        from ..facecrafter_core.download import download
        from ..facecrafter_core.search import cache_folder, files_under, look_for, search_folders

        wanted = [a for a in ASSETS.values() if SETS[what] in a.uses and a.urls] if what in SETS else [get_asset(what)]
        missing, lines, files = [], [], files_under(search_folders())
        for asset in wanted:
            path, troubles = look_for(asset, files)
            here = path is not None and not path.is_relative_to(cache_folder())  # the user's cache is not where ComfyUI's loaders look
            lines += [f"{asset.name}: here, {path}"] if here else troubles
            missing += [] if here else [(asset, path)]
        to_fetch = [asset for asset, path in missing if path is None]
        if to_fetch and not accept_licences:
            raise AssetError(
                "Expected accept_licences to be on before anything is downloaded. Missing: "
                + "; ".join(f"{a.name} ({size_of(a)}, licence {a.licence}, {a.licence_url})" for a in to_fetch)
                + "."
            )
        for asset, path in missing:
            target = download(asset, models_directory() / asset.folder / asset.file, mirror.strip() or None, progress=byte_progress(), here=path)
            lines.append(f"{asset.name}: now at {target}")
        return io.NodeOutput("\n".join(lines), ui={"text": lines})


def size_of(asset: object) -> str:
    size = asset.archive.size if asset.archive else asset.size
    return "size not known" if size is None else f"{size / 1e6:,.0f} MB"
