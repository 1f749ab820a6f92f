"""Time and memory of one demo portrait: 256 x 256, identity + landmarks + emotion (four rows a step), on the CPU.

    python benchmarks/portrait.py [--threads 2] [--steps 20] [--repeat 3] [--model FOLDER]

As on the command line, waiting threads sleep instead of spinning (OMP_WAIT_POLICY=passive, unless it is set otherwise).
Prints the seconds to load, the seconds of each portrait after that, and the process's peak memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    start = time.perf_counter()
    import torch

    from facecrafter_core.demo import SECOND_FACE
    from facecrafter_core.faces.emotion import Emotion
    from facecrafter_core.faces.photo import load_photo
    from facecrafter_core.studio import DEMO_FOLDER, Studio

    torch.set_num_threads(options.threads)
    studio = Studio(options.model or DEMO_FOLDER)
    photo = load_photo(SECOND_FACE)
    identity, landmarks = studio.identity([photo]), studio.driving_face(photo).landmarks
    print(f"loading and reading a face: {time.perf_counter() - start:.1f} s")
    for i in range(options.repeat):
        start = time.perf_counter()
        studio.pipe(identity, landmarks, Emotion.preset("happy"), steps=options.steps, seed=i)
        print(f"portrait {i + 1}: {time.perf_counter() - start:.1f} s ({options.steps} steps, {options.threads} threads)")
    print(f"peak memory: {_peak_gib():.2f} GiB")


def _peak_gib() -> float:
    """Largest resident set of this process so far; NaN on Windows, which has no `resource`."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


if __name__ == "__main__":
    main()
