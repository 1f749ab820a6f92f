"""Images a second that training/evaluate.py measures, without generating: landmarks, pose, blendshape scores, identity and emotion.

    python benchmarks/evaluate.py [--count 2000] [--processes 2] [--pictures FOLDER]

Without a folder, the demo's portraits at 256 x 256, over and over.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from facecrafter_core.diffusion.families import DEMO_FOLDER  # noqa: E402
from facecrafter_core.metrics.estimators import estimators_of, read_all  # noqa: E402
from training.evaluate import CHUNK  # noqa: E402
from training.finder import Finder  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pictures", type=Path, default=DEMO_FOLDER / "samples")
    options = parser.parse_args()

    files = [p for p in sorted(options.pictures.iterdir()) if p.suffix in (".png", ".jpg")]
    pictures = [np.asarray(Image.open(p).convert("RGB").resize((256, 256))) for p in files[: options.count]]
    estimators, _ = estimators_of("demo", DEMO_FOLDER)
    find = Finder(options.processes)
    read_all(estimators, pictures[:4], find(pictures[:4]))  # starts the processes and loads the networks
    start, seen = time.perf_counter(), 0
    for first in range(0, options.count, CHUNK):
        chunk = [pictures[i % len(pictures)] for i in range(first, min(first + CHUNK, options.count))]
        seen += int(np.isfinite(read_all(estimators, chunk, find(chunk))["pose"]).all(1).sum())
    seconds = time.perf_counter() - start
    find.close()
    print(f"{options.count / seconds:.1f} images a second in {options.processes} processes ({seen} of {options.count} with a face)")


if __name__ == "__main__":
    main()
