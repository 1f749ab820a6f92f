"""Log lines of a stage: losses, speed, arithmetic used, memory, time left; to the terminal, OUT/log.jsonl, TensorBoard and W&B."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facecrafter_core.errors import OutputError
from facecrafter_core.files import append_line, writing
from training.config import ConfigError, StageConfig, to_dict
from training.estimate import peak_tflops
from training.loop import World, due, make_folder


def read_lines(path: Path) -> list[dict[str, float]]:
    """The lines of a log.jsonl or held_out.jsonl, numbers by name; each has a "step". Lines that cannot be read, such as half a line that an older
    process has left on a full disk, are left out, and their number is printed.

    Raises:
        OutputError: the file cannot be read.
    """
    try:
        texts = path.read_bytes().splitlines()
    except OSError as error:
        raise OutputError(f"Could not read {path}: {error.strerror or error}.") from error
    lines = [_line(text) for text in texts]
    if bad := [number for number, line in enumerate(lines, 1) if line is None]:
        print(f"{path}: {len(bad)} of {len(lines)} lines cannot be read and are left out; the first is line {bad[0]}", file=sys.stderr, flush=True)
    return [line for line in lines if line is not None]


def _line(text: bytes) -> dict[str, float] | None:
    try:
        line = json.loads(text)
        numbers = {name: float(value) for name, value in line.items() if not isinstance(value, (str, bool))}
        whole = numbers["step"] == int(numbers["step"]) >= 0 and len(numbers) == len(line)
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):  # no JSON; no names; no step; no finite step
        return None
    return numbers if whole else None


class Log:
    """Collects on the device, and prints every `log_every` steps.

    Args:
        images, rows: a step, over all processes.
        start: the first step of this process's run.
        lowest: the lowest mean loss of earlier log lines (of a run that goes on).
        flops: of a step and process, for their share of what the GPU can do; 0 where that is not known.

    Raises:
        ConfigError: W&B is asked for and not installed. OutputError: OUT cannot be written.
    """

    def __init__(
        self, config: StageConfig, world: World, images: int, rows: int, start: int, lowest: float = float("inf"), flops: float = 0.0
    ) -> None:
        self.config, self.world, self.images, self.rows, self.start, self.lowest, self.flops = config, world, images, rows, start, lowest, flops
        self.sums: dict[str, Tensor] = {}
        self.micro = 0
        self.mark = time.perf_counter()
        self.idle = 0.0
        self.writers: list[Any] = []
        self.run: Any = None
        if world.rank == 0:
            make_folder(config.out)
            if importlib.util.find_spec("tensorboard"):
                from torch.utils.tensorboard import SummaryWriter

                self.writers.append(SummaryWriter(str(config.out / "tensorboard")))
            if config.wandb:
                self._start_wandb()

    def add(self, **values: Tensor) -> None:
        """One micro-batch's losses; they stay on the device."""
        self.micro += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().float()

    def pause(self) -> None:
        """What follows until the next step is not training time."""
        self.paused = time.perf_counter()

    def resume(self) -> None:
        self.idle += time.perf_counter() - self.paused

    def end_step(self, done: int, norm: Tensor) -> None:
        """Prints when a line is due: every `log_every` steps, and with each checkpoint.

        Raises:
            FloatingPointError: the loss or the gradient is not finite, or the loss is far above what it was.
        """
        if done == self.start + 1:  # the first step compiles and warms up
            self._sync()
            self.mark, self.first, self.idle = time.perf_counter(), done, 0.0
        if not any(due(every, done, self.config.steps) for every in (self.config.log_every, self.config.save_every)):
            return  # a checkpoint is never saved before its losses have been looked at
        values = {name: total.item() / self.micro for name, total in self.world.mean(self.sums).items()}
        values["norm"] = float(norm)
        self.sums, self.micro = {}, 0
        self._print(done, values)
        loss, norm = values["loss"], values["norm"]
        if not np.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss} in the steps before {done}.")
        if not np.isfinite(norm):  # the weights are spoiled already, and no loss has seen them yet
            raise FloatingPointError(f"The gradient's norm is {norm} at step {done}.")
        if loss > self.config.diverged * self.lowest:
            raise FloatingPointError(f"The loss rose to {loss:.4f} in the steps before {done}; its lowest was {self.lowest:.4f}.")
        self.lowest = min(self.lowest, loss)

    def _print(self, done: int, values: dict[str, float]) -> None:
        if self.world.rank:
            return
        seconds = max(1e-9, time.perf_counter() - self.mark - self.idle)
        speed = max(0, done - self.first) / seconds
        line = {"step": done, **{k: round(v, 6) for k, v in values.items()}, "images/s": speed * self.images, "rows/s": speed * self.rows}
        text = f"step {done}/{self.config.steps}  " + "  ".join(f"{k} {v:.5f}" for k, v in values.items()) + f"  {line['images/s']:.1f} img/s"
        if self.rows != self.images:
            text += f"  {line['rows/s']:.0f} rows/s"
        if self.flops and (peak := peak_tflops(self.world.device)):
            line["mfu"] = speed * self.flops / peak / 1e12
            text += f"  MFU {100 * line['mfu']:.0f}%"
        if self.world.device.type == "cuda":
            line["gib"] = torch.cuda.max_memory_allocated() / 2**30
            text += f"  {line['gib']:.1f} GiB"
        if speed:
            text += f"  {(self.config.steps - done) / speed:.0f} s left"
        print(text, flush=True)
        append_line(self.config.out / "log.jsonl", json.dumps(line))
        self._curves(line, done)

    def held_out(self, table: Mapping[str, Mapping[int, float]], done: int) -> None:
        """Losses by condition and timestep, as a line of OUT/held_out.jsonl and as curves."""
        values = {f"{condition}/{level}": round(loss, 6) for condition, row in table.items() for level, loss in row.items()}
        append_line(self.config.out / "held_out.jsonl", json.dumps({"step": done, **values}))
        self._curves({f"held out/{name}": value for name, value in values.items()}, done)

    def _curves(self, values: Mapping[str, float], done: int) -> None:
        for writer in self.writers:
            with self._writing():
                for name, value in values.items():
                    writer.add_scalar(name, value, done)
        if self.run is not None:
            self.run.log(dict(values), step=done)

    def picture(self, name: str, picture: np.ndarray, done: int) -> None:
        """A sheet, uint8 [H, W, 3], beside the curves."""
        for writer in self.writers:
            with self._writing():
                writer.add_image(name, picture, done, dataformats="HWC")
        if self.run is not None:
            self.run.log({name: self.wandb.Image(picture)}, step=done)

    def close(self) -> None:
        for writer in self.writers:
            with self._writing():
                writer.close()
        if self.run is not None:
            self.run.finish()

    def _writing(self) -> AbstractContextManager[None]:
        """TensorBoard writes in a thread of its own, and reports a full disk with a later value."""
        return writing(self.config.out / "tensorboard", "Free some space and run again with the same --out.")

    def _start_wandb(self) -> None:
        """A run of W&B for each OUT, wherever it lies; started again, it goes on."""
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("--wandb needs the package wandb, which is not installed: pip install wandb. Or leave --wandb out.") from error
        config, place = self.config, self.config.out.resolve()
        name, number = "/".join(place.parts[-2:]), hashlib.sha256(str(place).encode()).hexdigest()[:16]
        self.wandb, self.run = wandb, wandb.init(project=config.wandb, dir=str(config.out), config=to_dict(config), name=name, id=number, resume="allow")

    def _sync(self) -> None:
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()
