"""What the denoiser trains on, once for all images: latents, identity vectors and landmark drawings, as .npy beside the shards.

    python -m training.encode_features --data faces --models runs/demo
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facecrafter_core.control.config import DEMO
from facecrafter_core.faces.drawing import draw_landmarks
from training.data import Faces, cut, identity_squares, load_faces
from training.loop import World


@dataclass
class Features:
    """latents [N, 4, 32, 32] (fp16), identities [N, 128] unit vectors, drawings uint8 [N, 256, 256, 3], all on one device."""

    latents: Tensor
    identities: Tensor
    drawings: Tensor | None

    @classmethod
    def load(cls, data: Path, device: torch.device, drawings: bool = True) -> Features:
        def read(name: str) -> Tensor:
            path = data / f"{name}.npy"
            if not path.is_file():
                raise SystemExit(f"Expected {path}, found no such file. Run training/encode_features.py first.")
            return torch.from_numpy(np.load(path)).to(device)

        return cls(read("latents"), read("identities"), read("drawings") if drawings else None)

    def take(self, which: np.ndarray) -> Features:
        index = torch.from_numpy(np.flatnonzero(which) if which.dtype == bool else which).to(self.latents.device)
        drawings = None if self.drawings is None else self.drawings[index]
        return Features(self.latents[index], self.identities[index], drawings)


def draw(landmarks: np.ndarray) -> np.ndarray:
    return np.stack([draw_landmarks(points, DEMO.picture_size) for points in landmarks])


def draw_all(landmarks: np.ndarray, path: Path, processes: int) -> None:
    """Writes the drawings of landmarks [N, 478, 3] to `path`."""
    size = DEMO.picture_size
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (len(landmarks), size, size, 3))
    starts = range(0, len(landmarks), 500)
    with ProcessPoolExecutor(processes) as pool:
        for start, pictures in zip(starts, pool.map(draw, (landmarks[s : s + 500] for s in starts)), strict=True):
            out[start : start + len(pictures)] = pictures
    out.flush()


@torch.inference_mode()
def encode_all(faces: Faces, models: Path, world: World, batch: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Latents and identity vectors of all images."""
    from diffusers import AutoencoderTiny

    from facecrafter_core.faces.identity import DemoIdentityEncoder

    vae = AutoencoderTiny.from_pretrained(models / "vae").to(world.device)
    encoder = DemoIdentityEncoder(models / "identity/model.safetensors")
    encoder.network.to(world.device)
    squares = identity_squares(faces.landmarks)
    latents, identities = [], []
    for start in range(0, len(faces), batch):
        images = torch.from_numpy(faces.images[start : start + batch]).to(world.device)
        pictures = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        with world.autocast():
            latents.append(vae.encoder(pictures).half().cpu().numpy())
        crops = cut(images, squares[start : start + batch].to(world.device), encoder.crop_size)
        identities.append(encoder.encode(crops).float().cpu().numpy())
    return np.concatenate(latents), np.concatenate(identities)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder with vae/ and identity/")
    parser.add_argument("--parts", nargs="+", choices=("drawings", "latents"), default=("drawings", "latents"))
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()

    faces = load_faces(args.data, images="latents" in args.parts)
    if "drawings" in args.parts:  # these need landmarks only, so they can be made while the networks train
        draw_all(faces.landmarks, args.data / "drawings.npy", args.processes)
    if "latents" not in args.parts:
        return
    latents, identities = encode_all(faces, args.models, World())
    np.save(args.data / "latents.npy", latents)
    np.save(args.data / "identities.npy", identities)
    print(f"{len(faces)} images encoded; latents: mean {latents.astype(np.float32).mean():.3f}, deviation {latents.astype(np.float32).std():.3f}")


if __name__ == "__main__":
    main()
