"""Trains the demo's base from nothing: a denoiser of SD 1.5's topology, an identity-token text encoder, and a first adapter with them.

    python -m training.train_base --data faces --out runs/demo
    torchrun --nproc-per-node 2 -m training.train_base --data faces --out runs/demo --minutes 20

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
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from facecrafter_core.control.adapter import FaceCrafterAdapter, save_adapter
from facecrafter_core.control.branches import branch_inputs
from facecrafter_core.control.config import DEMO as DEMO_CONTROL
from facecrafter_core.diffusion.families import DEMO, new_scheduler, new_text_encoder, new_unet
from facecrafter_core.diffusion.identity_tokens import encode_identity_tokens, encode_no_identity
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.diffusion.processors import install_branches
from facecrafter_core.faces.emotion import EMOTIONS, Emotion
from training.data import Faces, load_faces, partners
from training.diffusion import Noising, draw_timesteps, format_table, loss_table
from training.encode_features import Features
from training.loop import Average, Progress, World, learning_rate, load_checkpoint, save_checkpoint, save_sheet

EMOTION_COLUMNS = ["valence", "arousal", *EMOTIONS]


class Base(nn.Module):
    """The base and its first adapter.

    The rows of a batch with landmarks and those with emotion are slices: each branch is computed on its own.
    """

    def __init__(self, compile_unet: bool = False) -> None:
        super().__init__()
        self.unet = new_unet(DEMO).to(memory_format=torch.channels_last)
        install_branches(self.unet)
        self.text_encoder, self.adapter = new_text_encoder(DEMO), FaceCrafterAdapter(DEMO_CONTROL)
        self.predict = torch.compile(self._predict) if compile_unet else self._predict

    def _predict(
        self, noisy: Tensor, timesteps: Tensor, context: Tensor, drawings: Tensor, emotions: Tensor, rows: tuple[slice, slice]
    ) -> Tensor:
        adapter, per_branch = self.adapter, []
        if drawings.numel():
            tokens = adapter.landmark(drawings.permute(0, 3, 1, 2).float() / 255)
            per_branch.append(branch_inputs(adapter.landmark_branch.project(tokens), tokens.new_ones(len(tokens), 1, 1), rows[0]))
        if emotions.numel():
            tokens = adapter.emotion(emotions)
            per_branch.append(branch_inputs(adapter.emotion_branch.project(tokens), tokens.new_ones(len(tokens), 1, 1), rows[1]))
        branches = [list(layer) for layer in zip(*per_branch, strict=True)] or None
        return self.unet(noisy, timesteps, context, cross_attention_kwargs={"branches": branches}, return_dict=False)[0]

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        identities: Tensor,
        keep_identity: Tensor,
        drawings: Tensor,
        emotions: Tensor,
        rows: tuple[slice, slice],
    ) -> Tensor:
        """Prediction for noisy latents [B, 4, h, w]; drawings and emotions are those of their rows."""
        context = encode_identity_tokens(self.text_encoder, DEMO, identities)
        none = encode_no_identity(self.text_encoder, DEMO)
        context = torch.where(keep_identity[:, None, None], context, none)
        return self.predict(noisy, timesteps, context, drawings, emotions, rows)


def blur_identities(identities: Tensor, most: float) -> Tensor:
    """Conditioning augmentation (Ho et al. 2022): each unit vector [B, D] is moved by noise of a random length up to `most`.

    Photographs give vectors between and beyond those of the rendered people; so the base learns to make a face of them, too.
    """
    noise = torch.randn_like(identities) / identities.shape[1] ** 0.5
    return nn.functional.normalize(identities + most * torch.rand_like(identities[:, :1]) * noise, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
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
    faces = load_faces(args.data, images=False)
    everything = Features.load(args.data, torch.device("cpu"))
    emotions = faces.table(EMOTION_COLUMNS)
    is_train, is_held_out = faces.person >= 400, (faces.person >= 200) & (faces.person < 400)
    train, person = everything.take(is_train), faces.person[is_train]
    latents, identities, drawings = (t.to(world.device) for t in (train.latents, train.identities, train.drawings))
    train_emotions = emotions[is_train].to(world.device)

    model = Base(args.compile).to(world.device)
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
    plain = torch.arange(args.batch, device=world.device) >= lmk_only + both + emo_only
    trained = world.wrap(model)
    report = Report(world, model, faces.take(is_held_out), everything.take(is_held_out), noising, args.out)
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
        conditions = drawings[which[with_landmarks]], train_emotions[which[with_emotion]], (with_landmarks, with_emotion)
        with world.autocast():
            found = trained(noisy, timesteps, blur_identities(identities[pair[which]], args.blur_identity), keep, *conditions)
        error = (found.float() - target).square().mean((1, 2, 3))
        optimizer.zero_grad(set_to_none=True)
        error.mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(step)
        progress.add(step, lmk=error[:lmk_only].mean(), both=error[lmk_only : lmk_only + both].mean(), emo=error[with_emotion][both:].mean(), id=error[with_emotion.stop :].mean())
        if ((step + 1) % args.report_every == 0 or step + 1 == args.steps) and world.rank == 0:
            average.swap()
            report(step + 1)
            model.unet.save_pretrained(args.out / "unet")
            model.text_encoder.save_pretrained(args.out / "text_encoder")
            new_scheduler(DEMO).save_pretrained(args.out / "scheduler")
            save_adapter(model.adapter, args.out / "adapter.safetensors", torch.float16, stage="simple", license="apache-2.0")
            average.swap()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average.mean, "step": step + 1}
            save_checkpoint(path, **state)
    world.close()


class Report:
    """Held-out loss by noise level with each condition, and a sheet: reference | ID | target | + LMK | happy | sad | anger | LMK + EMO."""

    def __init__(
        self,
        world: World,
        model: Base,
        faces: Faces,
        held_out: Features,
        noising: Noising,
        out: Path,
    ) -> None:
        device = world.device
        self.world, self.model, self.noising, self.out = world, model, noising, out
        self.clean = held_out.latents[:256].to(device).float()
        person, emotions = faces.person, faces.table(EMOTION_COLUMNS)
        self.drawings, self.emotions = held_out.drawings[:256].to(device), emotions[:256].to(device)
        self.identities = held_out.identities[partners(person, np.random.default_rng(0))][:256].to(device)
        self.vae = AutoencoderTiny.from_pretrained(out / "vae").to(device)
        first = np.array([np.flatnonzero(person == p)[0] for p in np.unique(person)])
        self.references, self.targets = first[:10], np.roll(first, 7)[:10] + 1
        self.held_out, self.landmarks = held_out, faces.landmarks

    def __call__(self, step: int) -> None:
        no = slice(0, 0)
        everything = slice(0, len(self.clean))

        def predict(condition: str, noisy: Tensor, timesteps: Tensor) -> Tensor:
            drawings = self.drawings if "LMK" in condition else self.drawings[no]
            emotions = self.emotions if "EMO" in condition else self.emotions[no]
            with self.world.autocast():
                context = encode_identity_tokens(self.model.text_encoder, DEMO, self.identities)
                return self.model._predict(noisy, timesteps, context, drawings, emotions, (everything, everything)).float()

        conditions = ["ID", "ID + LMK", "ID + EMO", "ID + LMK + EMO"]
        print(format_table(loss_table(predict, conditions, self.clean, self.noising)), flush=True)
        save_sheet(self.sheet(), self.out / f"sheets/base_{step:06d}.jpg")

    def sheet(self) -> list[list[np.ndarray]]:
        pipe = FaceCrafterPipeline(self.model.unet, self.vae, self.model.text_encoder, new_scheduler(DEMO), self.model.adapter)
        pipe.set_progress_bar_config(disable=True)
        identity, landmarks = self.held_out.identities[self.references], self.landmarks[self.targets]
        conditions = [{}, {"landmarks": landmarks}]
        conditions += [{"emotion": Emotion.preset(name)} for name in ("happy", "sad", "anger")]
        conditions += [{"landmarks": landmarks, "emotion": Emotion.preset("happy")}]
        columns = [pipe(identity, **condition, output_type="np") for condition in conditions]
        references, targets = (pipe.decode(self.held_out.latents[i].to(self.clean)) for i in (self.references, self.targets))
        columns = [references, columns[0], targets, *columns[1:]]
        return [list(row) for row in zip(*columns, strict=True)]


if __name__ == "__main__":
    main()
