"""Loss curves of runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.curves import draw_curves, read_log


def run(folder: Path, *lines: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_step_that_was_logged_again_after_a_stop_counts_once(tmp_path: Path):
    log = read_log(run(tmp_path / "a/joint", *({"step": s, "loss": loss} for s, loss in ((1, 0.5), (2, 0.4), (2, 0.3), (3, 0.2)))))
    assert log == {"step": [1, 2, 3], "loss": [0.5, 0.3, 0.2]}


def test_each_stage_has_a_panel(tmp_path: Path):
    joint = [{"step": s, "loss": 0.5, "diffusion": 0.4, "ad": 3.0 / s} for s in (1, 2)]
    runs = [run(tmp_path / f"seed{i}/{name}", *joint) for i in (0, 1) for name in ("landmark", "joint")]
    draw_curves(runs, tmp_path / "out/curves.png")
    picture = np.asarray(Image.open(tmp_path / "out/curves.png"))
    assert picture.shape[1] > 2 * picture.shape[0] * 0.9 and picture.std() > 10


def test_a_folder_that_is_no_run_is_said(tmp_path: Path):
    with pytest.raises(SystemExit, match="log.jsonl"):
        read_log(tmp_path)
