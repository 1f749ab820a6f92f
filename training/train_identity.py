"""Trains a face network on the rendered people: the demo's identity encoder, or an evaluator that the generator never sees.

    python -m training.train_identity --data faces --out runs/demo/identity/model.safetensors
    python -m training.train_identity --data faces --out runs/demo/evaluators/identity.safetensors --widths 24 32 64 96 --seed 1
    python -m training.train_identity --data faces --out runs/demo/evaluators/emotion.safetensors --widths 24 32 64 96 --seed 2 --task emotion
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facecrafter_core.faces.emotion import EMOTIONS
from facecrafter_core.faces.identity import FaceNetwork
from facecrafter_core.terminal import escape_unprintable
from training.data import cut, identity_squares, load_faces
from training.loop import Progress, World, learning_rate, one_sentence, store
from training.ranges import COUNT, LEARNING_RATE, SEED

CROP = 112
EMBEDDING = 128
EMOTION_COLUMNS = ["valence", "arousal", *EMOTIONS]


def augment(crops: Tensor) -> Tensor:
    """What differs between photographs of one person: exposure, contrast, white balance, gamma, sharpness, noise, occlusion, crop."""
    n, device = len(crops), crops.device

    def amount(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *(shape or (1, 1, 1)), device=device)

    scale, shift = amount(0.9, 1.1), amount(-0.06, 0.06, 2)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale.flatten()
    turn = amount(-0.1, 0.1).flatten()
    theta[:, 0, 1], theta[:, 1, 0] = -turn, turn
    theta[:, :, 2] = shift
    grid = nn.functional.affine_grid(theta, list(crops.shape), align_corners=False)
    x = nn.functional.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
    x = (x / 2 + 0.5).clamp(1e-3, 1) ** amount(0.7, 1.4)
    x = x * amount(0.65, 1.35) * amount(0.9, 1.1, 3, 1, 1)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * amount(0.6, 1.4)
    x = (x - 0.5) * amount(0.75, 1.25) + 0.5
    blurred = nn.functional.avg_pool2d(nn.functional.avg_pool2d(x, 3, 1, 1), 3, 1, 1)
    x = torch.lerp(x, blurred, amount(0, 1) * (torch.rand(n, 1, 1, 1, device=device) < 0.4))
    x = x + torch.randn_like(x) * amount(0, 0.04)
    size = crops.shape[-1]
    centre, half = amount(0, size, 2), amount(4, 16, 1)
    ramp = torch.arange(size, device=device)
    inside = ((ramp - centre[:, :1]).abs() < half)[:, None, :, None] & ((ramp - centre[:, 1:]).abs() < half)[:, None, None, :]
    inside &= torch.rand(n, 1, 1, 1, device=device) < 0.3
    return torch.where(inside, amount(0, 1), x).clamp(0, 1) * 2 - 1


def margin_loss(embeddings: Tensor, centres: Tensor, target: Tensor, margin: float, scale: float) -> Tensor:
    """ArcFace's additive angular margin softmax (Deng et al. 2019, Eq. 3)."""
    cosine = nn.functional.normalize(embeddings, dim=1) @ nn.functional.normalize(centres, dim=1).T
    own = cosine.gather(1, target[:, None]).clamp(-1 + 1e-5, 1 - 1e-5)
    with_margin = (own.acos() + margin).clamp(max=np.pi - 1e-3).cos()
    return nn.functional.cross_entropy(scale * cosine.scatter(1, target[:, None], with_margin.to(cosine)), target)


def emotion_loss(found: Tensor, expected: Tensor) -> Tensor:
    """Squared error of valence and arousal, and cross-entropy of the class distribution."""
    values = nn.functional.mse_loss(found[:, :2].tanh(), expected[:, :2])
    return 4 * values - (expected[:, 2:] * found[:, 2:].log_softmax(1)).sum(1).mean()


@torch.inference_mode()
def report_identity(network: nn.Module, images: Tensor, squares: Tensor, person: np.ndarray) -> None:
    """Rank-1 share on the validation people: is an image's nearest other image one of the same person?"""
    vectors = torch.cat([network(cut(images[i : i + 500], squares[i : i + 500], CROP)) for i in range(0, len(images), 500)])
    vectors = nn.functional.normalize(vectors.float(), dim=1)
    similarity = (vectors @ vectors.T).fill_diagonal_(-1)
    people = torch.from_numpy(person).to(similarity.device)
    same = people[:, None] == people[None]
    off = ~torch.eye(len(people), dtype=torch.bool, device=same.device)
    rank1 = (people[similarity.argmax(1)] == people).float().mean()
    print(
        f"validation, {len(set(person.tolist()))} people: nearest image is the same person {rank1:.3f}; "
        f"similarity same {similarity[same & off].mean():.3f}, other {similarity[~same].mean():.3f}"
    )


@torch.inference_mode()
def report_emotion(network: nn.Module, images: Tensor, squares: Tensor, expected: Tensor) -> None:
    found = torch.cat([network(cut(images[i : i + 500], squares[i : i + 500], CROP)) for i in range(0, len(images), 500)]).float()
    r = [torch.corrcoef(torch.stack([found[:, i].tanh(), expected[:, i]]))[0, 1].item() for i in (0, 1)]
    right = (found[:, 2:].argmax(1) == expected[:, 2:].argmax(1)).float().mean()
    print(f"validation: valence r {r[0]:.3f}, arousal r {r[1]:.3f}, class accuracy {right:.3f}")


@one_sentence()
def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", choices=("identity", "emotion"), default="identity")
    parser.add_argument("--widths", type=COUNT.of(int), nargs=4, default=(32, 48, 96, 128))
    parser.add_argument("--steps", type=COUNT.of(int), default=4000)
    parser.add_argument("--batch", type=COUNT.of(int), default=256)
    parser.add_argument("--learning-rate", type=LEARNING_RATE.of(float), default=2e-3)
    parser.add_argument("--seed", type=SEED.of(int), default=0)
    args = parser.parse_args()

    world = World()
    torch.manual_seed(args.seed)
    faces = load_faces(args.data)
    train, held_out = faces.split("train"), faces.split("validation")
    images = torch.from_numpy(train.images).to(world.device)
    squares = identity_squares(train.landmarks).to(world.device)
    emotions = train.table(EMOTION_COLUMNS).to(world.device)
    people, numbers = np.unique(train.person, return_inverse=True)
    numbers = torch.from_numpy(numbers).to(world.device)
    network = FaceNetwork(EMBEDDING if args.task == "identity" else 10, args.widths)
    network = network.to(world.device, memory_format=torch.channels_last)
    centres = nn.Parameter(torch.randn(len(people), EMBEDDING, device=world.device) * 0.1)
    parameters = [*network.parameters(), centres]
    optimizer = torch.optim.AdamW(parameters, args.learning_rate, weight_decay=0.02, fused=world.device.type == "cuda")
    progress = Progress(args.steps, args.batch, 250)
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.learning_rate, 200)
        which = torch.randint(len(images), (args.batch,), device=world.device)
        crops = augment(cut(images[which], squares[which], CROP))
        with world.autocast():
            out = network(crops.contiguous(memory_format=torch.channels_last))
        if args.task == "identity":
            margin = 0.3 * min(1.0, step / (0.4 * args.steps))
            loss = margin_loss(out.float(), centres, numbers[which], margin, 24.0)
        else:
            loss = emotion_loss(out.float(), emotions[which])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        progress.add(step, loss=loss)

    network.eval()
    inputs = torch.from_numpy(held_out.images).to(world.device), identity_squares(held_out.landmarks).to(world.device)
    if args.task == "identity":
        report_identity(network, *inputs, held_out.person)
    else:
        report_emotion(network, *inputs, held_out.table(EMOTION_COLUMNS).to(world.device))
    store(network, args.out)


if __name__ == "__main__":
    main()
