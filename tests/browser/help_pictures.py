"""Takes the picture of each node for its help page: the node as it stands in the graph editor.

    python tests/browser/help_pictures.py [NODE ...]

Help pages show `images/NODE.webp`. Needs what templates.py needs.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "host")]
from editor import Editor  # noqa: E402
from hosts import ROOT, any_host  # noqa: E402
from PIL import Image  # noqa: E402
from server import Server  # noqa: E402

IMAGES = ROOT / "web/docs/images"
LEFT, TOP, EDGE, TITLE = 460, 120, 12, 30
VALUES = {
    "FaceCrafterEmotion": {"preset": "happy", "intensity": 0.8},
    "FaceCrafterEditLandmarks": {"yaw": 20.0, "expression": "smile 0.8"},
    "FaceCrafterSchedule": {"yaw": "0: -20, 15: 20"},
}


def main() -> None:
    host = any_host()
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server, Editor(server) as editor:
        editor.open(vue=False)
        IMAGES.mkdir(parents=True, exist_ok=True)
        names = sys.argv[1:] or sorted(n for n in server.get("/object_info") if n.startswith("FaceCrafter"))
        for name in names:
            editor.clear()
            number = editor.add(name, 0, 0, **VALUES.get(name, {}))
            width, height = editor.js("const n = app.graph.getNodeById(arguments[0]); app.canvas.deselectAll?.(); return [n.size[0], n.size[1]]", number)
            scale = min(1.0, 820 / (height + TITLE))
            editor.look(LEFT, TOP, scale)
            time.sleep(1)
            shot = Image.open(io.BytesIO(editor.driver.get_screenshot_as_png())).convert("RGB")
            left, top = editor.js("const box = app.canvas.canvas.getBoundingClientRect(); return [box.left, box.top]")
            x, y = left + LEFT, top + TOP
            box = (x - EDGE, y - TITLE * scale - EDGE, x + width * scale + EDGE, y + height * scale + EDGE)
            shot.crop(tuple(round(v) for v in box)).save(IMAGES / f"{name}.webp", quality=70)
            print(f"web/docs/images/{name}.webp")


if __name__ == "__main__":
    main()
