"""Starts ComfyUI's modules in this process (no server) and imports FaceCrafter into it as the pack `facecrafter`.

Run under the interpreter of a ComfyUI installation, with COMFYUI_PATH set and, for another demo folder, FACECRAFTER_DEMO.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]


def start() -> ModuleType:
    """ComfyUI on the CPU, and the pack's package."""
    sys.argv = [sys.argv[0], "--cpu"]
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.options

    comfy.options.enable_args_parsing()
    spec = importlib.util.spec_from_file_location("facecrafter", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    pack = importlib.util.module_from_spec(spec)
    sys.modules["facecrafter"] = pack
    spec.loader.exec_module(pack)
    return pack
