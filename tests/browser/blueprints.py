"""Writes the subgraph blueprints from the templates: everything but photos, notes and saving becomes one node, as the graph editor makes it.

    python tests/browser/blueprints.py

Needs what templates.py needs, and a ComfyUI whose editor knows blueprints (0.8.0 does).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import templates  # finds its neighbours
from editor import Editor
from hosts import ROOT, any_host
from server import Server

OUTSIDE = ("FaceCrafterSamplePortrait", "SaveImage", "MarkdownNote", "PreviewImage")


class Blueprint(NamedTuple):
    """template: its name. title: of the node. inputs: names of its photos, in order. widgets: (kind of node, input) that it shows."""

    template: str
    title: str
    inputs: tuple[str, ...]
    widgets: tuple[tuple[str, str], ...]


SAMPLING = (("FaceCrafterSampler", "seed"), ("FaceCrafterSampler", "steps"))
BLUEPRINTS = {
    "portrait_with_emotion": Blueprint(
        "portrait_with_emotion", "Portrait With Emotion", ("person",), (("FaceCrafterEmotion", "preset"), ("FaceCrafterEmotion", "intensity"), *SAMPLING)
    ),
    "copy_a_pose": Blueprint("copy_a_pose", "Copy a Pose", ("person", "pose"), (("FaceCrafterConditioning", "alpha_landmarks"), *SAMPLING)),
    "edit_face_in_picture": Blueprint(
        "edit_face_in_picture", "Edit Face in Picture", ("picture",), (("FaceCrafterEditLandmarks", "expression"), ("FaceCrafterSampler", "denoise"), *SAMPLING)
    ),
}


def portrait_with_emotion(e: Editor) -> templates.Graph:
    g = templates.Graph(e, "")
    load, _, identity = templates.base(g)
    emotion = g.add("FaceCrafterEmotion", 1, source="preset", preset="happy")
    templates.sampled(g, load, identity, 2, "", emotion=templates.Out(emotion, 0))
    return g


BUILDERS = {**templates.TEMPLATES, "portrait_with_emotion": portrait_with_emotion}

CONVERT = """
const [outside, blueprint] = arguments
const within = app.graph._nodes.filter((n) => !outside.includes(n.type))
const { subgraph, node } = app.graph.convertToSubgraph(new Set(within))
subgraph.name = node.title = blueprint.title
subgraph.inputs.forEach((input, i) => subgraph.renameInput(input, blueprint.inputs[i] ?? input.name))
for (const other of app.graph._nodes.filter((n) => n !== node)) app.graph.remove(other)
for (const output of [...subgraph.outputs].filter((o) => o.type === 'IMAGE').slice(0, -1)) subgraph.removeOutput(output)
node.properties.proxyWidgets = blueprint.widgets.map(([kind, name]) => [String(subgraph._nodes.find((n) => n.type === kind).id), name])
node.pos = [0, 0]
return JSON.stringify(app.graph.serialize())
"""


def main() -> None:
    host = any_host()
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server, Editor(server) as editor:
        editor.open(vue=False)
        for name, blueprint in BLUEPRINTS.items():
            BUILDERS[blueprint.template](editor).arrange()
            workflow = json.loads(editor.js(CONVERT, OUTSIDE, blueprint._asdict()))
            path = ROOT / "subgraphs" / f"{name}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
