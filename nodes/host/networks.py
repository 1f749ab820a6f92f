"""Networks that read photos, under ComfyUI's memory management."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
from torch import Tensor, nn


class ManagedNetwork:
    """A network that ComfyUI loads when it is called, and may unload afterwards as it does its own models.

    Args:
        network: on the CPU. Any of torch's: without ComfyUI's casting layers it is always moved whole.
    """

    def __init__(self, network: nn.Module) -> None:
        management = comfy.model_management
        self.patcher = comfy.model_patcher.ModelPatcher(
            network, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
        )

    def __call__(self, batch: Tensor) -> Tensor:
        comfy.model_management.load_models_gpu([self.patcher], force_full_load=True)
        network = self.patcher.model
        return network(batch.to(next(network.parameters()).device))  # with --novram they stay on the CPU
