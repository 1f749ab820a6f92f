"""Our sampler in ComfyUI against its own KSampler, in one run: seconds a run and memory on the device, at the same number of rows.

    COMFYUI_PATH=~/comfy/ComfyUI PYTHON_OF_COMFYUI benchmarks/comfyui.py [--family full] [--steps 25] [--repeat 5] [--cpu]

KSampler makes two pictures with cfg (four rows a step), ours one picture with identity, landmarks and emotion (four rows). Both get the same MODEL: for
"full", random weights of SD 1.5's shapes, for "demo" the demo. No server is started.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def start(cpu: bool) -> None:
    """ComfyUI's modules and the pack `facecrafter`, in this process."""
    if "COMFYUI_PATH" not in os.environ:
        raise SystemExit("error: Expected COMFYUI_PATH, the folder of a ComfyUI installation, in the environment, found none.")
    sys.argv = [sys.argv[0], *(["--cpu"] if cpu else [])]
    sys.path.insert(0, os.path.expanduser(os.environ["COMFYUI_PATH"]))
    import comfy.options

    comfy.options.enable_args_parsing()
    spec = importlib.util.spec_from_file_location("facecrafter", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules["facecrafter"] = pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)


def load(family: str) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, adapter) as the loaders give them."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base
    import torch
    from facecrafter.facecrafter_core.control.adapter import new_adapter, save_adapter
    from facecrafter.facecrafter_core.diffusion.families import FULL, new_text_encoder, new_unet
    from facecrafter.nodes.host import adapter, base

    if family == "demo":
        folder = adapter.DEMO_FOLDER
        return base.load_model(folder), base.load_clip(folder), adapter.managed_adapter(folder / "adapter.safetensors")
    torch.manual_seed(0)
    made = new_adapter("full")
    for layer in [*made.landmark_branch.to_v, *made.emotion_branch.to_v]:
        torch.nn.init.normal_(layer.weight, std=0.02)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        save_adapter(made, path, torch.float16)
        crafter = adapter.managed_adapter(path)
    model = comfy.sd.load_diffusion_model_state_dict(new_unet(FULL).half().state_dict())
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(target, parameters=1)
    weights = new_text_encoder(FULL).state_dict()
    clip.load_sd({k if k.startswith("text_model.") else f"text_model.{k}": w for k, w in weights.items()})
    return model, clip, crafter


def runs(family: str, steps: int) -> dict[str, Callable[[], Any]]:
    import torch
    from facecrafter.facecrafter_core.diffusion.guidance import Guidance
    from facecrafter.nodes.host import adapter, contexts, guidance, run

    import nodes

    model, clip, patcher = load(family)
    crafter = adapter.FaceCrafter(patcher, clip)
    generator = torch.Generator().manual_seed(0)
    identity = torch.nn.functional.normalize(torch.randn(1, crafter.family.identity_dim, generator=generator), dim=1)
    landmarks = torch.rand(1, 478, 3, generator=generator) * 0.6 + 0.2
    emotion = torch.tensor([[0.8, 0.4, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    positive, negative = contexts.make_conditioning(crafter, identity, landmarks, emotion, 1.0, 1.0)
    bare = [[[context, {}] for context, _ in conditioning] for conditioning in (positive, negative)]
    plan = {"seed": 0, "steps": steps, "scheduler": "normal", "denoise": 1.0}

    def plain() -> Any:
        start = run.empty_latent(crafter.family, 2, same_noise=False)
        return nodes.common_ksampler(model, 0, steps, 2.5, "euler", "normal", *bare, start)[0]

    def ours() -> Any:
        guider = guidance.FaceCrafterGuider(model, positive, negative, Guidance())
        return run.sample(guider, run.empty_latent(crafter.family, 1, same_noise=False), sampler="euler", **plan)

    return {"KSampler, 2 pictures, cfg (4 rows)": plain, "FaceCrafter Sampler, 1 picture (4 rows)": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=("full", "demo"), default="full")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    start(options.cpu)
    import comfy.model_management as management
    import comfy.utils
    import torch

    comfy.utils.PROGRESS_BAR_ENABLED = False
    device = management.get_torch_device()
    gpu = device.type == "cuda"

    def wait() -> None:
        if gpu:
            torch.cuda.synchronize()

    def held() -> float:
        return torch.cuda.memory_allocated() / 2**20 if gpu else float("nan")

    print("| run | seconds | ratio | peak MiB | left after unloading, MiB |\n|---|---|---|---|---|", flush=True)
    with torch.inference_mode():
        cases = runs(options.family, options.steps)
        times: dict[str, list[float]] = {name: [] for name in cases}
        peaks = {}
        for name, case in cases.items():
            management.unload_all_models()
            management.soft_empty_cache()
            before = held()
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            case()
            wait()
            peaks[name] = torch.cuda.max_memory_allocated() / 2**20 if gpu else float("nan")
            management.unload_all_models()
            management.soft_empty_cache()
            peaks[f"{name} left"] = held() - before
        for _ in range(options.repeat):  # in turns, so that a change of the machine's speed meets both
            for name, case in cases.items():
                wait()
                begin = time.perf_counter()
                case()
                wait()
                times[name].append(time.perf_counter() - begin)
        first = median(times[next(iter(cases))])
        for name, seconds in times.items():
            print(f"| {name} | {median(seconds):.3f} | {median(seconds) / first:.3f} | {peaks[name]:.0f} | {peaks[f'{name} left']:.1f} |")


if __name__ == "__main__":
    main()
