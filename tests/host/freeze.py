"""The nodes as workflows that people have saved know them: inputs, defaults and outputs, in their order.

    python tests/host/freeze.py

adds new nodes, inputs and outputs to old/nodes.json. What is there already is never changed: test_old_workflows.py holds us to it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from graph import WIDGETS
from hosts import any_host
from server import Server

OLD = Path(__file__).parent / "old"
TABLE = OLD / "nodes.json"
FILES = {"adapter", "portrait", "folder"}
"""Lists of files, which differ from one machine to the next."""


def described(node: dict[str, Any]) -> dict[str, Any]:
    """A node of /object_info -> what a saved workflow depends on."""
    inputs = []
    for group in ("required", "optional"):
        for name, (kind, *rest) in node["input"].get(group, {}).items():
            options = rest[0] if rest else {}
            choices = kind if isinstance(kind, list) else options.get("options")
            one = {"name": name, "type": "COMBO" if choices is not None else kind, "group": group}
            if one["type"] in WIDGETS:
                one["default"] = options.get("default")
            if choices is not None and name not in FILES:
                one["options"] = choices
            inputs.append(one)
    return {"inputs": inputs, "outputs": [list(pair) for pair in zip(node["output_name"], node["output"], strict=True)]}


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The frozen description with what has come since at its ends."""
    known = {one["name"] for one in old["inputs"]}
    return {
        "inputs": old["inputs"] + [one for one in new["inputs"] if one["name"] not in known],
        "outputs": old["outputs"] + new["outputs"][len(old["outputs"]) :],
    }


def main() -> None:
    host = any_host()
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server:
        now = {n: described(d) for n, d in server.get("/object_info").items() if n.startswith("FaceCrafter")}
    frozen = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    table = {**now, **{n: merged(old, now[n]) if n in now else old for n, old in frozen.items()}}
    TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n", encoding="utf-8")
    print(f"{TABLE.name}: {len(table)} nodes, {len(set(table) - set(frozen))} of them new")


if __name__ == "__main__":
    main()
