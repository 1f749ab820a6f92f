"""Two processes share the suite (`make test`), a file each; all tests of ComfyUI are one group, so that they share its server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

HERE = Path(__file__).parent
NOT_RUN = ("ComfyUI host tests: ", "browser tests: ")
"""How the reasons begin for which whole folders are skipped."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = item.path.relative_to(HERE).as_posix()
        item.add_marker(pytest.mark.xdist_group("comfyui" if name.startswith(("host/", "browser/")) else name))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = (str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", ()))
    for reason in sorted({reason for reason in reasons if reason.startswith(NOT_RUN)}):
        what, why = reason.split(": ", 1)
        terminalreporter.write_line(f"WARNING: the {what} did NOT run: {why}", yellow=True, bold=True)
