"""dlib's face recognition ResNet in torch: batched and differentiable.

The network and its weights are Davis King's (github.com/davisking/dlib-models, CC0 1.0); it was trained on 3 million photos of 7,485 people.
training/people/convert_dlib.py turns his file into the one that is read here. Two vectors of one person are less than 0.6 apart.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError

CHIP_SIZE = 150
"""Side of the chips in pixels; facecrafter_core.faces.chips cuts them."""

DIM = 128
"""Length of the vectors."""

MEAN = (122.782, 117.001, 104.298)
"""Subtracted from R, G and B in 0..255 before the division by 256."""

BLOCKS = (*((32, 1),) * 3, (64, 2), *((64, 1),) * 3, (128, 2), *((128, 1),) * 2, (256, 2), *((256, 1),) * 2, (256, 2))
"""Channels and stride of the residual blocks."""

WEIGHTS = Path(__file__).resolve().parents[2] / "demo/recognition/dlib_resnet.safetensors"


class DlibResNet(nn.Module):
    """chips [B, 3, 150, 150], RGB in [0, 1] -> vectors [B, 128], of a length of about 1.3 (dlib does not normalise them).

    dlib's per-channel scales are folded into the convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.stem = nn.Conv2d(3, BLOCKS[0][0], 7, 2)
        widths = [self.stem.out_channels, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.Sequential(*(_Block(a, b, stride) for a, (b, stride) in zip(widths, BLOCKS, strict=False)))
        self.head = nn.Linear(widths[-1], DIM, bias=False)

    @classmethod
    def load(cls, path: str | Path = WEIGHTS, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> DlibResNet:
        """The frozen network with the weights of a file that training/people/convert_dlib.py has written.

        Raises:
            ModelError: the file is not there or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not Path(path).is_file():
            raise ModelError(f"There are no recogniser weights at {path}. Reinstall FaceCrafter or run training/people/convert_dlib.py.")
        network = cls()
        try:
            network.load_state_dict(load_file(str(path)))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"{path} does not hold the weights of dlib's recogniser: {str(error).splitlines()[0]} Reinstall FaceCrafter.") from error
        return network.to(device, dtype).eval().requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        if chips.shape[1:] != (3, CHIP_SIZE, CHIP_SIZE) or not chips.is_floating_point():
            found = f"{chips.dtype} {list(chips.shape)}"
            raise ModelError(f"Expected chips as floats of shape [B, 3, {CHIP_SIZE}, {CHIP_SIZE}], found {found}. Cut them with face_chips.")
        x = ((chips.float() * 255 - self.mean) / 256).to(self.head.weight.dtype)
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2)
        return self.head(self.blocks(x).mean((2, 3)))


class _Block(nn.Module):
    """Two convolutions beside the input, which a block of stride 2 halves. The smaller of both results is padded with zeros at its end."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(a, b, 3, stride, padding=1 if stride == 1 else 0)  # as dlib pads
        self.conv2 = nn.Conv2d(b, b, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        main, skip = self.conv2(F.relu(self.conv1(x))), x if self.stride == 1 else F.avg_pool2d(x, 2)
        shape = [max(pair) for pair in zip(main.shape[1:], skip.shape[1:], strict=True)]
        return F.relu(_pad_to(main, shape) + _pad_to(skip, shape))


def _pad_to(x: Tensor, shape: list[int]) -> Tensor:
    missing = [wanted - found for wanted, found in zip(shape, x.shape[1:], strict=True)]
    return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else x
