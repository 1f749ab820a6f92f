"""Starts ComfyUI's modules in this process (no server), imports FaceCrafter as the pack `facecrafter`, and runs the checks.

    COMFYUI_PATH=... python tests/host/inside/host.py checks_parity checks_errors ...

prints one JSON line for each check_* function of the modules: its name, and the failure or null. COMFYUI_ARGUMENTS are ComfyUI's own, "--cpu" where
there are none; "--force-fp32 --fp32-vae --fp32-text-enc" runs them on the GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BROUGHT: set[str] = set()
"""Packages that the import of FaceCrafter brought with it."""


def start() -> None:
    """ComfyUI, and the pack's package, as ComfyUI's own loader would import it."""
    sys.argv = [sys.argv[0], *os.environ.get("COMFYUI_ARGUMENTS", "--cpu").split()]
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy_api.latest  # noqa: F401  what any pack finds loaded: this, and

    import nodes  # noqa: F401  ComfyUI's own nodes

    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location(
        "facecrafter", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    pack = importlib.util.module_from_spec(spec)
    sys.modules["facecrafter"] = pack
    spec.loader.exec_module(pack)
    BROUGHT.update(name.split(".")[0] for name in sys.modules.keys() - before)


def run(modules: list[str]) -> None:
    import torch

    torch.set_num_threads(1)  # the checks are small; more threads only wait for each other
    torch.backends.cudnn.allow_tf32 = False  # its rounding depends on how many rows go together
    for name in modules:
        module = importlib.import_module(name)
        for check in [v for k, v in vars(module).items() if k.startswith("check_") and v.__module__ == name]:
            failure = None
            try:
                with torch.inference_mode():
                    check()
            except Exception:
                failure = traceback.format_exc()
            print(json.dumps({"check": f"{name}.{check.__name__}", "failure": failure}), flush=True)


if __name__ == "__main__":
    chosen = sys.argv[1:]
    start()
    run(chosen)
