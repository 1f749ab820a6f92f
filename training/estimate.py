"""Arithmetic and memory of a training step, found by running it on tensors without data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

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
