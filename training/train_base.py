"""Trains the demo's base: a denoiser of SD 1.5's topology with an identity-token text encoder (Arc2Face in small).

    python -m training.train_base --data faces --out runs/demo
    torchrun --nproc-per-node 2 -m training.train_base --data faces --out runs/demo

The identity vector is that of another image of the same person, so that it says nothing of the target's pose. Stable Diffusion's
queries have learned from captions to tell apart what is where; Arc2Face inherits that, and a frozen base that lacks it is hard to
steer. So half of the prompts here end in a caption: eight embeddings computed from pose, facial actions and framing. The caption
network is thrown away afterwards. See docs/training-log.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facecrafter_core.diffusion.families import DEMO, TOKENS, new_scheduler, new_text_encoder, new_unet
from facecrafter_core.diffusion.identity_tokens import prompt_tokens
from facecrafter_core.diffusion.pipeline import FaceCrafterPipeline
from facecrafter_core.diffusion.processors import install_branches
from training.data import Faces, load_faces, partners
from training.diffusion import Noising, draw_timesteps, format_table, loss_table
from training.encode_features import Features
from training.loop import Average, Progress, World, learning_rate, load_checkpoint, save_checkpoint, save_sheet

CAPTION_WORDS = 8
CAPTION_START = len(DEMO.prompt) + 1  # the caption's words follow "person"


class PromptEncoder(nn.Module):
    """The text encoder with identity and caption embeddings in place of words."""

    def __init__(self, caption_inputs: int) -> None:
        super().__init__()
        self.text_encoder = new_text_encoder(DEMO)
        width = DEMO.text_encoder["hidden_size"]
        self.caption = nn.Sequential(nn.Linear(caption_inputs, 256), nn.SiLU(), nn.Linear(256, CAPTION_WORDS * width))
        nn.init.normal_(self.caption[2].weight, std=0.01)
        self.register_buffer("words", torch.tensor(prompt_tokens(DEMO, DEMO.prompt)), persistent=False)
        self.register_buffer("empty", torch.tensor(prompt_tokens(DEMO, ())), persistent=False)

    def forward(self, identities: Tensor, captions: Tensor, keep_identity: Tensor, keep_caption: Tensor) -> Tensor:
        """identities [B, D], captions [B, K], two masks [B] -> context [B, 77, width]."""
        ids = torch.where(keep_identity[:, None], self.words, self.empty)
        place = prompt_tokens(DEMO, DEMO.prompt).index(DEMO.identity_token)
        words = self.caption(captions).unflatten(1, (CAPTION_WORDS, -1))

        def edit(module: nn.Module, args: object, embeddings: Tensor) -> Tensor:
            padded = nn.functional.pad(identities, (0, embeddings.shape[-1] - identities.shape[1])).to(embeddings)
            identity = torch.where(keep_identity[:, None], padded, embeddings[:, place])
            end = CAPTION_START + CAPTION_WORDS
            caption = torch.where(keep_caption[:, None, None], words.to(embeddings), embeddings[:, CAPTION_START:end])
            parts = [embeddings[:, :place], identity[:, None], embeddings[:, place + 1 : CAPTION_START], caption, embeddings[:, end:TOKENS]]
            return torch.cat(parts, dim=1)

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(edit)
        try:
            return self.text_encoder(input_ids=ids).last_hidden_state
        finally:
            hook.remove()


class Base(nn.Module):
    """Denoiser and prompt encoder, trained together."""

    def __init__(self, caption_inputs: int, compile_unet: bool = False) -> None:
        super().__init__()
        self.prompt = PromptEncoder(caption_inputs)
        self.unet = new_unet(DEMO).to(memory_format=torch.channels_last)
        install_branches(self.unet)
        self.predict = torch.compile(self._predict) if compile_unet else self._predict

    def _predict(self, noisy: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        return self.unet(noisy, timesteps, context, return_dict=False)[0]

    def forward(self, noisy: Tensor, timesteps: Tensor, *prompt: Tensor) -> Tensor:
        return self.predict(noisy, timesteps, self.prompt(*prompt))


def caption_values(faces: Faces) -> Tensor:
    """Pose, 52 facial actions and framing, each of about unit scale: [N, K]."""
    actions = [c for c in faces.labels if c.startswith("action_")]
    pose, framing = faces.table(["yaw", "pitch", "roll"]) / 20, faces.table(["frame_scale", "frame_dx", "frame_dy"])
    framing = (framing - framing.mean(0)) / framing.std(0).clamp(min=1e-3)
    return torch.cat([pose, faces.table(actions) * 2, framing], dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch", type=int, default=512, help="images a process and step")
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--caption-share", type=float, default=0.5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--report-every", type=int, default=1000)
    args = parser.parse_args()

    world = World()
    torch.manual_seed(world.rank)
    faces = load_faces(args.data, images=False)
    captions = caption_values(faces)
    everything = Features.load(args.data, torch.device("cpu"), drawings=False)
    is_train, is_held_out = faces.person >= 400, (faces.person >= 200) & (faces.person < 400)
    train = everything.take(is_train)
    latents, identities = train.latents.to(world.device), train.identities.to(world.device)
    train_captions, person = captions[is_train].to(world.device), faces.person[is_train]

    model = Base(captions.shape[1], args.compile).to(world.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, args.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=world.device.type == "cuda")
    average = Average(parameters, 0.999)
    noising = Noising(new_scheduler(DEMO), world.device)
    path, start = args.out / "checkpoints/base.pt", 0
    if state := load_checkpoint(path):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.mean = [m.to(world.device) for m in state["average"]]
        start = state["step"]
        print(f"resuming at step {start}", flush=True)

    trained = world.wrap(model)
    held_out = everything.take(is_held_out)
    report = Report(world, model, held_out, captions[is_held_out], faces.person[is_held_out], noising, args.out)
    progress = Progress(args.steps, args.batch * world.size, 100, quiet=world.rank > 0)
    pair = torch.from_numpy(partners(person, np.random.default_rng(start))).to(world.device)
    for step in range(start, args.steps):
        if step % 200 == 0:
            pair = torch.from_numpy(partners(person, np.random.default_rng(step))).to(world.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.learning_rate, 300)
        which = torch.randint(len(latents), (args.batch,), device=world.device)
        clean = latents[which].float()
        timesteps = draw_timesteps(args.batch, world.device)
        noisy, target = noising(clean, torch.randn_like(clean), timesteps)
        keep = torch.rand(2, args.batch, device=world.device)
        with world.autocast():
            found = trained(noisy, timesteps, identities[pair[which]], train_captions[which], keep[0] > 0.1, keep[1] < args.caption_share)
        loss = (found.float() - target).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(step)
        progress.add(step, loss=loss)
        if ((step + 1) % args.report_every == 0 or step + 1 == args.steps) and world.rank == 0:
            average.swap()
            report(step + 1)
            average.swap()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average.mean, "step": step + 1}
            save_checkpoint(path, **state)
    if world.rank == 0:
        average.swap()
        model.unet.float().to(memory_format=torch.contiguous_format).save_pretrained(args.out / "unet")
        model.prompt.text_encoder.float().save_pretrained(args.out / "text_encoder")
        new_scheduler(DEMO).save_pretrained(args.out / "scheduler")
    world.close()


class Report:
    """Held-out loss by noise level, and a sheet of samples: two references and six identity-only portraits a person."""

    def __init__(
        self, world: World, model: Base, held_out: Features, captions: Tensor, person: np.ndarray, noising: Noising, out: Path
    ) -> None:
        from diffusers import AutoencoderTiny

        device = world.device
        self.world, self.model, self.noising, self.out = world, model, noising, out
        self.clean = held_out.latents[:256].to(device).float()
        self.identities = held_out.identities[partners(person, np.random.default_rng(0))][:256].to(device)
        self.captions = captions[:256].to(device)
        self.vae = AutoencoderTiny.from_pretrained(out / "vae").to(device)
        self.people = [np.flatnonzero(person == p)[:2] for p in np.unique(person)[:8]]
        self.references, self.vectors = held_out.latents, held_out.identities

    def __call__(self, step: int) -> None:
        keep = {"none": (False, False), "ID": (True, False), "ID + caption": (True, True)}

        def predict(condition: str, noisy: Tensor, timesteps: Tensor) -> Tensor:
            masks = [torch.full((len(noisy),), k, device=noisy.device) for k in keep[condition]]
            with self.world.autocast():
                return self.model.unet(noisy, timesteps, self.model.prompt(self.identities, self.captions, *masks), return_dict=False)[0].float()

        self.model.eval()
        print(format_table(loss_table(predict, list(keep), self.clean, self.noising)), flush=True)
        pipe = FaceCrafterPipeline(self.model.unet, self.vae, self.model.prompt.text_encoder, new_scheduler(DEMO))
        pipe.set_progress_bar_config(disable=True)
        rows = []
        for images in self.people:
            pictures = pipe(self.vectors[images[0]], count=6, output_type="np")
            rows.append([*pipe.decode(self.references[images].to(self.clean)), *pictures])
        save_sheet(rows, self.out / f"sheets/base_{step:06d}.jpg")
        self.model.train()


if __name__ == "__main__":
    main()
