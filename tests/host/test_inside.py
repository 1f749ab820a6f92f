"""Runs the checks in inside/ within each ComfyUI installation; one process an installation, one test a check."""

from __future__ import annotations

import ast
import json
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
from hosts import Host

INSIDE = Path(__file__).parent / "inside"
MODULES = sorted(path.stem for path in INSIDE.glob("checks_*.py"))


def checks_of(*modules: str) -> list[str]:
    """The names of the checks in these files."""
    return [
        f"{module}.{node.name}"
        for module in modules
        for node in ast.parse((INSIDE / f"{module}.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    ]


@lru_cache
def results(host: Host) -> dict[str, str | None]:
    """check -> its failure, or None."""
    run = subprocess.run(
        [host.python, str(INSIDE / "host.py"), *MODULES],
        capture_output=True,
        text=True,
        env=host.environment(),
        cwd=INSIDE,
        timeout=400,
    )
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"check"')]
    if run.returncode:
        pytest.fail(f"the checks ended early in ComfyUI {host.version}:\n{run.stderr[-3000:]}")
    return {line["check"]: line["failure"] for line in lines}


@pytest.mark.parametrize("check", checks_of(*MODULES))
def test_inside_comfyui(host: Host, check: str) -> None:
    failure = results(host)[check]
    assert failure is None, failure


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_full_size_model_is_the_same_in_both_hosts(host: Host) -> None:
    """Minutes and 16 GB of memory: pytest -m slow tests/host/test_inside.py"""
    command = [host.python, str(INSIDE / "host.py"), "slow_full"]
    run = subprocess.run(command, capture_output=True, text=True, env=host.environment(), cwd=INSIDE, timeout=1700)
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"check"')]
    failed = [line for line in found if line["failure"]]
    assert [line["check"] for line in found] == checks_of("slow_full") and not failed, (failed, run.stderr[-3000:])
