"""Networks of other people that judge pictures of real faces: identity, age, sex and expression.

They take no part in making pictures. All are batched, differentiable, frozen, and read the upright square that faces.chips.face_boxes cuts
(RGB in [0, 1]). training/people/convert_judges.py writes their weights; the files in demo/evaluators name authors, licences and training data.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.families import DEMO_FOLDER
from ..errors import ModelError
from ..faces.emotion import EMOTIONS

CLASSES = EMOTIONS[:7]
"""What the expression networks tell apart: all emotions but contempt."""


class Judge(nn.Module):
    """name, licence: as tables show them. size: side of the faces that it reads, in pixels. file: of its weights, in a model folder."""

    name: ClassVar[str]
    licence: ClassVar[str]
    size: ClassVar[int]
    file: ClassVar[str]

    @classmethod
    def load(cls, models: str | Path = DEMO_FOLDER, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """The frozen network.

        Args:
            models: a model folder in which `file` lies.

        Raises:
            ModelError: the file is not there or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path, network = Path(models) / cls.file, cls()
        if not path.is_file():
            raise ModelError(f"There are no weights of {cls.name} at {path}. Reinstall FaceCrafter or run training/people/convert_judges.py.")
        try:
            network.load_state_dict(load_file(str(path)))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"{path} does not hold the weights of {cls.name}: {str(error).splitlines()[0]} Reinstall FaceCrafter.") from error
        return network.to(device, dtype).eval().requires_grad_(False)

    def checked(self, faces: Tensor) -> Tensor:
        """faces in fp32, in which the inputs are scaled whatever the weights' type is.

        Raises:
            ModelError: other shapes, or integers.
        """
        if faces.shape[1:] != (3, self.size, self.size) or not faces.is_floating_point():
            found = f"{faces.dtype} {list(faces.shape)}"
            raise ModelError(f"Expected faces as floats of shape [B, 3, {self.size}, {self.size}], found {found}. Cut them with face_boxes.")
        return faces.float()

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class FaceReading(NamedTuple):
    """identity: unit vectors [B, 1024]. age: in years, [B]. male: probability [B]."""

    identity: Tensor
    age: Tensor
    male: Tensor


class FaceRes(Judge):
    """Savchenko's MobileNet for identity, age and sex (2019): faces [B, 3, 224, 224] -> FaceReading."""

    name, licence = "FaceRes", "Apache-2.0"
    size, file = 224, "evaluators/faceres.safetensors"

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 32, 3, 2), nn.ReLU6()]
        widths = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            halves = i in (1, 3, 5, 11)
            depthwise = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(a, a, 3, 2, groups=a)] if halves else [nn.Conv2d(a, a, 3, 1, 1, groups=a)]
            layers += [*depthwise, nn.ReLU6(), nn.Conv2d(a, b, 1), nn.ReLU6()]
        self.register_buffer("mean", torch.tensor((103.939, 116.779, 123.68)).view(3, 1, 1), persistent=False)  # of B, G and R, as its author has it
        self.body = nn.Sequential(*layers)
        self.features, self.age, self.sex = nn.Linear(1024, 256), nn.Linear(256, 100), nn.Linear(256, 1)

    def forward(self, faces: Tensor) -> FaceReading:
        identity = self.body((self.checked(faces).flip(1) * 255 - self.mean).to(self.dtype)).mean((2, 3))
        features = F.relu(self.features(identity))
        ages = self.age(features).float().softmax(1)
        return FaceReading(F.normalize(identity.float(), dim=1), ages @ torch.arange(100.0, device=ages.device), self.sex(features).float().sigmoid()[:, 0])


class MiniXception(Judge):
    """The mini-Xception of Arriaga et al. (2017), which reads grey faces: [B, 3, 64, 64] -> probabilities of CLASSES [B, 7]."""

    name, licence = "mini-Xception", "MIT"
    size, file = 64, "evaluators/mini_xception.safetensors"

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU())
        self.blocks = nn.Sequential(_XceptionBlock(64, 128), _XceptionBlock(128, 256))
        self.head = nn.Conv2d(256, len(CLASSES), 3, padding=1)

    def forward(self, faces: Tensor) -> Tensor:
        red, green, blue = self.checked(faces).split(1, dim=1)
        grey = 0.2989 * red + 0.5870 * green + 0.1140 * blue
        return self.head(self.blocks(self.stem((grey * 2 - 1).to(self.dtype)))).mean((2, 3)).float().softmax(1)


class _XceptionBlock(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(a, b, 1, 2)
        self.first, self.second = _separable(a, b), _separable(b, b)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.second(F.relu(self.first(F.relu(x)))), 3, 2, 1) + self.skip(x)


class FaceApiExpression(Judge):
    """face-api.js's expression network (Mühler 2018): faces [B, 3, 112, 112] -> probabilities of CLASSES [B, 7]."""

    name, licence = "face-api expression", "MIT"
    size, file = 112, "evaluators/face_api_expression.safetensors"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor((122.782, 117.001, 104.298)).view(3, 1, 1) / 255, persistent=False)
        self.blocks = nn.Sequential(*(_DenseBlock(a, b) for a, b in ((3, 32), (32, 64), (64, 128), (128, 256))))
        self.head = nn.Linear(256, len(CLASSES))

    def forward(self, faces: Tensor) -> Tensor:
        return self.head(self.blocks((self.checked(faces) - self.mean).to(self.dtype)).mean((2, 3))).float().softmax(1)


class _DenseBlock(nn.Module):
    """Halves; then each of three layers reads the sum of all before it."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        half = nn.Conv2d(a, b, 3, 2) if a == 3 else _separable(a, b, 2)
        self.layers = nn.ModuleList([half, *(_separable(b, b) for _ in range(3))])

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.layers[0](F.pad(x, (0, 1, 0, 1))))
        total = x
        for layer in self.layers[1:]:
            x = layer(x)
            total = total + x
            x = F.relu(total)
        return x


def _separable(a: int, b: int, stride: int = 1) -> nn.Sequential:
    """Each channel by itself, then all together. Padding is the caller's where the stride is 2: TensorFlow's is uneven there."""
    return nn.Sequential(nn.Conv2d(a, a, 3, stride, 1 if stride == 1 else 0, groups=a, bias=False), nn.Conv2d(a, b, 1))
