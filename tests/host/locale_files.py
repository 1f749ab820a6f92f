"""Writes locales/: names and tooltips of the nodes in English from their schemas, and in other languages from locales/translations.csv.

    python tests/host/locale_files.py            # writes; English texts without a translation are listed at the end

translations.csv has a row for each English text. Values that a person can choose are not translated: workflows hold them. The words that web/ gives to
say() go into main.json, where web/words.js finds them.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hosts import ROOT, any_host
from server import Server

LOCALES = ROOT / "locales"
LANGUAGES = ("ja", "zh")


def english(nodes: dict[str, Any]) -> dict[str, Any]:
    """/object_info -> ComfyUI's nodeDefs.json of our nodes."""
    out = {}
    for name in sorted(n for n in nodes if n.startswith("FaceCrafter")):
        node = nodes[name]
        inputs = {}
        for group in ("required", "optional"):
            for key, (_, *rest) in node["input"].get(group, {}).items():
                inputs[key] = {"name": key.replace("_", " "), "tooltip": rest[0]["tooltip"]}
        outputs = {
            str(i): {"name": shown, "tooltip": tooltip} for i, (shown, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
        }
        out[name] = {"display_name": node["display_name"], "description": node["description"], "inputs": inputs, "outputs": outputs}
    return out


def texts(value: Any) -> Iterator[str]:
    """All texts of a nodeDefs.json, outputs' names apart: those in capitals are the names of sockets everywhere in ComfyUI."""
    if isinstance(value, str):
        if not value.isupper():
            yield value
    else:
        for one in value.values():
            yield from texts(one)


def words() -> list[str]:
    """The English texts that web/*.js gives to say()."""
    scripts = (path.read_text(encoding="utf-8") for path in sorted((ROOT / "web").glob("*.js")))
    return [json.loads(text) for script in scripts for text in re.findall(r'\bsay\(("(?:[^"\\]|\\.)*")\)', script)]


def translations() -> dict[str, dict[str, str]]:
    """Language -> English text -> translation."""
    with open(LOCALES / "translations.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {language: {row["en"]: row[language] for row in rows if row[language]} for language in LANGUAGES}


def translated(value: Any, table: dict[str, str]) -> Any:
    if isinstance(value, str):
        return table.get(value, value)
    return {key: translated(one, table) for key, one in value.items()}


def write(name: str, content: Any) -> None:
    path = LOCALES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    host = any_host()
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server:
        nodes = english(server.get("/object_info"))
    tables = translations()
    write("en/nodeDefs.json", nodes)
    for language, table in tables.items():
        write(f"{language}/nodeDefs.json", translated(nodes, table))
        write(f"{language}/main.json", {"facecrafter": {text: table.get(text, text) for text in words()}})
    missing = [text for text in dict.fromkeys([*texts(nodes), *words()]) if any(text not in table for table in tables.values())]
    print(*missing, sep="\n")
    if missing:
        raise SystemExit(f"{len(missing)} texts without a translation")


if __name__ == "__main__":
    main()
