"""What a run shows of people it is not trained on: the loss by noise level under each condition, and a sheet of samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facecrafter_core.diffusion.families import new_scheduler
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.errors import ModelError
from facecrafter_core.faces.drawing import draw_landmarks
from facecrafter_core.faces.emotion import Emotion
from training.base import load_autoencoder
from training.data import partners
from training.diffusion import Noising, format_table, loss_table
from training.loop import save_sheet
from training.model import ControlledModel, Rows
from training.prepared import Prepared

PEOPLE = 8
IMAGES = 128  # for the losses
LEVELS = (50, 250, 500, 700, 850, 999)  # timesteps of the losses
EMOTIONS = ("happy", "sad", "anger")


class Report:
    """The same people, noise and seeds each time.

    Args:
        prepared: validation images. base: the base model, for its autoencoder. steps: sampling steps of the sheet.

    Raises:
        ModelError: the base has no autoencoder.
    """

    def __init__(self, prepared: Prepared, base: str | Path, out: Path, device: torch.device, steps: int = 20) -> None:
        self.vae = load_autoencoder(base).to(device)
        self.prepared, self.out, self.device, self.steps = prepared, out, device, steps
        first = np.unique(prepared.person, return_index=True)[1]
        self.references = first[:PEOPLE]
        self.targets = np.roll(first, 3)[:PEOPLE]

    @classmethod
    def where_possible(cls, prepared: Prepared, base: str, out: Path, device: torch.device) -> Report | None:
        """None, with a line that says so, where there are no validation people or no autoencoder."""
        try:
            if len(np.unique(prepared.person)) > 1:
                return cls(prepared, base, out, device)
        except ModelError:
            pass
        print("no held-out losses and no sample sheets: the base has no vae, or fewer than two people are kept for validation", flush=True)
        return None

    def __call__(self, model: ControlledModel, done: int) -> tuple[dict[str, dict[int, float]], np.ndarray]:
        """Prints the losses and writes OUT/sheets/step_N.jpg; returns the losses, and the sheet, uint8 [H, W, 3]."""
        losses = self.losses(model)
        print(format_table(losses), flush=True)
        rows = self.sheet(model)
        save_sheet(rows, self.out / f"sheets/step_{done:08d}.jpg")
        return losses, (np.concatenate([np.concatenate(row, axis=1) for row in rows]).clip(0, 1) * 255).astype(np.uint8)

    def losses(self, model: ControlledModel) -> dict[str, dict[int, float]]:
        """Held-out loss with none, ID, and what the adapter controls, by timestep."""
        p, adapter = self.prepared, model.adapter
        which = np.arange(min(IMAGES, len(p)))
        other = partners(p.person, np.random.default_rng(0))[which]
        clean, identities = self._tensor(p["latent_mean"][which]).float(), self._tensor(p["identities"][other])
        conditions = ["none", "ID"]
        drawings = emotions = None
        if adapter.landmark is not None:
            size = adapter.config.picture_size
            drawings = self._tensor(np.stack([draw_landmarks(points, size) for points in p["landmarks"][which]]))
            conditions += ["ID + LMK"]
        if adapter.emotion is not None:
            emotions = self._tensor(p["emotions"][which])
            conditions += ["ID + EMO"]
        if drawings is not None and emotions is not None:
            conditions += ["ID + LMK + EMO"]
        every = slice(0, len(which))

        def predict(condition: str, noisy: Tensor, timesteps: Tensor) -> Tensor:
            keep = torch.full((len(noisy),), condition != "none", device=self.device)
            shown = drawings if "LMK" in condition else None, emotions if "EMO" in condition else None
            with self._arithmetic(model):
                context = model.context(identities, keep, len(noisy), Rows(every, every))
                return model._predict(noisy, timesteps, context, *shown, Rows(every, every))[0].float()

        return loss_table(predict, conditions, clean, Noising(new_scheduler(model.family), self.device), LEVELS)

    def sheet(self, model: ControlledModel) -> list[list[np.ndarray]]:
        """A row a person: reference | target | ID | + landmarks of the target | + emotions | + landmarks and happy."""
        p, adapter = self.prepared, model.adapter
        pipe = FaceCrafterPipeline(model.unet, self.vae, model.text_encoder, new_scheduler(model.family), adapter)  # which takes a copy
        pipe.set_progress_bar_config(disable=True)
        landmarks = {"landmarks": np.asarray(p["landmarks"][self.targets])}
        conditions: list[dict[str, Any]] = [{}]
        if adapter.landmark is not None:
            conditions.append(landmarks)
        if adapter.emotion is not None:
            conditions += [{"emotion": Emotion.preset(name)} for name in EMOTIONS]
        if adapter.landmark is not None and adapter.emotion is not None:
            conditions.append(landmarks | {"emotion": Emotion.preset("happy")})
        identities = self._tensor(p["identities"][self.references])
        with self._arithmetic(model):
            made = [pipe(identities, **condition, steps=self.steps, seed=0, output_type="np") for condition in conditions]
        known = [pipe.decode(self._tensor(p["latent_mean"][which]).float()) for which in (self.references, self.targets)]
        return [[np.asarray(cell, np.float32) for cell in row] for row in zip(*known, *made, strict=True)]

    def _arithmetic(self, model: ControlledModel) -> torch.autocast:
        """That of the training: a bf16 UNet beside fp32 modules."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=model.unet.dtype == torch.bfloat16)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
