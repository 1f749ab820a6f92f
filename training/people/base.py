"""Trains the photographic demo's base: denoiser, identity-token text encoder and a first adapter, as training/train_base.py does.

    torchrun --nproc-per-node 2 -m training.people.base --out runs/photo --minutes 17 --compile
    torchrun --nproc-per-node 2 -m training.people.base --out runs/photo --minutes 25 --compile --init training/people/checkpoints --first 20000

Each process makes its own people first and keeps their latents in the GPU's memory; no file of them is needed. --minutes counts from the start, people and
compiling included, so that a run fits into a given time. The optimiser's state is not kept: a run that goes on begins with a short warm-up, and
should see other people (--first).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import normalize

from facecrafter_core.control.adapter import FaceCrafterAdapter
from facecrafter_core.diffusion.families import new_scheduler, new_text_encoder, new_unet
from facecrafter_core.faces.drawing import draw_landmarks
from facecrafter_core.faces.emotion import EMOTIONS, Emotion
from facecrafter_core.files import write_whole
from facecrafter_core.terminal import escape_unprintable
from training.data import TRAINING_FIRST, VALIDATION, partners
from training.diffusion import Noising, draw_timesteps, format_table, loss_table
from training.finder import Finder
from training.loop import Average, Progress, World, learning_rate, one_sentence, save_sheet
from training.model import ControlledModel, Rows
from training.ranges import COUNT, EVERY, LEARNING_RATE, SHARE, TIMESTEP_POWER, Range
from training.train_base import blur_identities

from .autoencoder import new_autoencoder
from .family import CONTROL, LATENT_CHANNELS, LATENT_SIDE, PHOTO
from .people import People

CHECKPOINTS = Path(__file__).with_name("checkpoints")
LEVELS = (50, 250, 500, 700, 850, 999)
"""Timesteps of the held-out losses."""

CLOCK = 20
"""Steps between two looks at the clock, on which the processes agree."""

SHOWN = ("happy", "sad", "anger", "surprise")


@dataclass
class Latents:
    """Rows of pictures on a device.

    Attributes:
        latents: fp16 [N, 16, 32, 32]. drawings: uint8 [N, 256, 256, 3]. identities: [N, 128] unit vectors. emotions: [N, 10].
        person: int [N], in memory.
    """

    latents: Tensor
    drawings: Tensor
    identities: Tensor
    emotions: Tensor
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.person)


def collect(source: People, autoencoder: nn.Module, numbers: range, each: int, world: World) -> Latents:
    """Makes people and keeps what training needs of them."""
    parts: dict[str, list] = {f.name: [] for f in fields(Latents)}
    dropped: Counter = Counter()
    for block in source.blocks(numbers, each):
        dropped += block.dropped
        if not len(block.person):
            continue
        with torch.inference_mode(), world.autocast():
            pictures = (block.pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            parts["latents"].append(autoencoder.encoder(pictures).half())
        parts["drawings"].append(torch.from_numpy(np.stack([draw_landmarks(points, CONTROL.picture_size) for points in block.landmarks])).to(world.device))
        parts["identities"].append(normalize(block.vectors, dim=1))
        parts["emotions"].append(block.emotions)
        parts["person"].append(block.person)
    found = Latents(**{name: np.concatenate(many) if name == "person" else torch.cat(many).clone() for name, many in parts.items()})
    if world.rank == 0:
        shares = np.bincount(found.emotions[:, 2:].argmax(1).cpu().numpy(), minlength=8) / len(found)
        print(f"{len(found)} pictures of {len(np.unique(found.person))} people; dropped {dict(dropped)}; " + ", ".join(f"{e} {s:.1%}" for e, s in zip(EMOTIONS, shares, strict=True)), flush=True)
    return found


class Report:
    """Held-out losses by noise level and condition, and a sheet: a person's picture, the target, ID, + landmarks, + emotions, + landmarks and happy.

    Args:
        held_out: pictures of validation people.
    """

    def __init__(self, held_out: Latents, autoencoder: nn.Module, world: World, people: int = 8, steps: int = 25) -> None:
        self.data, self.autoencoder, self.world, self.steps = held_out, autoencoder, world, steps
        self.noising = Noising(new_scheduler(PHOTO), world.device)
        other = partners(held_out.person, np.random.default_rng(0))
        self.identities = held_out.identities[torch.from_numpy(other).to(world.device)]
        self.first = np.unique(held_out.person, return_index=True)[1][:people]

    def predict(self, model: ControlledModel, noisy: Tensor, timesteps: Tensor, identities: Tensor, keep: bool, drawings: Tensor | None = None, emotions: Tensor | None = None) -> Tensor:
        every = Rows(slice(0, len(noisy)), slice(0, len(noisy)))
        kept = torch.full((len(noisy),), keep, device=noisy.device)
        with self.world.autocast():
            return model._predict(noisy, timesteps, model.context(identities, kept, len(noisy), every), drawings, emotions, every)[0].float()

    @torch.inference_mode()
    def losses(self, model: ControlledModel) -> dict[str, dict[int, float]]:
        d = self.data
        shown = {"none": (None, None), "ID": (None, None), "ID + LMK": (d.drawings, None), "ID + EMO": (None, d.emotions), "ID + LMK + EMO": (d.drawings, d.emotions)}

        def predict(condition: str, noisy: Tensor, timesteps: Tensor) -> Tensor:
            return self.predict(model, noisy, timesteps, self.identities, condition != "none", *shown[condition])

        return loss_table(predict, list(shown), d.latents.float(), self.noising, LEVELS)

    @torch.inference_mode()
    def sample(self, model: ControlledModel, identities: Tensor, drawings: Tensor | None = None, emotions: Tensor | None = None) -> Tensor:
        """DDIM with Eq. 6's differences: weight 2.2 for the identity, 1.6 for each condition beside it."""
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler.from_config(new_scheduler(PHOTO).config)
        scheduler.set_timesteps(self.steps)
        shape = (len(identities), LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(identities.device)
        for t in scheduler.timesteps:
            timesteps = torch.full((len(x),), int(t), device=x.device)
            none, identity = (self.predict(model, x, timesteps, identities, keep) for keep in (False, True))
            guided = none + 2.2 * (identity - none)
            for condition in ((drawings, None), (None, emotions)):
                if any(c is not None for c in condition):
                    guided = guided + 1.6 * (self.predict(model, x, timesteps, identities, True, *condition) - identity)
            x = scheduler.step(guided, t, x).prev_sample
        return x

    @torch.inference_mode()
    def sheet(self, model: ControlledModel) -> list[list[np.ndarray]]:
        d, device = self.data, self.world.device
        references, targets = (torch.from_numpy(i).to(device) for i in (self.first, np.roll(self.first, 3)))
        identities, drawings = d.identities[references], d.drawings[targets]

        def emotion(name: str) -> Tensor:
            return torch.from_numpy(Emotion.preset(name).vector).to(device).expand(len(identities), -1)

        conditions = [(None, None), (drawings, None), *((None, emotion(name)) for name in SHOWN), (drawings, emotion("happy"))]
        columns = [d.latents[references].float(), d.latents[targets].float(), *(self.sample(model, identities, *c) for c in conditions)]
        with self.world.autocast():
            pictures = [(self.autoencoder.decoder(x).float().clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy() for x in columns]
        return [list(row) for row in zip(*pictures, strict=True)]


def batches(data: Latents, size: int, shares: tuple[float, float, float], drop: float, blur: float, power: float, seed: int) -> Iterator[tuple]:
    """Clean latents, timesteps, identities of other pictures of the same people, which are kept, drawings and emotions of the rows that have them."""
    device = data.latents.device
    landmark, both, emotion = (round(size * share) for share in shares)
    with_landmarks, with_emotion = slice(0, landmark + both), slice(landmark, landmark + both + emotion)
    plain = torch.arange(size, device=device) >= landmark + both + emotion
    step = 0
    while True:
        if step % 200 == 0:
            pair = torch.from_numpy(partners(data.person, np.random.default_rng([seed, step]))).to(device)
        which = torch.randint(len(data), (size,), device=device)
        keep = ~plain | (torch.rand(size, device=device) > drop)
        identities = blur_identities(data.identities[pair[which]], blur)
        rows = Rows(with_landmarks, with_emotion)
        yield data.latents[which].float(), draw_timesteps(size, device, power), identities, keep, data.drawings[which[with_landmarks]], data.emotions[which[with_emotion]], rows
        step += 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="folder with base.safetensors to go on from")
    parser.add_argument("--autoencoder", type=Path, default=CHECKPOINTS / "vae")
    parser.add_argument("--minutes", type=Range(0, above=True).of(float), default=15)
    parser.add_argument("--first", type=EVERY.of(int), default=TRAINING_FIRST, help="first identity number")
    parser.add_argument("--people", type=COUNT.of(int), default=5200, help="that each process makes; a third is dropped")
    parser.add_argument("--images-per-person", type=COUNT.of(int), default=8)
    parser.add_argument("--held-out", type=COUNT.of(int), default=40, help="validation people that the first process makes")
    parser.add_argument("--processes", type=COUNT.of(int), default=15, help="MediaPipe's, for each process")
    parser.add_argument("--batch", type=COUNT.of(int), default=512, help="images a process and step")
    parser.add_argument("--shares", type=SHARE.of(float), nargs=3, default=(0.4, 0.16, 0.2), help="rows with landmarks, with both, with emotion")
    parser.add_argument("--drop-identity", type=SHARE.of(float), default=0.25, help="share of the other rows that loses its identity: the unconditional")
    parser.add_argument("--blur-identity", type=Range(0).of(float), default=0.4, help="longest noise on the identity vectors")
    parser.add_argument("--learning-rate", type=LEARNING_RATE.of(float), default=7e-4)
    parser.add_argument("--timestep-power", type=TIMESTEP_POWER.of(float), default=0.8, help="below 1: more of the noisy timesteps")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=Range(0, 2**32 - 1).of(int), default=0)
    return parser.parse_args()


@one_sentence()
def main() -> None:
    escape_unprintable()
    args, began = parse(), time.perf_counter()
    world = World()
    autoencoder = new_autoencoder()
    autoencoder.load_state_dict({k: v.float() for k, v in load_file(args.autoencoder / "diffusion_pytorch_model.safetensors").items()})
    autoencoder = autoencoder.to(world.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    finder = Finder(args.processes)
    source = People.on(world.device, finder, args.seed)
    first = args.first + world.rank * args.people
    data = collect(source, autoencoder, range(first, first + args.people), args.images_per_person, world)
    report = None
    if world.rank == 0:
        report = Report(collect(source, autoencoder, VALIDATION[: args.held_out], args.images_per_person, world), autoencoder, world)
    finder.close()
    del source

    torch.manual_seed(args.seed)
    unet = new_unet(PHOTO).to(memory_format=torch.channels_last)
    model = ControlledModel(unet, new_text_encoder(PHOTO), FaceCrafterAdapter(CONTROL), PHOTO, args.compile).to(world.device)
    if args.init:
        model.load_state_dict({k: v.float() for k, v in load_file(args.init / "base.safetensors").items()})
    train(model, data, args, world, began)
    if report is not None:
        model.eval()
        print(format_table(report.losses(model)), flush=True)
        save_sheet(report.sheet(model), args.out / "sheets/base.jpg")
        weights = {k: v.half().contiguous().cpu() for k, v in model.state_dict().items()}
        write_whole(args.out / "base.safetensors", lambda file: file.write(save(weights)))
    world.close()


def train(model: ControlledModel, data: Latents, args: argparse.Namespace, world: World, began: float) -> None:
    """Until `args.minutes` after `began`. The model ends with its moving average."""
    torch.manual_seed(args.seed * 1000 + world.rank + 1)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, args.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=world.device.type == "cuda")
    average, noising = Average(parameters, 0.999), Noising(new_scheduler(PHOTO), world.device)
    trained = world.wrap(model)
    progress = Progress(1, args.batch * world.size, 100, quiet=world.rank > 0)
    stream = batches(data, args.batch, tuple(args.shares), args.drop_identity, args.blur_identity, args.timestep_power, args.seed * 1000 + world.rank)
    start, share, step = None, 0.0, 0
    while share < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * min(1, (step + 1) / 200) * (1 if share < 0.5 else learning_rate(int(share * 1000) - 500, 500, 1.0, 0))
        clean, timesteps, *conditions = next(stream)
        noisy, target = noising(clean, torch.randn_like(clean), timesteps)
        with world.autocast():
            found, _ = trained(noisy, timesteps, *conditions)
        loss = (found.float() - target).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(step)
        step += 1
        if step % CLOCK == 0:
            spent = world.agree(time.perf_counter() - began)
            start = spent if start is None else start  # compiling is over
            share = (spent - start) / max(args.minutes * 60 - start, 1e-6)
            progress.steps = max(step + 1, round(step / max(share, 1e-3)))
        progress.add(step, loss=loss.detach())
    average.swap()


if __name__ == "__main__":
    main()
