"""Trains the photographic demo's autoencoder: pictures [B, 3, 512, 512] -> latents [B, 16, 32, 32] of about unit scale -> pictures.

    python -m training.people.autoencoder --out runs/photo --minutes 9
    torchrun --nproc-per-node 2 -m training.people.autoencoder --out runs/photo --minutes 9 --init runs/photo

The pictures are the generator's, made when the run starts; no file of them is needed. Losses: L1 with more weight on eyes and mouth, gradients over
three scales, a perceptual distance (features of dlib's recogniser over the whole picture), and after a while two patch discriminators with feature
matching. The decoder gets noisy latents and, half of the time, latents of half the side, which must give the picture of half the side (Skorokhodov et
al. 2025, arXiv:2502.14831): both keep the latents smooth, so that a small denoiser can model them.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, leaky_relu, relu

from facecrafter_core.faces.dlib_resnet import DlibResNet
from facecrafter_core.terminal import escape_unprintable
from training.loop import Average, World, learning_rate, save_sheet
from training.people.generator import SHAPE_INPUTS, STYLE_DIM, STYLE_INPUTS, load_generator
from training.ranges import COUNT, LEARNING_RATE, SHARE, Range

EYES_AND_MOUTH = ((0.38, 0.475, 0.07), (0.62, 0.475, 0.07), (0.5, 0.72, 0.09))
"""x, y and width, in sides of the picture: the generator puts them there."""


def new_autoencoder():
    """diffusers' AutoencoderDC with 1/16 of the side. Its first level is empty, so that no layer works on all 512 x 512 pixels."""
    from diffusers import AutoencoderDC

    return AutoencoderDC(
        latent_channels=16,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(64, 64, 128, 256, 256),
        decoder_block_out_channels=(64, 64, 128, 256, 512),
        encoder_layers_per_block=(0, 2, 2, 2, 3),
        decoder_layers_per_block=(0, 2, 3, 3, 1),
        encoder_qkv_multiscales=((),) * 5,
        decoder_qkv_multiscales=((),) * 5,
        scaling_factor=1.0,
    )


class Discriminator(nn.Module):
    """Pictures -> scores of overlapping patches (Isola et al. 2017), and the features before them."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width, 4 * width)
        normalised = nn.utils.parametrizations.spectral_norm
        strides = (2, 2, 2, 1)
        self.layers = nn.ModuleList(
            normalised(nn.Conv2d(a, b, 4, s, 1)) for a, b, s in zip(widths, widths[1:], strides, strict=False)
        )
        self.head = normalised(nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features


class Discriminators(nn.Module):
    """One for the pictures, one for the pictures of half the side."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.ModuleList([Discriminator(), Discriminator()])

    def forward(self, x: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        return [network(avg_pool2d(x, 2) if i else x) for i, network in enumerate(self.each)]


class Perceptual(nn.Module):
    """Distance of the recogniser's normalised early features: [B, 3, H, W] in -1..1, twice -> a number."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.network = DlibResNet.load(device=device).to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> list[Tensor]:
        n = self.network
        x = ((x + 1) * 127.5 - n.mean) / 256
        found = [relu(n.stem(x))]
        x = nn.functional.max_pool2d(found[0], 3, 2)
        for i, block in enumerate(n.blocks[:11]):
            x = block(x)
            if i in (2, 6, 9):
                found.append(x)
        return [f / (f.square().mean(1, keepdim=True) + 1e-3).sqrt() for f in found]

    def forward(self, found: Tensor, expected: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(expected)
        return sum((a.float() - b.float()).abs().mean() for a, b in zip(self.features(found), wanted, strict=True))


def attention_map(side: int, device: torch.device) -> Tensor:
    """[1, 1, side, side]: 1, and up to 4 over eyes and mouth."""
    place = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(place, place, indexing="ij")
    bumps = [torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (w / 1.5) ** 2)) for cx, cy, w in EYES_AND_MOUTH]
    return (1 + 3 * torch.stack(bumps).amax(0))[None, None]


def make_pictures(count: int, seed: int, device: torch.device, batch: int = 32, host: bool = False) -> Tensor:
    """uint8 [count, 3, 512, 512]: people at truncations from 0.6 to 1, half of them with the colours of a second style."""
    mapping, synthesis = (network.to(device) for network in load_generator())
    half = torch.float16 if device.type == "cuda" else torch.float32
    synthesis = synthesis.to(half)
    rng = torch.Generator(device).manual_seed(seed)
    pictures = torch.empty(count, 3, 512, 512, dtype=torch.uint8, device="cpu" if host else device)
    with torch.inference_mode():
        mean = mapping(torch.randn(8192, STYLE_DIM, generator=rng, device=device)).mean(0)
        for start in range(0, count, batch):
            n = min(batch, count - start)
            w = mapping(torch.randn(2 * n, STYLE_DIM, generator=rng, device=device))
            w = mean + (0.6 + 0.4 * torch.rand(2 * n, 1, generator=rng, device=device)) * (w - mean)
            styles = w[:n, None].repeat(1, STYLE_INPUTS, 1)
            mixed = torch.rand(n, generator=rng, device=device) < 0.5
            styles[mixed, SHAPE_INPUTS:] = w[n:][mixed, None]
            made = synthesis(styles.to(half)).float()
            pictures[start : start + n] = ((made.clamp(-1, 1) + 1) * 127.5).round().byte().to(pictures.device)
    return pictures


def augment(pictures: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures [B, 3, S, S] in -1..1 and the map of weights [1, 1, S, S] -> mirrored, turned, scaled, shifted and recoloured ones, most of them mildly."""
    b, device = len(pictures), pictures.device
    moved = (torch.rand(b, device=device) < 0.6).float()
    angle = moved * torch.randn(b, device=device) * math.radians(8)
    zoom = torch.exp(moved * (0.25 * torch.randn(b, device=device) + 0.05)).clamp(0.55, 1.6)
    flip = torch.where(torch.rand(b, device=device) < 0.5, -1.0, 1.0)
    shift = moved[:, None] * 0.12 * torch.randn(b, 2, device=device)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    matrix = torch.stack([torch.stack([cos * flip, -sin, shift[:, 0]], 1), torch.stack([sin * flip, cos, shift[:, 1]], 1)], 1)
    grid = affine_grid(matrix, list(pictures.shape), align_corners=False)
    both = torch.cat([pictures, weights.expand(b, -1, -1, -1)], 1)
    both = grid_sample(both, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    x, w = both[:, :3], both[:, 3:]
    plain = (~moved.bool()).view(-1, 1, 1, 1) & (flip > 0).view(-1, 1, 1, 1)
    x = torch.where(plain, pictures, x)

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(b, channels, 1, 1, device=device)

    coloured = (torch.rand(b, 1, 1, 1, device=device) < 0.5).float()
    gain, lift, tint = uniform(0.7, 1.25), uniform(-0.15, 0.15), uniform(0.85, 1.15, 3)
    grey = x.mean(1, keepdim=True)
    saturation = torch.where(torch.rand(b, 1, 1, 1, device=device) < 0.08, 0.0, uniform(0.5, 1.4))
    recoloured = (((grey + saturation * (x - grey)) + 1) * gain * tint - 1 + lift).clamp(-1, 1)
    return x + coloured * (recoloured - x), w


def differences(found: Tensor, expected: Tensor) -> Tensor:
    """L1 of the gradients over three scales."""
    loss = torch.zeros((), device=found.device)
    for _ in range(3):
        loss = loss + sum((found.diff(dim=d) - expected.diff(dim=d)).abs().mean() for d in (2, 3))
        found, expected = avg_pool2d(found, 2), avg_pool2d(expected, 2)
    return loss


def latent_scale(latents: Tensor) -> Tensor:
    """Holds the mean of each latent channel at 0 and its deviation at 1, as the denoiser's noise schedule expects."""
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    return mean.square().mean() + (deviation - 1).square().mean() + (latents.abs() - 3).relu().square().mean()


def average_gradients(world: World, parameters: list[nn.Parameter]) -> None:
    if world.size > 1:
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        torch.distributed.all_reduce(flat, op=torch.distributed.ReduceOp.AVG)
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def psnr(found: Tensor, expected: Tensor) -> Tensor:
    """[B] in dB, of pictures in -1..1."""
    return -10 * torch.log10(((found - expected) / 2).square().mean((1, 2, 3)))


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="folder of an earlier run (--out) to go on from")
    parser.add_argument("--minutes", type=Range(0, above=True).of(float), default=9)
    parser.add_argument("--steps", type=COUNT.of(int), help="end after so many steps in place of the minutes")
    parser.add_argument("--batch", type=COUNT.of(int), default=32, help="pictures a process and step")
    parser.add_argument("--pictures", type=COUNT.of(int), default=24000, help="made at the start, by each process")
    parser.add_argument("--learning-rate", type=LEARNING_RATE.of(float), default=4e-4)
    parser.add_argument("--adversarial-from", type=SHARE.of(float), default=0.2, help="share of the run after which the discriminators begin; 0 with --init")
    parser.add_argument("--adversarial-weight", type=Range(0).of(float), default=0.02, help="of the discriminators' scores; feature matching has five times as much")
    parser.add_argument("--freeze-encoder", action="store_true", help="train the decoder alone, so that latents that were made stay valid")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=Range(0, 2**32 - 1).of(int), default=0)
    args = parser.parse_args()

    world, began = World(), time.perf_counter()
    device, channels_last = world.device, torch.channels_last
    torch.manual_seed(args.seed)
    model = new_autoencoder()
    judges = Discriminators()
    if args.init:
        model.load_state_dict(load_file(args.init / "vae/diffusion_pytorch_model.safetensors"))
        if (args.init / "discriminators.safetensors").is_file():
            judges.load_state_dict({k: v.float() for k, v in load_file(args.init / "discriminators.safetensors").items()})
    model, judges = model.float().to(device, memory_format=channels_last), judges.to(device, memory_format=channels_last)
    perceptual = Perceptual(device)
    torch.manual_seed(args.seed * 1000 + world.rank + 1)
    pictures = make_pictures(args.pictures, args.seed * 1000 + world.rank, device)
    if world.rank == 0:
        print(f"[{time.perf_counter() - began:.0f} s] {len(pictures)} pictures a process", flush=True)
    held_out = pictures[:64]  # of the first process; never in a batch
    weights = attention_map(512, device)
    encode, decode = model.encoder, model.decoder
    if args.compile:
        encode, decode = torch.compile(encode), torch.compile(decode)
    if args.freeze_encoder:
        model.encoder.requires_grad_(False)
    trained, judging = [p for p in model.parameters() if p.requires_grad], list(judges.parameters())
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(trained, args.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=fused)
    judge_optimizer = torch.optim.AdamW(judging, args.learning_rate / 2, betas=(0.5, 0.99), weight_decay=1e-4, fused=fused)
    average = Average(trained, 0.999)
    step, started = 0, time.perf_counter()
    share = seconds = 0.0
    while share < 1:
        seconds = world.agree(time.perf_counter() - started) if step % 20 == 0 else seconds
        share = (step + 1) / args.steps if args.steps else seconds / (args.minutes * 60)
        rate = args.learning_rate * min(1.0, (step + 1) / 200) * (1.0 if share < 0.6 else max(0.02, learning_rate(int(1000 * (share - 0.6) / 0.4), 1000, 1.0, 0)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        for group in judge_optimizer.param_groups:
            group["lr"] = rate / 2
        adversarial = bool(args.init) or share > args.adversarial_from
        which = torch.randint(64, len(pictures), (args.batch,), device=device)
        x, w = augment(pictures[which].float() / 127.5 - 1, weights)
        x = x.contiguous(memory_format=channels_last)
        with world.autocast():
            latents = encode(x)
            noisy = latents + 0.2 * torch.rand(len(x), 1, 1, 1, device=device) * torch.randn_like(latents)
            y = decode(noisy)
            half = model.decoder(avg_pool2d(latents[: args.batch // 2], 2)) if step % 2 else None
            likeness = perceptual(y, x)
        y = y.float()
        l1 = (w * (y - x).abs()).mean() / w.mean()
        loss = l1 + 0.5 * differences(y, x) + 0.1 * likeness + 0.1 * latent_scale(latents.float())
        if half is not None:
            smaller = avg_pool2d(x[: args.batch // 2], 2)
            loss = loss + 0.25 * ((half.float() - smaller).abs().mean() + 0.5 * differences(half.float(), smaller))
        if adversarial:
            judges.requires_grad_(False)
            with world.autocast():
                scores = judges(y)
                with torch.no_grad():
                    real = judges(x)
            for (score, features), (_, expected) in zip(scores, real, strict=True):
                matching = sum((a.float() - b.float()).abs().mean() for a, b in zip(features, expected, strict=True))
                loss = loss + args.adversarial_weight * (5 * matching - score.float().mean())
            judges.requires_grad_(True)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(world, trained)
        norm = nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update(step)
        judged = torch.zeros((), device=device)
        if adversarial:
            with world.autocast():
                found, real = judges(y.detach()), judges(x)
            judged = sum(relu(1 + f.float()).mean() + relu(1 - r.float()).mean() for (f, _), (r, _) in zip(found, real, strict=True))
            judge_optimizer.zero_grad(set_to_none=True)
            judged.backward()
            average_gradients(world, judging)
            judge_optimizer.step()
        step += 1
        if step % 100 == 0 and world.rank == 0:
            spent = time.perf_counter() - started
            print(
                f"[{time.perf_counter() - began:.0f} s] step {step}, {share:.0%}, {step * args.batch * world.size / spent:.0f} pictures/s: L1 {l1.item():.4f}, perceptual "
                f"{likeness.item():.3f}, latents {latents.float().std().item():.2f}, judged {judged.item():.2f}, gradient {norm.item():.2f}", flush=True,
            )  # fmt: skip
    if world.rank == 0:
        average.swap()
        report(model, held_out, args.out)
        model.half().to(memory_format=torch.contiguous_format).save_pretrained(args.out / "vae")
        save_file({k: v.half().contiguous() for k, v in judges.state_dict().items()}, args.out / "discriminators.safetensors")
        print(f"[{time.perf_counter() - began:.0f} s] {step} steps of {args.batch * world.size}", flush=True)
    world.close()


@torch.inference_mode()
def report(model: nn.Module, held_out: Tensor, out: Path) -> None:
    """Prints what is lost on pictures uint8 [N, 3, 512, 512], and saves a sheet of eight."""
    model.eval()
    found, expected = [], []
    with torch.autocast(held_out.device.type, torch.bfloat16, enabled=held_out.is_cuda):
        for batch in held_out.split(16):
            x = (batch.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            found.append(model.decoder(model.encoder(x)).float().clamp(-1, 1))
            expected.append(x)
    found, expected = torch.cat(found), torch.cat(expected)
    values = psnr(found, expected)
    print(f"held out: PSNR {values.mean():.2f} dB (least {values.min():.2f}); power at {power_share(found, expected)}", flush=True)
    both = [((p[:8] / 2 + 0.5).permute(0, 2, 3, 1).float().cpu().numpy()) for p in (expected, found)]
    save_sheet([list(rows) for rows in both], out / "sheets/autoencoder.jpg")


def power_share(found: Tensor, expected: Tensor) -> str:
    """Power of the pictures' centres at three bands of spatial frequency (cycles over 192 pixels), found over expected."""

    def spectrum(pictures: Tensor) -> Tensor:
        window = torch.hann_window(192, device=pictures.device)
        return torch.fft.fft2(pictures.mean(1)[:, 160:352, 160:352] * window * window[:, None]).abs().square().mean(0)

    frequency = torch.fft.fftfreq(192, device=found.device) * 192
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    a, b = spectrum(found), spectrum(expected)
    bands = ((10, 20), (20, 40), (40, 80))
    return ", ".join(f"{lo}-{hi}: {a[(radius >= lo) & (radius < hi)].mean() / b[(radius >= lo) & (radius < hi)].mean():.2f}" for lo, hi in bands)


if __name__ == "__main__":
    main()
