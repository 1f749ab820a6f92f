"""How much FaceCrafter adds to ComfyUI's start: the time of its own loader for this pack, after its built-in nodes.

    COMFYUI_PATH=~/comfy/ComfyUI <ComfyUI's python> benchmarks/import_time.py [--runs 5]

Each run is a fresh process. Prints the seconds of each and their median; exits with 1 when the median is above the limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 0.2
ROOT = Path(__file__).resolve().parents[1]


def measure() -> float:
    """Seconds that this process's ComfyUI needs to load the pack."""
    import asyncio

    sys.argv = [sys.argv[0], "--cpu", "--disable-api-nodes"]
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing()
    import nodes

    async def load() -> float:
        await nodes.init_builtin_extra_nodes()
        start = time.perf_counter()
        if not await nodes.load_custom_node(str(ROOT)):
            raise SystemExit("ComfyUI could not load FaceCrafter; its own message is above.")
        return time.perf_counter() - start

    return asyncio.run(load())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="fresh processes to measure")
    parser.add_argument("--one", action="store_true", help="measure in this process and print the seconds alone")
    arguments = parser.parse_args()
    if not os.environ.get("COMFYUI_PATH"):
        parser.error("set COMFYUI_PATH to a ComfyUI checkout, and run this with the interpreter of that installation")
    if arguments.one:
        print(f"seconds {measure():.4f}")
        return
    seconds = []
    for _ in range(arguments.runs):
        run = subprocess.run([sys.executable, __file__, "--one"], capture_output=True, text=True)
        found = [line.split()[1] for line in run.stdout.splitlines() if line.startswith("seconds ")]
        if run.returncode or not found:
            raise SystemExit(run.stderr[-2000:])
        seconds.append(float(found[0]))
    median = statistics.median(seconds)
    print(
        f"FaceCrafter adds {median:.3f} s to ComfyUI's start (median of {', '.join(f'{s:.3f}' for s in seconds)}; limit {LIMIT} s)"
    )
    sys.exit(median > LIMIT)


if __name__ == "__main__":
    main()
