"""Writes a ControlNet with random weights that fits the demo's UNet, in the format of the original ControlNet files.

    COMFYUI_PATH=... python tests/host/inside/random_controlnet.py FILE
"""

from __future__ import annotations

import sys

from host import start


def main(path: str) -> None:
    start()
    import comfy.cldm.cldm
    import comfy.ops
    import torch
    from facecrafter.facecrafter_core.diffusion.families import DEMO
    from facecrafter.nodes.host.base import unet_config
    from safetensors.torch import save_file

    config = {k: v for k, v in unet_config(DEMO).items() if k != "out_channels"}
    torch.manual_seed(0)
    net = comfy.cldm.cldm.ControlNet(
        **config, hint_channels=3, num_heads=-1, num_head_channels=64, dtype=torch.float32, operations=comfy.ops.disable_weight_init
    )
    weights = {k: torch.randn(w.shape) * (1.0 if w.ndim == 1 else w[0].numel() ** -0.5) for k, w in net.state_dict().items()}
    save_file({k: w.contiguous() for k, w in weights.items()}, path)


if __name__ == "__main__":
    target = sys.argv.pop()
    main(target)
