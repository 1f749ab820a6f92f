"""Loss curves of training runs as one picture.

    python -m training.curves runs/stages/seed*/* --out curves.png

A panel for each name of a run's folder (landmark, emotion, joint ...), a line for each run; dashed, on the right, the disentanglement loss (Eq. 3).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from facecrafter_core.files import write_whole
from facecrafter_core.terminal import escape_unprintable
from training.logs import read_lines
from training.loop import one_sentence


def read_log(run: Path) -> dict[str, list[float]]:
    """RUN/log.jsonl -> the numbers that all of its lines have, by name; a step that was logged again after a stop counts once.

    Raises:
        SystemExit: no such file, or nothing in it.
    """
    path = run / "log.jsonl"
    if not path.is_file():
        raise SystemExit(f"error: Expected the folder of a training run with a log.jsonl, found none in {run}.")
    lines = {int(line["step"]): line for line in read_lines(path) if "loss" in line}
    if not lines:
        raise SystemExit(f"error: {path} holds no lines yet. Train at least as many steps as --log-every.")
    rows = [lines[step] for step in sorted(lines)]
    return {name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)}


def draw_curves(runs: Sequence[Path], out: Path) -> None:
    """Writes the picture of runs to `out` (PNG).

    Raises:
        OutputError: it cannot be written. SystemExit: see read_log.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    logs = {run: read_log(run) for run in runs}
    names = list(dict.fromkeys(run.name for run in runs))
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.4), layout="constrained", squeeze=False)
    for panel, name in zip(axes[0], names, strict=True):
        right = panel.twinx() if any("ad" in log for run, log in logs.items() if run.name == name) else None
        for i, (run, log) in enumerate((r, v) for r, v in logs.items() if r.name == name):
            colour = f"C{i}"
            panel.plot(log["step"], log.get("diffusion", log["loss"]), color=colour, label=run.parent.name)
            if right is not None:
                right.plot(log["step"], log["ad"], color=colour, linestyle="--", linewidth=1)
        panel.set(title=name.replace("_", " "), xlabel="step", ylabel="diffusion loss")
        if right is not None:
            right.set_ylabel("disentanglement loss (dashed)")
        panel.legend(fontsize=8)
    write_whole(out, lambda file: figure.savefig(file, format="png", dpi=90))
    plt.close(figure)


@one_sentence()
def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    draw_curves(options.runs, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
