"""Two processes share the suite (`make test`), file by file; the files that share a ComfyUI server or a browser are one process's."""

from __future__ import annotations

import os
from typing import Any

import pytest

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

NOT_RUN = ("ComfyUI host tests: ", "browser tests: ", "tests beside other packs: ")
"""How the reasons begin for which whole files are skipped."""

SHARED = ("tests/browser/", "tests/host/")
ALONE = ("tests/host/test_inside.py", "tests/host/test_packs.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return next((folder for folder in SHARED if file.startswith(folder) and file not in ALONE), file)

    return ByFile(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = (str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", ()))
    for reason in sorted({reason for reason in reasons if reason.startswith(NOT_RUN)}):
        what, why = reason.split(": ", 1)
        terminalreporter.write_line(f"WARNING: the {what} did NOT run: {why}", yellow=True, bold=True)
