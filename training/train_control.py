"""Trains the demo's landmark and emotion modules with their key and value projections: on the frozen base, or together with it.

    python -m training.train_control --data faces --out runs/demo
    python -m training.train_control --data faces --out runs/demo --train-base --shares 0.4 0.15 0.2 --minutes 5

One simple stage: in each batch a part of the rows has landmarks, a part emotion, a part both (the switches of Sec. 3.2); each branch is
computed on its own rows only. The paper's two stages are separate scripts. With --train-base, the base starts from nothing and trains in
the same steps; the rows that are left over have the identity alone, and every tenth identity is dropped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

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


class Controlled(nn.Module):
    """The base with an adapter in training.

    The rows of a batch with landmarks and those with emotion are slices: each branch is computed on its own.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module, adapter: FaceCrafterAdapter, compile_unet: bool = False) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.adapter = unet, text_encoder, adapter
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
        none = encode_no_identity(self.text_encoder, DEMO, len(identities))
        context = torch.where(keep_identity[:, None, None], context, none)
        return self.predict(noisy, timesteps, context, drawings, emotions, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=512, help="images a process and step")
    parser.add_argument("--shares", type=float, nargs=3, default=(0.5, 0.25, 0.25), help="rows with landmarks, with both, with emotion")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--timestep-power", type=float, default=0.75, help="below 1: more of the noisy timesteps")
    parser.add_argument("--train-base", action="store_true", help="a new base, trained together with the adapter")
    parser.add_argument("--minutes", type=float, help="choose the number of steps so that training takes this long")
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

    if args.train_base:
        unet, text_encoder = new_unet(DEMO), new_text_encoder(DEMO)
    else:
        unet = UNet2DConditionModel.from_pretrained(args.out / "unet").requires_grad_(False)
        text_encoder = CLIPTextModel.from_pretrained(args.out / "text_encoder").requires_grad_(False)
    install_branches(unet.to(memory_format=torch.channels_last))
    model = Controlled(unet, text_encoder, FaceCrafterAdapter(DEMO_CONTROL), args.compile).to(world.device)
    adapter = model.adapter
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, args.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=world.device.type == "cuda")
    average = Average(parameters, 0.998)
    noising = Noising(new_scheduler(DEMO), world.device)
    path, start = args.out / f"checkpoints/control{'_with_base' if args.train_base else ''}.pt", 0
    if state := load_checkpoint(path):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.mean = [m.to(world.device) for m in state["average"]]
        start = state["step"]
        print(f"resuming at step {start}", flush=True)

    both = round(args.batch * args.shares[1])
    lmk_only = round(args.batch * args.shares[0])
    emo_only = round(args.batch * args.shares[2])
    rows = (slice(0, lmk_only + both), slice(lmk_only, lmk_only + both + emo_only))
    trained = world.wrap(model)
    report = Report(world, model, faces.take(is_held_out), everything.take(is_held_out), noising, args.out)
    progress = Progress(args.steps, args.batch * world.size, 100, quiet=world.rank > 0)
    pair = torch.from_numpy(partners(person, np.random.default_rng(start))).to(world.device)
    began, step = time.perf_counter(), start - 1
    while (step := step + 1) < args.steps:
        if args.minutes and step == start + 20:  # past the slow first steps
            began = time.perf_counter()
        if args.minutes and step == start + 60:
            seconds = world.agree(time.perf_counter() - began) / 40
            args.steps = progress.steps = start + round(args.minutes * 60 / seconds)
        if step % 200 == 0:
            pair = torch.from_numpy(partners(person, np.random.default_rng(step))).to(world.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.learning_rate, 200)
        which = torch.randint(len(latents), (args.batch,), device=world.device)
        clean = latents[which].float()
        timesteps = draw_timesteps(args.batch, world.device, args.timestep_power)
        noisy, target = noising(clean, torch.randn_like(clean), timesteps)
        keep = torch.rand(args.batch, device=world.device) > (0.1 if args.train_base else 0.0)
        with world.autocast():
            found = trained(noisy, timesteps, identities[pair[which]], keep, drawings[which[rows[0]]], train_emotions[which[rows[1]]], rows)
        error = (found.float() - target).square().mean((1, 2, 3))
        optimizer.zero_grad(set_to_none=True)
        error.mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(step)
        progress.add(step, lmk=error[:lmk_only].mean(), both=error[lmk_only : lmk_only + both].mean(), emo=error[lmk_only + both : lmk_only + both + emo_only].mean())
        if ((step + 1) % args.report_every == 0 or step + 1 == args.steps) and world.rank == 0:
            average.swap()
            report(step + 1)
            if args.train_base:
                unet.save_pretrained(args.out / "unet")
                text_encoder.save_pretrained(args.out / "text_encoder")
                new_scheduler(DEMO).save_pretrained(args.out / "scheduler")
            save_adapter(adapter, args.out / "adapter.safetensors", torch.float16, stage="simple", license="apache-2.0")
            average.swap()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average.mean, "step": step + 1}
            save_checkpoint(path, **state)
    world.close()


class Report:
    """Held-out loss by noise level with each condition, and a sheet: reference | ID | target | + LMK | happy | sad | anger | LMK + EMO."""

    def __init__(
        self,
        world: World,
        model: Controlled,
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
        save_sheet(self.sheet(), self.out / f"sheets/control_{step:06d}.jpg")

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
