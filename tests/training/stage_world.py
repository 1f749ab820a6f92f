"""What tests of the stages share: quick settings, what a run has logged and saved, and runs in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


QUICK = {"base": "random", "family": "demo", "workers": 0, "log_every": 1, "save_every": 2, "steps": 4, "learning_rate": 1e-3, "warmup": 1}
SEPARATE = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def logged(out: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines}


def losses(out: Path) -> dict[int, float]:
    return logged(out, "loss")


def norms(out: Path) -> dict[int, float]:
    """Of the gradients: equal only if they are."""
    return logged(out, "norm")


def weights(out: Path) -> dict[str, torch.Tensor]:
    newest = sorted((out / "checkpoints").glob("step_*.pt"))[-1]
    return torch.load(newest, weights_only=True)["weights"]


def arguments_of(stage: str, processes: int = 1, **settings: object) -> list[str]:
    """The command line of a stage, under torchrun if there are several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    flags = [
        *(part for name, value in {**QUICK, "device": "cpu", **settings}.items() if not isinstance(value, bool) for part in (f"--{name.replace('_', '-')}", str(value))),
        *(f"--{'' if value else 'no-'}{name.replace('_', '-')}" for name, value in settings.items() if isinstance(value, bool)),
    ]
    return [sys.executable, *launcher, "-m", f"training.{stage}", *flags]


def run(arguments: list[str]) -> None:
    found = subprocess.run(arguments, cwd=ROOT, env=SEPARATE, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-3000:]


