"""Trains the demo's autoencoder from scratch: pictures [B, 3, 256, 256] -> latents [B, 4, 32, 32] of about unit scale -> pictures.

    python -m training.train_autoencoder --data faces --out runs/demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, l1_loss

from facecrafter_core.diffusion.families import DEMO, new_autoencoder
from facecrafter_core.files import write_folder
from facecrafter_core.terminal import escape_unprintable
from training.data import load_faces
from training.loop import Average, Progress, World, learning_rate, one_sentence, save_sheet
from training.ranges import COUNT, LEARNING_RATE

CLIP = 1.0
"""Largest norm of the gradient."""


def picture_loss(found: Tensor, expected: Tensor) -> Tensor:
    """L1 of the pictures and of their gradients, over four scales; even areas, so colours, count more at the coarse ones."""
    loss = torch.zeros((), device=found.device)
    for weight in (1, 2, 3, 4):
        loss = loss + weight * l1_loss(found, expected)
        for dim in (2, 3):
            loss = loss + 2 * l1_loss(found.diff(dim=dim), expected.diff(dim=dim))
        found, expected = avg_pool2d(found, 2), avg_pool2d(expected, 2)
    return loss / 4


def latent_loss(latents: Tensor) -> Tensor:
    """Holds the mean of each latent channel at 0 and its deviation at 1, as the denoiser's noise schedule expects."""
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    return mean.square().mean() + (deviation - 1).square().mean() + (latents.abs() - 2.7).relu().square().mean()


@one_sentence()
def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of training/synthetic/generate.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=COUNT.of(int), default=2500)
    parser.add_argument("--batch", type=COUNT.of(int), default=64)
    parser.add_argument("--learning-rate", type=LEARNING_RATE.of(float), default=1.5e-3)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    world = World()
    torch.manual_seed(0)
    faces = load_faces(args.data)
    train = torch.from_numpy(faces.split("train").images).to(world.device)
    model = new_autoencoder(DEMO).to(world.device, memory_format=torch.channels_last)
    encode, decode = model.encoder, model.decoder
    if args.compile:
        encode, decode = torch.compile(encode), torch.compile(decode)
    optimizer = torch.optim.AdamW(model.parameters(), args.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=world.device.type == "cuda")
    average = Average(model.parameters(), 0.998)
    progress = Progress(args.steps, args.batch, 100)
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.learning_rate, 50)
        batch = train[torch.randint(len(train), (args.batch,), device=world.device)]
        pictures = (batch.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with world.autocast():
            latents = encode(pictures)
            noisy = latents + 0.05 * torch.randn_like(latents)
            found = decode(noisy)
        rebuilt = picture_loss(found.float(), pictures)
        loss = rebuilt + 0.1 * latent_loss(latents.float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        average.update(step)
        progress.add(step, picture=rebuilt)

    average.swap()
    model.eval()
    with torch.inference_mode():
        held_out = faces.split("validation").images[:64]
        pictures = torch.from_numpy(held_out).to(world.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = model.encoder(pictures)
        found = model.decoder(latents)
        print(f"validation: L1 {l1_loss(found, pictures):.4f} of a range of 2; latents: deviation {latents.std():.3f}, mean {latents.mean():.3f}")
        rebuilt = (found / 2 + 0.5).permute(0, 2, 3, 1).float().cpu().numpy()
    save_sheet([list(held_out[i : i + 8]) for i in (0, 8)] + [list(rebuilt[i : i + 8]) for i in (0, 8)], args.out / "sheets/autoencoder.jpg")
    write_folder(args.out / "vae", model.float().to(memory_format=torch.contiguous_format).save_pretrained)


if __name__ == "__main__":
    main()
