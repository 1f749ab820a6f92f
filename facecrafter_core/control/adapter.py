"""The adapter: both control modules with their branches, and its file.

The file is one safetensors file. Its keys are module paths; its metadata say everything that is needed to rebuild the modules:
format version, configuration, emotion label order, training stage, licence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import AdapterError, OutputError
from ..files import write_whole
from .branches import ControlBranch
from .config import PRESETS, ControlConfig
from .modules import EmotionModule, LandmarkModule

FORMAT = "facecrafter-adapter"
FORMAT_VERSION = 1


class FaceCrafterAdapter(nn.Module):
    """Landmark and emotion control for one base family. Either condition may be absent (None).

    Args:
        config: sizes.
        landmark, emotion: which conditions to build.
        operations: where Linear, Conv2d, GroupNorm and LayerNorm are taken from.
    """

    def __init__(self, config: ControlConfig, landmark: bool = True, emotion: bool = True, operations: Any = nn) -> None:
        super().__init__()
        if not landmark and not emotion:
            raise AdapterError("An adapter needs at least one of the landmark and emotion modules, found neither.")
        self.config = config
        self.landmark = LandmarkModule(config, operations) if landmark else None
        self.landmark_branch = ControlBranch(config.landmark_width, config, operations) if landmark else None
        self.emotion = EmotionModule(config, operations) if emotion else None
        self.emotion_branch = ControlBranch(config.emotion_width, config, operations) if emotion else None

    def draw(self, landmarks: Tensor | np.ndarray) -> Tensor:
        """landmarks [B, 478, 3] in units of the picture (0..1) -> drawings, uint8 [B, S, S, 3]."""
        from ..faces.drawing import LANDMARK_STYLE, draw_landmarks

        if self.config.landmark_style != LANDMARK_STYLE:
            raise AdapterError(
                f"This adapter reads landmark drawings of style {self.config.landmark_style}, "
                f"but this version draws style {LANDMARK_STYLE}. Use the version of FaceCrafter that the adapter was made with."
            )
        points = np.asarray(torch.as_tensor(landmarks).detach().cpu(), dtype=np.float32)
        distinct, places = np.unique(points, axis=0, return_inverse=True)  # many pictures of one face are one drawing
        return torch.from_numpy(np.stack([draw_landmarks(p, self.config.picture_size) for p in distinct])[places.reshape(-1)])

    def encode_landmarks(self, landmarks: Tensor | np.ndarray) -> Tensor:
        """landmarks [B, 478, 3] in units of the picture (0..1) -> landmark tokens [B, T, W]."""
        if self.landmark is None:
            raise AdapterError("This adapter has no landmark module; leave the landmarks out or load another adapter.")
        parameter = next(self.landmark.parameters())
        drawings = self.draw(landmarks).to(parameter.device).permute(0, 3, 1, 2)
        return self.landmark(drawings.to(parameter.dtype) / 255)

    def encode_emotion(self, emotions: Tensor | np.ndarray) -> Tensor:
        """emotion vectors [B, 10] -> emotion tokens [B, T, W]."""
        if self.emotion is None:
            raise AdapterError("This adapter has no emotion module; leave the emotion out or load another adapter.")
        parameter = next(self.emotion.parameters())
        return self.emotion(torch.as_tensor(emotions).to(parameter.device, parameter.dtype))

    def project_landmarks(self, landmarks: Tensor | np.ndarray) -> list[tuple[Tensor, Tensor]]:
        """landmarks [B, 478, 3] -> (key, value), each [B, T, C], for each cross-attention layer.

        Raises:
            AdapterError: the adapter has no landmark module.
        """
        tokens = self.encode_landmarks(landmarks)
        return self.landmark_branch.project(tokens)

    def project_emotion(self, emotions: Tensor | np.ndarray) -> list[tuple[Tensor, Tensor]]:
        """emotion vectors [B, 10] -> (key, value), each [B, T, C], for each cross-attention layer.

        Raises:
            AdapterError: the adapter has no emotion module.
        """
        tokens = self.encode_emotion(emotions)
        return self.emotion_branch.project(tokens)


def save_adapter(adapter: FaceCrafterAdapter, path: str | Path, dtype: torch.dtype | None = None, **metadata: str) -> None:
    """Writes the adapter file; the old file, if any, stays whole until the new one is complete.

    Args:
        dtype: type of the stored weights (None: as they are).
        metadata: further entries, such as stage="joint" or license="apache-2.0".

    Raises:
        AdapterError: it could not be written.
    """
    from safetensors.torch import save

    from ..faces.emotion import EMOTIONS

    header = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": json.dumps(adapter.config.to_dict()),
        "emotions": json.dumps(list(EMOTIONS)),
        **metadata,
    }
    tensors = {k: v.detach().cpu().to(dtype or v.dtype).contiguous() for k, v in adapter.state_dict().items()}
    data = save(tensors, metadata=header)
    try:
        write_whole(path, lambda file: file.write(data))
    except OutputError as error:
        raise AdapterError(str(error)) from error


def read_adapter_metadata(path: str | Path) -> dict[str, Any]:
    """The checked metadata of an adapter file, with `config` as a ControlConfig and `shapes` by key; reads no weights.

    Raises:
        AdapterError: not there, not a safetensors file, truncated, not ours, or of an unknown version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise AdapterError(f"There is no adapter file at {path}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = dict(file.metadata() or {})
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path.name} is not a whole safetensors file ({error}). Download or export it again.") from error
    if header.get("format") != FORMAT:
        raise AdapterError(
            f"{path.name} is a safetensors file but no FaceCrafter adapter: expected the metadata format={FORMAT}, "
            f"found {header.get('format', 'none')}. Choose a file written by FaceCrafter's training or export scripts."
        )
    if header.get("format_version") != str(FORMAT_VERSION):
        raise AdapterError(
            f"{path.name} has adapter format version {header.get('format_version')}, this version of FaceCrafter reads "
            f"version {FORMAT_VERSION}. Update FaceCrafter or export the adapter again."
        )
    try:
        config = ControlConfig.from_dict(json.loads(header["config"]))
        emotions = json.loads(header["emotions"])
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"The metadata of {path.name} cannot be read: {error}. Export the adapter again.") from error
    return {**header, "config": config, "emotions": emotions, "shapes": shapes}


def load_adapter(path: str | Path, operations: Any = nn) -> FaceCrafterAdapter:
    """Reads an adapter file.

    Raises:
        AdapterError: see read_adapter_metadata; also when shapes or the emotion order differ from what is expected.
    """
    from safetensors.torch import load_file

    from ..faces.emotion import EMOTIONS

    header = read_adapter_metadata(path)
    name, shapes = Path(path).name, header["shapes"]
    if header["emotions"] != list(EMOTIONS):
        raise AdapterError(f"{name} orders emotions as {header['emotions']}, expected {list(EMOTIONS)}. Export it again.")
    adapter = FaceCrafterAdapter(
        header["config"],
        landmark=any(key.startswith("landmark.") for key in shapes),
        emotion=any(key.startswith("emotion.") for key in shapes),
        operations=operations,
    )
    expected = {key: tuple(value.shape) for key, value in adapter.state_dict().items()}
    for key in sorted(expected.keys() | shapes.keys()):
        if expected.get(key) != shapes.get(key):
            raise AdapterError(
                f"{name} does not fit its own configuration: {key} should have shape {expected.get(key, 'none (no such key)')}, "
                f"found {shapes.get(key, 'none (key is missing)')}. Export the adapter again."
            )
    weights = load_file(str(path))
    adapter.load_state_dict({key: value.float() for key, value in weights.items()})
    return adapter.eval().requires_grad_(False)


def new_adapter(family: str, **modules: bool) -> FaceCrafterAdapter:
    """An untrained adapter of the "full" or "demo" preset; `modules` as in FaceCrafterAdapter."""
    if family not in PRESETS:
        raise AdapterError(f"Expected a family out of {sorted(PRESETS)}, found {family!r}.")
    return FaceCrafterAdapter(PRESETS[family], **modules)
