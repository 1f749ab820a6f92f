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
from training.data import partners
from training.diffusion import Noising, draw_timesteps
from training.loop import Average, Progress, World, learning_rate, load_checkpoint, save_checkpoint
from training.model import ControlledModel, Rows
from training.prepared import Prepared, PreparedError
from training.report import Report


def blur_identities(identities: Tensor, most: float) -> Tensor:
    """Conditioning augmentation (Ho et al. 2022): each unit vector [B, D] is moved by noise of a random length up to `most`.

    Photographs give vectors between and beyond those of the rendered people; so the base learns to make a face of them, too.
    """
    noise = torch.randn_like(identities) / identities.shape[1] ** 0.5
    return nn.functional.normalize(identities + most * torch.rand_like(identities[:, :1]) * noise, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of training/prepare.py, with drawings")
    parser.add_argument("--models", type=Path, required=True, help="folder with the autoencoder that made the latents")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--minutes", type=float, help="choose the number of steps so that training takes this long")
    parser.add_argument("--batch", type=int, default=512, help="images a process and step")
    parser.add_argument("--shares", type=float, nargs=3, default=(0.4, 0.16, 0.2), help="rows with landmarks, with both, with emotion")
    parser.add_argument("--drop-identity", type=float, default=0.2, help="share of the other rows that loses its identity: the unconditional")
    parser.add_argument("--blur-identity", type=float, default=0.5, help="longest noise on the identity vectors")
    parser.add_argument("--learning-rate", type=float, default=8e-4)
    parser.add_argument("--timestep-power", type=float, default=0.75, help="below 1: more of the noisy timesteps")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--report-every", type=int, default=1000)
    args = parser.parse_args()

    world = World()
    torch.manual_seed(world.rank)
    try:
        prepared = Prepared.open(args.data, "demo")
        if "drawings" not in prepared.arrays:
            raise PreparedError(f"Expected drawings in {args.data}, found none. Run training/prepare.py with --drawings.")
    except PreparedError as error:
        raise SystemExit(f"error: {error}") from None
    split = prepared.columns["split"].astype(str)
    train, person = prepared.subset(split == "train"), prepared.subset(split == "train").person
    names = ("latent_mean", "identities", "drawings", "emotions")
    latents, identities, drawings, emotions = (torch.from_numpy(np.asarray(train[name])).to(world.device) for name in names)

    adapter = FaceCrafterAdapter(DEMO_CONTROL)
    unet = new_unet(DEMO).to(memory_format=torch.channels_last)
    model = ControlledModel(unet, new_text_encoder(DEMO), adapter, DEMO, args.compile).to(world.device)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, args.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=world.device.type == "cuda")
    average = Average(parameters, 0.9995)
    noising = Noising(new_scheduler(DEMO), world.device)
    path, start = args.out / "checkpoints/base.pt", 0
    if state := load_checkpoint(path):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.mean = [m.to(world.device) for m in state["average"]]
        start = state["step"]
        print(f"resuming at step {start}", flush=True)

    lmk_only, both, emo_only = (round(args.batch * share) for share in args.shares)
    with_landmarks, with_emotion = slice(0, lmk_only + both), slice(lmk_only, lmk_only + both + emo_only)
    rows = Rows(with_landmarks, with_emotion)
    plain = torch.arange(args.batch, device=world.device) >= lmk_only + both + emo_only
    trained = world.wrap(model)
    report = Report(prepared.subset(split == "validation"), args.models, args.out, world.device) if world.rank == 0 else None
    progress = Progress(args.steps, args.batch * world.size, 100, quiet=world.rank > 0)
    pair = torch.from_numpy(partners(person, np.random.default_rng(start))).to(world.device)
    began, step = time.perf_counter(), start - 1
    while (step := step + 1) < args.steps:
        done = step - start
        if args.minutes and done == 20:  # past the slow first steps
            began = time.perf_counter()
        elif args.minutes and done % 100 == 0 and done:
            seconds = world.agree(time.perf_counter() - began)
            args.steps = progress.steps = max(step + 1, start + 20 + round((done - 20) * args.minutes * 60 / seconds))
        if step % 200 == 0:
            pair = torch.from_numpy(partners(person, np.random.default_rng(step))).to(world.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.learning_rate, 300)
        which = torch.randint(len(latents), (args.batch,), device=world.device)
        clean = latents[which].float()
        timesteps = draw_timesteps(args.batch, world.device, args.timestep_power)
        noisy, target = noising(clean, torch.randn_like(clean), timesteps)
        keep = ~plain | (torch.rand(args.batch, device=world.device) > args.drop_identity)
        identity = blur_identities(identities[pair[which]], args.blur_identity)
        with world.autocast():
            found, _ = trained(noisy, timesteps, identity, keep, drawings[which[with_landmarks]], emotions[which[with_emotion]], rows)
        error = (found.float() - target).square().mean((1, 2, 3))
        optimizer.zero_grad(set_to_none=True)
        error.mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(step)
        parts = {"lmk": error[:lmk_only], "both": error[lmk_only : lmk_only + both], "emo": error[with_emotion][both:], "id": error[with_emotion.stop :]}
        progress.add(step, **{name: part.mean() for name, part in parts.items()})
        if ((step + 1) % args.report_every == 0 or step + 1 == args.steps) and world.rank == 0:
            average.swap()
            report(model, step + 1)
            model.unet.save_pretrained(args.out / "unet")
            save_text_encoder(model.text_encoder, args.out / "text_encoder")
            new_scheduler(DEMO).save_pretrained(args.out / "scheduler")
            save_adapter(model.adapter, args.out / "adapter.safetensors", torch.float16, stage="simple", license="apache-2.0")
            average.swap()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average.mean, "step": step + 1}
            save_checkpoint(path, **state)
    world.close()


if __name__ == "__main__":
    main()
