"""A workflow that was saved by an older version opens and runs: nothing is renamed, reordered or taken away; new inputs are optional and last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from freeze import OLD, TABLE, described
from graph import WIDGETS, to_prompt, with_inputs
from server import Server

FROZEN = json.loads(TABLE.read_text(encoding="utf-8"))
SAVED = sorted(path for path in OLD.glob("*.json") if path != TABLE)


@pytest.fixture(scope="module")
def nodes(server: Server) -> dict[str, Any]:
    return server.get("/object_info")


@pytest.mark.parametrize("name", FROZEN)
def test_a_node_keeps_its_id_inputs_defaults_and_outputs(nodes: dict[str, Any], name: str) -> None:
    assert name in nodes, "the node is gone"
    then, now = FROZEN[name], described(nodes[name])
    by_name = {one["name"]: one for one in now["inputs"]}
    for old in then["inputs"]:
        new = by_name.get(old["name"])
        assert new is not None, f"input {old['name']} is gone"
        assert (new["type"], new.get("default")) == (old["type"], old.get("default")), f"input {old['name']}"
        assert old["group"] == new["group"] or new["group"] == "optional", f"input {old['name']} has become required"
        assert set(old.get("options", [])) <= set(new.get("options", old.get("options", []))), f"choices of {old['name']} are gone"
    required = {one["name"] for one in then["inputs"] if one["group"] == "required"}
    assert {n for n, one in by_name.items() if one["group"] == "required"} <= required, "a new input must be optional"
    assert now["outputs"][: len(then["outputs"])] == then["outputs"]


@pytest.mark.parametrize("name", FROZEN)
def test_the_editors_list_of_widget_values_keeps_its_order(nodes: dict[str, Any], name: str) -> None:
    then, now = ([one["name"] for one in d["inputs"] if one["type"] in WIDGETS] for d in (FROZEN[name], described(nodes[name])))
    assert now[: len(then)] == then


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_saved_workflow_still_runs(server: Server, nodes: dict[str, Any], path: Path) -> None:
    saved = json.loads(path.read_text(encoding="utf-8"))
    for node in saved["nodes"]:
        if node["type"] in nodes and node["type"].startswith("FaceCrafter"):
            outputs = [[slot["name"], slot["type"]] for slot in node["outputs"]]
            assert outputs == [list(pair) for pair in zip(nodes[node["type"]]["output_name"], nodes[node["type"]]["output"], strict=True)][: len(outputs)]
    prompt = to_prompt(saved, nodes)
    for kind in ("FaceCrafterSampler", "KSampler", "BasicScheduler"):
        prompt = with_inputs(prompt, kind, steps=2)
    assert server.images(server.run(with_inputs(prompt, "SaveImage", filename_prefix=f"old_{path.stem}")))
