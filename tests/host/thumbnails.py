"""Draws the templates' thumbnails: runs each workflow in ComfyUI as it is shipped and shows what it made, with its sample portraits inset.

    python tests/host/thumbnails.py [NAME ...]

Run it again when the demo's weights or the workflows change. Needs a ComfyUI installation (see hosts.py) and Pillow.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from graph import to_prompt
from hosts import ROOT, any_host
from PIL import Image, ImageOps
from server import Server

SIDE = 512


def portraits(prompt: dict[str, Any]) -> list[Image.Image]:
    """The sample portraits that a prompt reads."""
    names = [
        node["inputs"]["portrait"] for node in prompt.values() if node["class_type"] == "FaceCrafterSamplePortrait"
    ]
    return [Image.open(ROOT / "demo" / "samples" / name) for name in names]


def thumbnail(made: list[Image.Image], given: list[Image.Image]) -> Image.Image:
    """The pictures made, in a square grid, with the given ones small in its corners."""
    columns = math.ceil(math.sqrt(len(made)))
    cell, inset = SIDE // columns, SIDE // 4
    sheet = Image.new("RGB", (SIDE, SIDE), (24, 24, 28))
    for i, picture in enumerate(made):
        whole = ImageOps.pad(picture, (cell, cell), Image.Resampling.LANCZOS, (24, 24, 28), (0.5, 0.0))
        sheet.paste(whole, (i % columns * cell, i // columns * cell))
    for picture, x in zip(given, (0, SIDE - inset), strict=False):
        sheet.paste(picture.resize((inset, inset), Image.Resampling.LANCZOS), (x, SIDE - inset))
    return sheet


def main() -> None:
    host = any_host()
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server:
        nodes = server.get("/object_info")
        for path in sorted((ROOT / "workflows").glob("*.json")):
            if sys.argv[1:] and path.stem not in sys.argv[1:]:
                continue
            prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), nodes)
            given = portraits(prompt)
            needs_files = path.stem == "full_size"  # other people's; its thumbnail shows what goes in
            made = given if needs_files else server.images(server.run(prompt))
            thumbnail(made, [] if needs_files else given).save(path.with_suffix(".jpg"), quality=88)
            print(path.with_suffix(".jpg").relative_to(ROOT))


if __name__ == "__main__":
    main()
