"""A workflow of the graph editor -> the prompt that the editor would send."""

from __future__ import annotations

from typing import Any

ONLY_IN_EDITOR = {"MarkdownNote", "Note"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def to_prompt(workflow: dict[str, Any], nodes: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        workflow: the editor's format, version 0.4.
        nodes: the server's /object_info.
    """
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in ONLY_IN_EDITOR:
            continue
        values = iter(node.get("widgets_values") or [])
        inputs: dict[str, Any] = {}
        for group in ("required", "optional"):
            for name, definition in nodes[node["type"]]["input"].get(group, {}).items():
                kind, options = definition[0], definition[1] if len(definition) > 1 else {}
                if isinstance(kind, list) or kind in WIDGETS:
                    value = next(values, None)
                    if value is None and group == "required":
                        raise ValueError(f"{node['type']} has no value for {name}")
                    inputs[name] = options.get("default") if value is None else value  # a widget that is newer than the workflow
                    if options.get("control_after_generate"):
                        next(values)
        assert next(values, None) is None, f"{node['type']} has more widget values than widgets"
        for slot in node["inputs"]:
            if slot["link"] is not None:
                inputs[slot["name"]] = list(links[slot["link"]])
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def with_inputs(prompt: dict[str, Any], kind: str, **inputs: Any) -> dict[str, Any]:
    """The prompt with other inputs for all nodes of a kind."""
    return {
        number: {**node, "inputs": {**node["inputs"], **inputs}} if node["class_type"] == kind else node
        for number, node in prompt.items()
    }
