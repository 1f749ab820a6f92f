"""Arithmetic and memory of a training step, found by running it on tensors without data; --dry-run shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from training.config import StageConfig, to_dict
from training.loop import World
from training.model import ControlledModel, Rows
from training.pairs import Pairs

# Dense bf16 TFLOP/s of one GPU, from the makers' data sheets, by a part of the device's name.
PEAK_TFLOPS = {"H200": 989, "H100": 989, "GH200": 989, "B200": 2250, "A100": 312, "A6000": 155, "L40": 181, "L4": 121, "4090": 165, "3090": 71}


class Estimate(NamedTuple):
    """flops: forward and backward of a micro-batch. Bytes: weights; gradients, two moments, average; what backward keeps."""

    flops: int
    weights: int
    training: int
    activations: int


def estimate(modules: Iterable[nn.Module], forward: Callable[[], Tensor]) -> Estimate:
    """Runs `forward` (which makes its inputs and returns the loss) and its backward without computing anything."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    parameters = [p for module in modules for p in module.parameters()]
    own = {p.untyped_storage()._cdata for p in parameters}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True), counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            loss = forward()
        loss.backward()
    for p in parameters:
        p.grad = None
    trained = [p for p in parameters if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in parameters)
    return Estimate(counter.get_total_flops(), weights, sum(4 * p.numel() * 4 for p in trained), sum(kept.values()))


def peak_tflops(device: torch.device) -> float | None:
    """None where the device is unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def dry_run(config: StageConfig, model: ControlledModel, rows: Rows, count: int, images: int, pairs: Pairs) -> bool:
    """With --dry-run, prints the resolved settings, sizes, a memory estimate and the steps of an epoch; says whether it did.

    Args:
        count: rows of a micro-batch. images: a step, over all processes.
    """
    if not config.dry_run:
        return False
    print(json.dumps(to_dict(config) | {"rules": asdict(pairs.rules)}, indent=2))
    for name in ("unet", "text_encoder", "adapter"):
        parameters = list(getattr(model, name).parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        print(f"{name:<13} {sum(p.numel() for p in parameters) / 1e6:8.2f}M parameters, {trained / 1e6:8.2f}M trained")
    found = micro_batch(model, rows, count, similarity_of(config))
    gib, usable = 2**30, len(pairs.targets)
    low = "bf16 on a GPU" if model.unet.dtype == torch.bfloat16 else "fp32"
    print(f"one micro-batch of {count} rows: {found.flops / 1e12:.2f} TFLOP forward and backward")
    print(f"memory, {low}: weights {found.weights / gib:.2f} GiB, gradients, moments and average {found.training / gib:.2f} GiB,")
    print(f"        activations {found.activations / gib:.2f} GiB (eager, {'with' if config.gradient_checkpointing else 'without'} gradient checkpointing)")
    print(pairs.report())
    print(f"{images} images a step, {usable} usable images: {math.ceil(usable / images)} steps an epoch, {config.steps * images / usable:.1f} epochs")
    return True


def step_flops(config: StageConfig, world: World, model: ControlledModel, rows: Rows, count: int) -> float:
    """Of a step's micro-batches of `count` rows in one process, forward and backward; 0 where nobody would read it, or the GPU's peak is not known.
    What gradient checkpointing computes again is not counted, as is usual."""
    if world.rank or peak_tflops(world.device) is None:
        return 0.0
    if config.gradient_checkpointing:
        model.unet.disable_gradient_checkpointing()
    flops = micro_batch(model, rows, count, similarity_of(config)).flops * config.accumulate
    if config.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    return flops


def similarity_of(config: StageConfig) -> Literal["", "measured", "learned"]:
    """What a stage does with the similarity of Eq. 2."""
    weight = getattr(config, "ad_weight", None)
    return "" if weight is None else "learned" if weight else "measured"


def micro_batch(model: ControlledModel, rows: Rows, count: int, similarity: Literal["", "measured", "learned"]) -> Estimate:
    """Arithmetic and memory of one micro-batch of `count` rows.

    Args:
        similarity: what is done with that of Eq. 2.
    """
    family, adapter = model.family, model.adapter
    device, side, size = next(model.unet.parameters()).device, model.family.latent_size, adapter.config.picture_size
    images = count // (4 * rows.replicas) if rows.landmark.start else count

    def forward() -> Tensor:
        drawings = torch.zeros(images, size, size, 3, dtype=torch.uint8, device=device) if adapter.landmark is not None else None
        emotions = torch.zeros(images, 10, device=device) if adapter.emotion is not None else None
        masks = torch.ones(images, side, side, device=device) if similarity else None
        noisy, timesteps = torch.zeros(count, 4, side, side, device=device), torch.zeros(count, dtype=torch.long, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=model.unet.dtype == torch.bfloat16):
            context = model.context(torch.zeros(images, family.identity_dim, device=device), None, count, rows)
            found, alike = model._predict(noisy, timesteps, context, drawings, emotions, rows, masks, similarity == "learned")
        return found.float().square().mean() + (0 if alike is None else alike.mean())

    return estimate(model.children(), forward)
