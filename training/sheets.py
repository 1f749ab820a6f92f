"""Sample pictures of a stage, the same people and seeds each time: reference | target | ID | + LMK | + EMO | + both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from facecrafter_core.diffusion.families import new_scheduler
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.faces.emotion import Emotion
from training.logs import Log
from training.loop import save_sheet
from training.model import ControlledModel
from training.prepared import Prepared

PEOPLE = 8


class Sheet:
    """Sheets of people who are not trained on.

    Args:
        prepared: validation images. base: folder with a vae.
    """

    def __init__(self, prepared: Prepared, base: str, out: Path, device: torch.device, steps: int = 20) -> None:
        from diffusers import AutoencoderKL, AutoencoderTiny

        folder = Path(base) / "vae"
        kind = AutoencoderTiny if "AutoencoderTiny" in (folder / "config.json").read_text() else AutoencoderKL
        self.vae = kind.from_pretrained(folder).to(device).float()
        self.prepared, self.out, self.steps = prepared, out, steps
        first = np.unique(prepared.person, return_index=True)[1]
        self.references = first[:PEOPLE]
        self.targets = np.roll(self.references, 3)

    @classmethod
    def where_possible(cls, prepared: Prepared, base: str, out: Path, device: torch.device) -> Sheet | None:
        """None, with a line that says so, where there are no validation people or no autoencoder."""
        if base == "random" or not (Path(base) / "vae/config.json").is_file() or len(np.unique(prepared.person)) < 2:
            print("no sample sheets: the base has no vae, or fewer than two people are kept for validation", flush=True)
            return None
        return cls(prepared, base, out, device)

    def __call__(self, model: ControlledModel, done: int, log: Log) -> None:
        p, adapter = self.prepared, model.adapter
        pipe = FaceCrafterPipeline(model.unet, self.vae, model.text_encoder, new_scheduler(model.family), adapter)
        pipe.set_progress_bar_config(disable=True)
        identities = torch.from_numpy(np.asarray(p["identities"][self.references]))
        landmarks = {"landmarks": np.asarray(p["landmarks"][self.targets])} if adapter.landmark is not None else {}
        emotion = {"emotion": Emotion.preset("happy")} if adapter.emotion is not None else {}
        columns = [self._decode(pipe, self.references), self._decode(pipe, self.targets)]
        for condition in filter(None, [{"plain": 1}, landmarks, emotion, landmarks and emotion and landmarks | emotion]):
            condition = {k: v for k, v in condition.items() if k != "plain"}
            columns.append(pipe(identities, **condition, steps=self.steps, seed=0, output_type="np"))
        rows = [list(row) for row in zip(*columns, strict=True)]
        save_sheet(rows, self.out / f"sheets/step_{done:08d}.jpg")
        picture = np.concatenate([np.concatenate([np.asarray(c, np.float32) for c in row], axis=1) for row in rows])
        log.picture("samples", (picture.clip(0, 1) * 255).astype(np.uint8), done)

    def _decode(self, pipe: FaceCrafterPipeline, which: np.ndarray) -> np.ndarray:
        latents = torch.from_numpy(np.asarray(self.prepared["latent_mean"][which])).to(self.vae.device).float()
        return pipe.decode(latents)
