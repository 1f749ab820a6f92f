"""Does pyproject.toml meet the Comfy registry's specification, and the pack its security standards?

    python tests/registry.py             # what is wrong; nothing when all is well
    python tests/registry.py --publish   # also what only the publisher can fill in

Sources: docs.comfy.org/registry/specifications and docs.comfy.org/registry/standards.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("__init__.py", "nodes", "facecrafter_core", "training")
SYSTEMS = ("OS Independent", "Microsoft :: Windows", "POSIX :: Linux", "MacOS")


def metadata(root: Path = ROOT, publish: bool = False) -> Iterator[str]:
    """What pyproject.toml lacks, a sentence each."""
    content = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project, comfy = content["project"], content.get("tool", {}).get("comfy", {})
    name, version = project.get("name", ""), project.get("version", "")
    if not re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9]|[-_.](?![-_.])){0,98}", name) or "comfyui" in name.lower():
        yield f"name: expected less than 100 letters, digits and single - _ . from a letter on, without ComfyUI, found {name!r}"
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"version: expected X.Y.Z, found {version!r}"
    licence = project.get("license")
    if not (isinstance(licence, dict) and len(licence) == 1 and set(licence) <= {"file", "text"}) and not (
        isinstance(licence, str) and (root / "LICENSE").is_file()
    ):
        yield f"license: expected a file, a text or an SPDX name beside LICENSE, found {licence!r}"
    for field in ("description", "dependencies", "requires-python"):
        if not project.get(field):
            yield f"{field}: missing"
    systems = [c.removeprefix("Operating System :: ") for c in project.get("classifiers", ()) if c.startswith("Operating System")]
    if not systems or not all(s.startswith(SYSTEMS) for s in systems):
        yield f"classifiers: expected operating systems out of {SYSTEMS}, found {systems}"
    for field in ("DisplayName", "requires-comfyui"):
        if not comfy.get(field):
            yield f"tool.comfy.{field}: missing"
    if f"## {version}" not in (root / "CHANGELOG.md").read_text(encoding="utf-8"):
        yield f"CHANGELOG.md has no section for version {version}"
    if publish:
        if not project.get("urls", {}).get("Repository", "").startswith("https://"):
            yield "project.urls.Repository: missing; the address of the public repository"
        if not comfy.get("PublisherId"):
            yield "tool.comfy.PublisherId: missing; the id of your account at registry.comfy.org"


def security(root: Path = ROOT) -> Iterator[str]:
    """Calls that the standards forbid: eval, exec, and installing packages at run time."""
    files = [root / SHIPPED[0], *(file for folder in SHIPPED[1:] for file in sorted((root / folder).rglob("*.py")))]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec", "compile", "__import__"):
                yield f"{file.relative_to(root)}:{node.lineno}: {node.func.id}() is forbidden"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                if any(n.split(".")[0] in ("pip", "ensurepip", "pickle") and file.parts[len(root.parts)] != "training" for n in names):
                    yield f"{file.relative_to(root)}:{node.lineno}: {', '.join(names)} is forbidden"
            strings = [a.value for a in ast.walk(node) if isinstance(a, ast.Constant)] if isinstance(node, (ast.List, ast.Tuple)) else []
            if "pip" in strings and "install" in strings:
                yield f"{file.relative_to(root)}:{node.lineno}: packages are installed at run time"


if __name__ == "__main__":
    wrong = [*metadata(publish="--publish" in sys.argv), *security()]
    print(*wrong, sep="\n")
    sys.exit(bool(wrong))
