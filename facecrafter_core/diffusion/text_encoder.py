"""The CLIP text encoder as files, alike for every version of transformers.

Versions 4 and 5 give its weights different names, with and without "text_model.", and leave weights whose names they do not know at random
values with a warning. Here both are read, nothing may be missing, and the names with "text_model." are written: version 4, version 5 and
ComfyUI's Load CLIP know these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..files import write_whole

PREFIX = "text_model."


def load_text_encoder(folder: str | Path, dtype: torch.dtype | None = None, variant: str | None = None) -> Any:
    """transformers' CLIPTextModel from config.json and model.safetensors, or pytorch_model.bin, in a folder.

    Args:
        dtype: of the weights (None: that of the file). variant: of the file's name, such as "fp16", where there is one.

    Raises:
        ModelError: files are missing or hold something else.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = Path(folder)
    names = [*([f"model.{variant}.safetensors"] if variant else []), "model.safetensors", "pytorch_model.bin"]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None or not (folder / "config.json").is_file():
        raise ModelError(f"Expected a text encoder in {folder} (config.json and {names[0]}), found none. Copy it there or name another folder.")
    with named(folder, "a CLIP text encoder"):
        encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
        fill(encoder, read_weights(path, dtype))
    return encoder.eval()


def fill(encoder: Any, weights: Mapping[str, Tensor]) -> None:
    """Puts weights of either version's names into a CLIPTextModel, which takes their type.

    Raises:
        RuntimeError: some are missing, unknown or of another shape.
    """
    own = next(iter(encoder.state_dict())).startswith(PREFIX)
    plain = {name.removeprefix(PREFIX): weight for name, weight in weights.items() if not name.endswith("position_ids")}
    encoder.to(next(iter(plain.values())).dtype)
    encoder.load_state_dict({f"{PREFIX}{name}" if own else name: weight for name, weight in plain.items()})


def save_text_encoder(encoder: Any, folder: str | Path, variant: str | None = None) -> None:
    """Writes config.json and model.safetensors, whole or not at all.

    Raises:
        OutputError: they cannot be written.
    """
    from safetensors.torch import save

    weights = {f"{PREFIX}{name.removeprefix(PREFIX)}": weight.contiguous().cpu() for name, weight in encoder.state_dict().items()}
    data = save(weights, metadata={"format": "pt"})
    write_whole(Path(folder) / (f"model.{variant}.safetensors" if variant else "model.safetensors"), lambda file: file.write(data))
    write_whole(Path(folder) / "config.json", lambda file: file.write(encoder.config.to_json_string().encode()))


def read_weights(path: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """A .safetensors, or torch's .bin, of which nothing but tensors is read.

    Args:
        dtype: of the floating-point weights (None: that of the file).
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(str(path))
    else:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    return {name: weight.to(dtype) if dtype and weight.is_floating_point() else weight for name, weight in weights.items()}


@contextmanager
def named(path: Path, what: str) -> Iterator[None]:
    """What torch, transformers and safetensors say of a file that holds something else becomes one sentence, a ModelError."""
    try:
        yield
    except Exception as error:  # pickle, zip, safetensors, transformers and torch have one each
        raise ModelError(f"{path} does not hold {what} ({type(error).__name__}). Get it again: facecrafter assets verify checks downloaded files.") from error
