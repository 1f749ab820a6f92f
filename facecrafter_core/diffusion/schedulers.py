"""What the pipeline asks of diffusers' schedulers."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import ModelError
from .families import Family


def check_scheduler(scheduler: Any, steps: int) -> None:
    """
    Raises:
        ModelError: it is not one for noise levels as DDPM has them, but of flows, say; or it does not have so many steps.
    """
    if not (hasattr(scheduler, "init_noise_sigma") and hasattr(scheduler, "alphas_cumprod")):
        raise ModelError(f"Expected a scheduler of diffusers for noise levels as DDPM has them, found {type(scheduler).__name__}. Take DDIMScheduler, say.")
    most = scheduler.config.num_train_timesteps
    if not 1 <= steps <= most:
        raise ModelError(f"Expected 1 to {most} steps, found {steps}.")


def noise_levels(scheduler: Any, family: Family) -> list[float]:
    """Sigma, sqrt((1 - a) / a), of each timestep that the scheduler has set, under the family's noise schedule; numbers on the host."""
    c = family.scheduler
    betas = np.linspace(c["beta_start"] ** 0.5, c["beta_end"] ** 0.5, c["num_train_timesteps"], dtype=np.float64) ** 2
    places = scheduler.timesteps.cpu().numpy().astype(np.float64)
    alphas = np.interp(places, np.arange(len(betas)), np.cumprod(1 - betas))
    return np.sqrt((1 - alphas) / alphas).tolist()


def takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters


class NoWaiting(TorchFunctionMode):
    """Schedulers draw noise on the host, where a seed gives the same numbers everywhere; it goes to a GPU without waiting for what runs there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is Tensor.to and args[0].device.type == "cpu":
            target = kwargs.get("device", args[1] if len(args) > 1 else None)
            if isinstance(target, (str, torch.device)) and torch.device(target).type == "cuda":
                return function(args[0].pin_memory(), *args[1:], **{**kwargs, "non_blocking": True})
        return function(*args, **kwargs)
