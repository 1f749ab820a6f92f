"""Trains the demo's emotion estimator: MediaPipe's 52 blendshape scores -> valence, arousal and eight classes.

    python -m training.train_emotion --data faces --out runs/demo/emotion/model.safetensors

It reads scores, not pixels, so that what it learns on rendered people holds for photographs as far as MediaPipe's scores do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from facecrafter_core.faces.emotion import EMOTIONS
from facecrafter_core.faces.emotion_estimators import emotion_network
from facecrafter_core.terminal import escape_unprintable
from training.data import load_faces
from training.loop import Progress, World, learning_rate, one_sentence, store
from training.ranges import COUNT, LEARNING_RATE
from training.train_identity import emotion_loss


@one_sentence()
def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=COUNT.of(int), default=3000)
    parser.add_argument("--batch", type=COUNT.of(int), default=1024)
    parser.add_argument("--learning-rate", type=LEARNING_RATE.of(float), default=3e-3)
    args = parser.parse_args()

    world = World()
    torch.manual_seed(0)
    faces = load_faces(args.data, images=False)
    train, held_out = faces.split("train"), faces.split("validation")
    columns = ["valence", "arousal", *EMOTIONS]

    def tensors(part: object) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(part.blendshapes).float().to(world.device), part.table(columns).to(world.device)

    (scores, expected), (held_out_scores, held_out_expected) = tensors(train), tensors(held_out)
    network = emotion_network().to(world.device)
    optimizer = torch.optim.AdamW(network.parameters(), args.learning_rate, weight_decay=0.01)
    progress = Progress(args.steps, args.batch, 500)
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.learning_rate, 100)
        which = torch.randint(len(scores), (args.batch,), device=world.device)
        noise = 0.02 * torch.randn(args.batch, scores.shape[1], device=world.device)
        loss = emotion_loss(network(scores[which] + noise), expected[which])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        progress.add(step, loss=loss)

    network.eval()
    with torch.inference_mode():
        found = network(held_out_scores)
        r = [torch.corrcoef(torch.stack([found[:, i].tanh(), held_out_expected[:, i]]))[0, 1].item() for i in (0, 1)]
        right = (found[:, 2:].argmax(1) == held_out_expected[:, 2:].argmax(1)).float().mean()
    print(f"validation: valence r {r[0]:.3f}, arousal r {r[1]:.3f}, class accuracy {right:.3f}")
    store(network, args.out)


if __name__ == "__main__":
    main()
