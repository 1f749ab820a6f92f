"""Training speed, side by side in one run: a plain eager loop over diffusers' UNet and the same work as the training scripts do it.

    python benchmarks/training.py [--family full] [--batch 64] [--steps 20] [--stages pre-training joint joint-ad] [--profile]

Untrained weights of the true shapes and random features, so that nothing has to be downloaded. Rows: pre-training of the landmark module, and the joint stage with
and without the disentanglement loss (batch / 16 images of 16 rows). Prints samples a second (rows of the network), their ratio to the plain
loop, the share of the GPU's arithmetic (MFU) and peak memory; with --profile, also the milliseconds that a step spends in each kind of kernel.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.config import JointConfig, PretrainConfig  # noqa: E402
from training.estimate import micro_batch, peak_tflops  # noqa: E402
from training.loop import Average, World  # noqa: E402
from training.losses import attention_disentanglement_loss, diffusion_loss, total_loss  # noqa: E402
from training.model import ControlledModel, Rows  # noqa: E402
from training.stage import prepare_model  # noqa: E402

REPLICAS = 16
STAGES = ("pre-training", "joint", "joint-ad")
KERNELS = {
    "element-wise": ("triton",),  # what the compiler wrote itself, whatever it is fused with
    "attention": ("sdpa", "flash", "fmha", "dot_do_o", "convert_dq"),
    "convolution": ("fprop", "dgrad", "wgrad", "conv"),
    "matrix product": ("gemm", "nvjet", "cutlass"),
}
"""Kinds of kernels by parts of their names; the first that fits counts."""


class Measured(NamedTuple):
    """rows a second; peak memory in GiB (0 on a CPU); milliseconds a step in each kind of kernel, where they were asked for."""

    speed: float
    memory: float
    kernels: dict[str, float]


def kernel_times(step: Callable[[], None], steps: int) -> dict[str, float]:
    """Milliseconds a step in each kind of kernel, as torch's profiler sees them."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    found = dict.fromkeys((*KERNELS, "other"), 0.0)
    for event in seen.key_averages():
        if event.device_type == DeviceType.CUDA:
            name = event.key.lower()
            kind = next((kind for kind, parts in KERNELS.items() if any(part in name for part in parts)), "other")
            found[kind] += event.self_device_time_total / 1000 / steps
    return found


def measure(model: ControlledModel, world: World, rows: Rows, count: int, images: int, weight: float | None, steps: int, profiled: bool) -> Measured:
    device, family, adapter = world.device, model.family, model.adapter
    side, size = family.latent_size, adapter.config.picture_size
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-5, fused=device.type == "cuda")
    average = Average(parameters, 0.9999)
    noisy = torch.randn(count, 4, side, side, device=device)
    timesteps = torch.randint(0, 1000, (count,), device=device)
    identities = torch.nn.functional.normalize(torch.randn(images, family.identity_dim, device=device), dim=1)
    drawings = torch.randint(0, 255, (images, size, size, 3), dtype=torch.uint8, device=device)
    emotions = torch.rand(images, 10, device=device) if adapter.emotion is not None else None
    masks = torch.ones(images, side, side, device=device) if weight is not None else None

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        with world.autocast():
            found, similarity = model(noisy, timesteps, identities, None, drawings, emotions, rows, masks, learned=bool(weight))
        loss = diffusion_loss(found, noisy)
        if similarity is not None:
            loss = total_loss(loss, attention_disentanglement_loss(similarity), weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(number)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for number in range(3):
        step(number)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    wait()
    start = time.perf_counter()
    for number in range(steps):
        step(number)
    wait()
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return Measured(steps * count / seconds, memory, kernel_times(lambda: step(steps), 3) if profiled else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=("demo", "full"), default="full")
    parser.add_argument("--batch", type=int, default=64, help="rows a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--profile", action="store_true", help="show where a step's time goes, on a GPU")
    options = parser.parse_args()

    world = World()
    batch, images = options.batch, max(1, options.batch // REPLICAS)
    every, nowhere = slice(0, batch), Path(".")
    shared = {"data": nowhere, "out": nowhere, "base": "random", "family": options.family}
    pretrain, joint = PretrainConfig(**shared), JointConfig(**shared)
    mixed = Rows.mixed(images, batch // images // 4)
    cases = {
        "pre-training": ("pre-training, landmarks", pretrain, Rows(every, every), batch, None),
        "joint": ("joint, AD loss at weight 0", joint, mixed, images, 0.0),
        "joint-ad": ("joint, AD loss", joint, mixed, images, joint.ad_weight),
    }
    peak = peak_tflops(world.device)
    print(f"{'stage':<26}{'loop':<10}{'samples/s':>10}{'ratio':>8}{'MFU':>7}{'GiB':>8}")
    for name, config, rows, shown, weight in (cases[stage] for stage in options.stages):
        both = config is joint
        plain = 0.0
        for loop in ("plain", "ours"):
            with world.device:  # random numbers are quick there
                model = prepare_model(config, world, landmark=True, emotion=both, text_encoder=both)
            if loop == "plain":
                flops = micro_batch(model, rows, batch, "" if weight is None else "learned" if weight else "measured").flops
                model.predict = model._predict
                model.unet.to(memory_format=torch.contiguous_format)
            speed, memory, kernels = measure(model, world, rows, batch, shown, weight, options.steps, options.profile and world.device.type == "cuda")
            plain = plain or speed
            mfu = f"{100 * speed * flops / batch / peak / 1e12:.0f}%" if peak else "-"
            print(f"{name:<26}{loop:<10}{speed:>10.1f}{speed / plain:>8.2f}{mfu:>7}{memory:>8.1f}", flush=True)
            if kernels:
                print("    ms a step: " + ", ".join(f"{kind} {ms:.1f}" for kind, ms in kernels.items()), flush=True)
            del model
            if world.device.type == "cuda":
                torch.cuda.empty_cache()
    world.close()


if __name__ == "__main__":
    main()
