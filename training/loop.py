"""What all training scripts share: schedule, moving average, checkpoints, several processes, log lines."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facecrafter_core.errors import FaceCrafterError, OutputError, named_file
from facecrafter_core.files import write_whole


class World:
    """The processes of one run: one, or as many as torchrun starts.

    Args:
        device: "cuda", "cpu", or "auto": the GPU where there is one.
    """

    def __init__(self, device: str = "auto") -> None:
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        if self.size > 1:
            torch._dynamo.config.optimize_ddp = False  # one compiled graph; a small network's gradients are averaged in no time
            torch.distributed.init_process_group("nccl" if cuda else "gloo")

    def wrap(self, module: nn.Module) -> nn.Module:
        """Gradients averaged over the processes."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True, broadcast_buffers=False)

    def autocast(self) -> torch.autocast:
        """bf16 arithmetic on a GPU; master weights stay fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def agree(self, value: float) -> float:
        """The first process's value, in all processes."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, 0)
        return shared.item()

    def everyones(self, value: float) -> list[float]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        shared = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        shared[self.rank] = value
        torch.distributed.all_reduce(shared)
        return shared.tolist()

    def mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean of each number over the processes."""
        if self.size == 1 or not values:
            return values
        together = torch.stack([v.double() for v in values.values()])
        torch.distributed.all_reduce(together)
        return dict(zip(values, together / self.size, strict=True))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Waits for all processes, and ends their connection.

        gloo's threads need Python's lock to let go of their last tensors. DDP's destructor joins them with that lock held, so a thread that has
        not let go by then blocks the process for ever (torch 2.13). The pause gives them the lock.
        """
        if self.size > 1:
            torch.distributed.barrier()
            time.sleep(0.2)
            torch.distributed.destroy_process_group()


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to zero. A Python float: the optimiser's state goes into checkpoints, which hold nothing but plain numbers."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def due(every: int, done: int, steps: int) -> bool:
    """Of what is done every so many steps and at the end; 0: at the end alone."""
    return done == steps or (every > 0 and done % every == 0)


class Average:
    """Exponential moving average of the trained parameters; the decay grows with the step, so that it forgets the start."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.mean = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        torch._foreach_lerp_(self.mean, self.parameters, 1 - min(self.decay, (1 + step) / (10 + step)))

    def swap(self) -> None:
        """Exchanges the parameters and their averages; calling it twice restores both."""
        for p, m in zip(self.parameters, self.mean, strict=True):
            p.data, m.data = m.data, p.data


@contextmanager
def one_sentence() -> Iterator[None]:
    """Around a command: what is the user's to mend ends in one sentence on the terminal."""
    try:
        yield
    except FaceCrafterError as error:
        raise SystemExit(f"error: {error}") from None
    except OSError as error:
        raise SystemExit(f"error: {named_file(error)}") from None


def make_folder(folder: Path) -> None:
    """
    Raises:
        OutputError: it cannot be made, or written in.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "you may not write there"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise OutputError(f"Could not make the folder {folder}: {reason}. Choose another --out.")


def short_memory(error: Exception) -> str | None:
    """Which memory an allocation did not fit into; None for another error. On the CPU, torch tells it in a plain RuntimeError's words alone."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "The GPU's memory"
    return "The computer's memory" if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error) else None


def save_checkpoint(path: Path, **state: Any) -> None:
    """Written whole or not at all.

    Raises:
        OutputError: the disk is full, or it cannot be written; the checkpoints before it stay.
    """
    write_whole(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None


def store(module: nn.Module, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """A network's weights as safetensors.

    Raises:
        OutputError: they cannot be written.
    """
    from safetensors.torch import save

    tensors = {k: v.detach().cpu() for k, v in module.state_dict().items()}
    data = save({k: (v.to(dtype) if v.is_floating_point() else v).contiguous() for k, v in tensors.items()})
    write_whole(path, lambda file: file.write(data))


class Progress:
    """Log lines: step, losses, images a second, time left."""

    def __init__(self, steps: int, images_per_step: int, every: int, quiet: bool = False) -> None:
        self.steps, self.images, self.every, self.quiet = steps, images_per_step, every, quiet
        self.start, self.first = time.perf_counter(), None
        self.sums: dict[str, Tensor] = {}
        self.count = 0  # steps in the sums

    def add(self, step: int, **values: Tensor) -> None:
        """Values stay on the device until a line is printed."""
        if self.first is None:
            self.first, self.start = step, time.perf_counter()
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        if (step + 1) % self.every == 0 or step + 1 == self.steps:
            done = max(1, step - self.first)
            numbers = {name: float(value) / self.count for name, value in self.sums.items()}
            seconds = time.perf_counter() - self.start
            left = seconds / done * (self.steps - step - 1)
            losses = "  ".join(f"{name} {number:.4f}" for name, number in numbers.items())
            if not self.quiet:
                print(f"step {step + 1}/{self.steps}  {losses}  {done * self.images / seconds:.0f} img/s  {left:.0f} s left", flush=True)
            if not all(np.isfinite(n) for n in numbers.values()):
                raise SystemExit(f"The loss is not finite at step {step + 1}: {numbers}. Lower --learning-rate and resume.")
            self.sums, self.count = {}, 0


def save_sheet(rows: list[list[np.ndarray]], path: Path) -> None:
    """Rows of pictures [H, W, 3] (uint8, or float in 0..1) as one JPEG.

    Raises:
        OutputError: it cannot be written.
    """
    from PIL import Image

    def pixels(p: np.ndarray) -> np.ndarray:
        return p if p.dtype == np.uint8 else (p.clip(0, 1) * 255).round().astype(np.uint8)

    sheet = Image.fromarray(np.concatenate([np.concatenate([pixels(p) for p in row], axis=1) for row in rows]))
    write_whole(path, lambda file: sheet.save(file, format="JPEG", quality=88))
