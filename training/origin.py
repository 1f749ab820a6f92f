"""What a folder's numbers were made from: kept beside them, so that a run that goes on does not mix them with others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.errors import MetricError
from facecrafter_core.files import write_whole
from facecrafter_core.metrics.reading import Estimator


def keep_origin(folder: Path, origin: Mapping[str, object], estimators: Sequence[Estimator]) -> None:
    """Writes down what a folder's numbers are made from, or compares: what is there is not made again, so it must be what would be made now.

    Args:
        origin: of the pictures, as JSON. estimators: more may come later.

    Raises:
        MetricError: numbers of another origin are there.
    """
    file = folder / "origin.json"
    now = json.loads(json.dumps({**origin, **{f"estimator of {what}": e.name for e in estimators for what in e.reads}}))
    there = json.loads(file.read_text()) if file.is_file() and any(folder.glob("*.npz")) else {}
    if different := [name for name in now if name in there and there[name] != now[name]]:
        raise MetricError(f"The numbers in {folder} were made with other settings or files ({', '.join(different)}). Use another name or another --out, or remove that folder.")
    write_whole(file, lambda stream: stream.write((json.dumps(there | now, indent=2) + "\n").encode()))


def digest_of_pipe(pipe: FaceCrafterPipeline, *more: nn.Module) -> str:
    """Of all weights that generate, wherever they were read from, and of the scheduler's kind. more: networks beside the pipeline's."""
    found = hashlib.sha256(type(pipe.scheduler).__name__.encode())
    for module in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.adapter, *more):
        for name, tensor in module.state_dict().items() if module is not None else ():
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def digest_of_files(files: Sequence[Path]) -> str:
    """Of what is in them, in their order."""
    found = hashlib.sha256()
    for file in files:
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]
