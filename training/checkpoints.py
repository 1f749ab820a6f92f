"""Checkpoints of a stage: written whole or not at all, the last ones kept, checked against the settings when a run goes on."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

from facecrafter_core.files import check_room
from training.config import ConfigError
from training.loop import load_checkpoint, save_checkpoint, short_memory

FREE = {
    "out", "steps", "workers", "log_every", "sample_every", "save_every", "keep_last", "keep_every", "compile", "wandb", "dry_run", "data", "base", "init", "diverged",
    "device", "learning_rate", "batch", "images_per_batch", "accumulate", "gradient_checkpointing",
}  # fmt: skip
"""Settings that may differ when a run goes on; any other would make the continuation another run. Folders may move, and images be shared out
otherwise over processes and micro-batches: what lies in the folders and the images a step are compared (`inputs`)."""

NOTED = ("learning_rate", "batch", "images_per_batch", "accumulate", "gradient_checkpointing")
"""Those of them whose change is printed."""

STAGE = frozenset(("step", "settings", "weights", "average", "optimizer", "lowest"))
"""What a checkpoint of a stage holds at least."""


def saved_checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a run's folder, the oldest first."""
    return sorted((out / "checkpoints").glob("step_*.pt"))


def read_checkpoint(path: Path, holds: frozenset[str] = STAGE) -> dict[str, Any]:
    """
    Args:
        holds: what it must hold, by name.

    Raises:
        ConfigError: it cannot be used; the sentence says why, and names the newest older one that is whole.
    """
    state = _read(path, holds)
    if not isinstance(state, str):
        return state
    older = next((p for p in reversed(saved_checkpoints(path.parent.parent)) if p.name < path.name and not isinstance(_read(p, holds), str)), None)
    remedy = f"{older} is whole: remove {path.name} to take that one." if older else "There is no older one that is whole; begin again with another --out."
    raise ConfigError(f"{path} is missing, cut or damaged. {remedy} The cause: {state}.")


def _read(path: Path, holds: frozenset[str]) -> dict[str, Any] | str:
    """What a checkpoint holds, or why it cannot be used."""
    if not path.is_file():
        return "there is no such file"
    try:
        state = load_checkpoint(path)
    except pickle.UnpicklingError as error:  # its words advise to execute the file
        foreign = re.search(r"(?:GLOBAL|global:|type) (?:GLOBAL )?([\w.]+)", str(error))
        return f"it holds {foreign[1]}, which is no plain number; it was not executed" if foreign else "it was not written by torch.save"
    except Exception as error:  # which one depends on where it is cut
        if short_memory(error):
            raise
        return f"{type(error).__name__}: {str(error).partition('. ')[0]}".rstrip(": ")
    if not isinstance(state, dict) or not holds <= state.keys():
        return f"it does not hold {', '.join(sorted(holds - set(state)) if isinstance(state, dict) else sorted(holds))}"
    return state


class Checkpoints:
    """The folder OUT/checkpoints: step_00001000.pt, ...

    Args:
        settings: the run's, as plain values (training.config.to_dict).
        inputs: what else must be the same when a run goes on, by name: fingerprints of what it reads, images a step.
        keep_last: how many of the newest stay. keep_every: those at multiples of it stay too (0: none).
    """

    def __init__(self, out: Path, settings: dict[str, Any], inputs: dict[str, Any], keep_last: int, keep_every: int) -> None:
        self.folder, self.settings, self.inputs = out / "checkpoints", settings, inputs
        self.keep_last, self.keep_every = max(1, keep_last), keep_every

    def save(self, step: int, **state: Any) -> Path:
        """Saves what `step` finished steps have made, then removes what is not to be kept."""
        path = self.folder / f"step_{step:08d}.pt"
        save_checkpoint(path, **state, step=step, settings=self.settings, inputs=self.inputs)
        for old in saved_checkpoints(self.folder.parent)[: -self.keep_last]:
            if not self.keep_every or int(old.stem[5:]) % self.keep_every:
                old.unlink(missing_ok=True)
        return path

    def check_room(self, size: int, start: int, steps: int, every: int) -> None:
        """Before the first step.

        Args:
            size: of a checkpoint in bytes. start, steps, every: the run's steps that are done, all of them, and those from checkpoint to checkpoint.

        Raises:
            OutputError: the disk has less room than the checkpoints take that will be there at a time.
        """
        saves = -(-(steps - start) // (every or steps))
        more = min(saves, max(1, self.keep_last + 1 - len(saved_checkpoints(self.folder.parent))))  # an old one goes when the new one is whole
        kept = (steps - start) // self.keep_every if self.keep_every else 0
        check_room(self.folder.parent, size * min(saves, more + kept), f"the checkpoints of {self.folder.parent}")

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint, or None.

        Raises:
            ConfigError: it is damaged, or was made with other settings or inputs.
        """
        for part in self.folder.glob(".step_*.part*"):  # of a run that was killed while saving
            part.unlink(missing_ok=True)
        if not (found := saved_checkpoints(self.folder.parent)):
            return None
        state = read_checkpoint(found[-1])
        theirs = state["settings"]
        pairs = [(name, theirs.get(name), self.settings.get(name)) for name in sorted({*theirs, *self.settings} - FREE)]
        pairs += [(name, value, self.inputs[name]) for name, value in state.get("inputs", {}).items()]
        for name, old, new in pairs:
            if old != new:
                raise ConfigError(f"{found[-1]} was made with {name} = {old!r}, this run has {new!r}. Use the same to go on, or another --out.")
        return state
