"""Trains the demo's base from nothing: a denoiser of SD 1.5's topology, an identity-token text encoder, and a first adapter with them.

    python -m training.train_base --data prepared --out runs/demo
    torchrun --nproc-per-node 2 -m training.train_base --data prepared --out runs/demo --minutes 20

Stable Diffusion's queries have learned from captions what is where; Arc2Face inherits that, and a frozen base that lacks it is hard to
steer. Here the landmark and emotion modules take the captions' place: they train in the same steps. In each batch a part of the rows has
landmarks, a part emotion, a part both, the rest the identity alone; each branch is computed on its own rows only. See docs/training-log.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facecrafter_core.control.adapter import FaceCrafterAdapter, save_adapter
from facecrafter_core.control.config import DEMO as DEMO_CONTROL
from facecrafter_core.diffusion.families import DEMO, new_scheduler, new_text_encoder, new_unet
from facecrafter_core.diffusion.text_encoder import save_text_encoder
from facecrafter_core.files import write_folder
from facecrafter_core.terminal import escape_unprintable
from training.batches import step_seed
from training.checkpoints import read_checkpoint
from training.data import partners
from training.diffusion import Noising, draw_timesteps
from training.loop import Average, Progress, World, due, learning_rate, one_sentence, save_checkpoint
from training.model import ControlledModel, Rows
from training.prepared import Prepared, PreparedError
from training.ranges import COUNT, EVERY, LEARNING_RATE, SHARE, TIMESTEP_POWER, Range
from training.report import Report

CLIP = 1.0
"""Largest norm of the gradient."""

PAIRS_EVERY = 200
"""Steps for which each image keeps its partner."""

STATE = frozenset(("model", "optimizer", "average", "step"))
"""What the checkpoint holds."""


def blur_identities(identities: Tensor, most: float) -> Tensor:
    """Conditioning augmentation (Ho et al. 2022): each unit vector [B, D] is moved by noise of a random length up to `most`.

    Photographs give vectors between and beyond those of the rendered people; so the base learns to make a face of them, too.
    """
    noise = torch.randn_like(identities) / identities.shape[1] ** 0.5
    return nn.functional.normalize(identities + most * torch.rand_like(identities[:, :1]) * noise, dim=1)


def arguments() -> argparse.Namespace:
    """
    Raises:
        SystemExit: a number is out of its range.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of training/prepare.py, with drawings")
    parser.add_argument("--models", type=Path, required=True, help="folder with the autoencoder that made the latents")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=COUNT.of(int), default=12000)
    parser.add_argument("--minutes", type=Range(0, above=True).of(float), help="choose the number of steps so that training takes this long")
    parser.add_argument("--batch", type=COUNT.of(int), default=512, help="images a process and step")
    parser.add_argument("--shares", type=SHARE.of(float), nargs=3, default=(0.4, 0.16, 0.2), help="rows with landmarks, with both, with emotion")
    parser.add_argument("--drop-identity", type=SHARE.of(float), default=0.2, help="share of the other rows that loses its identity: the unconditional")
    parser.add_argument("--blur-identity", type=Range(0, 100).of(float), default=0.5, help="longest noise on the identity vectors")
    parser.add_argument("--learning-rate", type=LEARNING_RATE.of(float), default=8e-4)
    parser.add_argument("--warmup", type=EVERY.of(int), default=300, help="steps in which the learning rate grows from zero")
    parser.add_argument("--timestep-power", type=TIMESTEP_POWER.of(float), default=0.75, help="below 1: more of the noisy timesteps")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--report-every", type=COUNT.of(int), default=1000)
    args = parser.parse_args()
    if sum(args.shares) > 1:
        parser.error(f"expected three --shares that are at most 1 together, found {sum(args.shares):g}")
    return args


def read_data(folder: Path) -> Prepared:
    """
    Raises:
        PreparedError: it cannot be used, or has no drawings.
    """
    prepared = Prepared.open(folder, "demo")
    if "drawings" not in prepared.arrays:
        raise PreparedError(f"Expected drawings in {folder}, found none. Run training/prepare.py with --drawings.")
    return prepared


class Training:
    """Network, optimiser and average; goes on with the checkpoint in OUT, where there is one.

    Raises:
        ConfigError: that checkpoint cannot be used.
    """

    def __init__(self, args: argparse.Namespace, world: World) -> None:
        self.out, self.world, self.start = args.out, world, 0
        unet = new_unet(DEMO).to(memory_format=torch.channels_last)
        self.model = ControlledModel(unet, new_text_encoder(DEMO), FaceCrafterAdapter(DEMO_CONTROL), DEMO, args.compile).to(world.device)
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, args.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=world.device.type == "cuda")
        self.average = Average(self.parameters, 0.9995)
        self.path = args.out / "checkpoints/base.pt"
        if self.path.is_file():
            state = read_checkpoint(self.path, STATE)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.mean = [m.to(world.device) for m in state["average"]]
            self.start = state["step"]
            print(f"resuming at step {self.start}", flush=True)
        self.trained = world.wrap(self.model)

    def update(self, loss: Tensor, step: int, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        self.average.update(step)

    def save(self, done: int, report: Report) -> None:
        """Losses, a sheet, the averaged weights as a base, and the checkpoint."""
        self.average.swap()
        report(self.model, done)
        write_folder(self.out / "unet", self.model.unet.save_pretrained)
        save_text_encoder(self.model.text_encoder, self.out / "text_encoder")
        write_folder(self.out / "scheduler", new_scheduler(DEMO).save_pretrained)
        save_adapter(self.model.adapter, self.out / "adapter.safetensors", torch.float16, stage="simple", license="apache-2.0")
        self.average.swap()
        save_checkpoint(self.path, model=self.model.state_dict(), optimizer=self.optimizer.state_dict(), average=self.average.mean, step=done)


def train(args: argparse.Namespace) -> None:
    """What a step draws follows from its number alone, so that a run that was stopped goes on as if it had not been.

    Raises:
        PreparedError, ConfigError, ModelError: data, checkpoint or autoencoder cannot be used. OutputError: the disk is full.
    """
    world = World()
    torch.manual_seed(world.rank)
    prepared = read_data(args.data)
    split = prepared.columns["split"].astype(str)
    data, person = prepared.subset(split == "train"), prepared.subset(split == "train").person
    names = ("latent_mean", "identities", "drawings", "emotions")
    latents, identities, drawings, emotions = (torch.from_numpy(np.asarray(data[name])).to(world.device) for name in names)
    training, noising = Training(args, world), Noising(new_scheduler(DEMO), world.device)
    lmk_only, both, emo_only = (round(args.batch * share) for share in args.shares)
    with_landmarks, with_emotion = slice(0, lmk_only + both), slice(lmk_only, lmk_only + both + emo_only)
    rows = Rows(with_landmarks, with_emotion)
    plain = torch.arange(args.batch, device=world.device) >= lmk_only + both + emo_only
    report = Report(prepared.subset(split == "validation"), args.models, args.out, world.device) if world.rank == 0 else None
    progress = Progress(args.steps, args.batch * world.size, 100, quiet=world.rank > 0)
    start, clock = training.start, Clock(args.minutes, world)
    step = start - 1
    while (step := step + 1) < args.steps:
        args.steps = progress.steps = clock.steps(step, start, args.steps)
        if step == start or step % PAIRS_EVERY == 0:
            pair = torch.from_numpy(partners(person, np.random.default_rng(step - step % PAIRS_EVERY))).to(world.device)
        torch.manual_seed(step_seed(world.rank, step))
        which = torch.randint(len(latents), (args.batch,), device=world.device)
        clean = latents[which].float()
        timesteps = draw_timesteps(args.batch, world.device, args.timestep_power)
        noisy, target = noising(clean, torch.randn_like(clean), timesteps)
        keep = ~plain | (torch.rand(args.batch, device=world.device) > args.drop_identity)
        identity = blur_identities(identities[pair[which]], args.blur_identity)
        with world.autocast():
            found, _ = training.trained(noisy, timesteps, identity, keep, drawings[which[with_landmarks]], emotions[which[with_emotion]], rows)
        error = (found.float() - target).square().mean((1, 2, 3))
        training.update(error.mean(), step, learning_rate(step, args.steps, args.learning_rate, args.warmup))
        parts = {"lmk": error[:lmk_only], "both": error[lmk_only : lmk_only + both], "emo": error[with_emotion][both:], "id": error[with_emotion.stop :]}
        progress.add(step, **{name: part.mean() for name, part in parts.items() if len(part)})
        if report and due(args.report_every, step + 1, args.steps):
            training.save(step + 1, report)
    world.close()


class Clock:
    """Chooses the number of steps so that they take `minutes` (None: as many as are asked for)."""

    def __init__(self, minutes: float | None, world: World) -> None:
        self.minutes, self.world, self.began = minutes, world, time.perf_counter()

    def steps(self, step: int, start: int, steps: int) -> int:
        """How many there are to be, looked at anew every 100 steps."""
        done = step - start
        if self.minutes and done == 20:  # past the slow first steps
            self.began = time.perf_counter()
        elif self.minutes and done % 100 == 0 and done:
            seconds = self.world.agree(time.perf_counter() - self.began)
            return max(step + 1, start + 20 + round((done - 20) * self.minutes * 60 / seconds))
        return steps


@one_sentence()
def main() -> None:
    escape_unprintable()
    train(arguments())


if __name__ == "__main__":
    main()
