"""Preparing images for training, on one core: reading, landmarks, the whole CPU part, and end to end with the demo's networks.

    python benchmarks/prepare.py [--images 64] [--device cpu]
    python benchmarks/prepare.py --full --device cuda       # autoencoder and EmoNet of the full size alone, untrained

The images are variations of scikit-image's astronaut, 1024 x 1024 JPEGs in a temporary folder. Prints images a second.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="only the full size's networks, which need no download: random weights, random pictures")
    options = parser.parse_args()
    if options.full:
        full_size_networks(options.device, options.images)
        return

    import cv2
    import torch
    from PIL import Image, ImageEnhance
    from skimage.data import astronaut

    from facecrafter_core.diffusion.families import DEMO_FOLDER
    from training.extract import Extractor, Seen
    from training.sources import load, open_source

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    extractor = Extractor("demo", DEMO_FOLDER, drawings=True, device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        base = Image.fromarray(astronaut()).crop((64, 0, 384, 320)).resize((1024, 1024))
        (Path(folder) / "person").mkdir()
        for i in range(options.images):
            ImageEnhance.Brightness(base).enhance(0.8 + 0.4 * i / options.images).save(Path(folder) / f"person/{i:05d}.jpg", quality=92)
        _, items = open_source(folder)
        photos = [load(item) for item in items]
        extractor.landmarker.find_face(photos[0])
        seen = [extractor.look(item) for item in items]

        def rate(name: str, work: Callable[[], object], count: int = options.images) -> None:
            start = time.perf_counter()
            work()
            print(f"{name:<44}{count / (time.perf_counter() - start):8.1f} images/s", flush=True)

        rate("read", lambda: [load(item) for item in items])
        rate("landmarks", lambda: [extractor.landmarker.find_face(photo) for photo in photos])
        rate("read, landmarks, squares", lambda: [extractor.look(item) for item in items])
        few = min(16, options.images)

        def networks(some: list[Seen]) -> None:
            for one in some:
                extractor.identify(one, [])
            extractor.estimate_emotions(some)
            extractor.encode(some)

        rate("networks, mask, drawing", lambda: networks(seen[:few]), few)
        rate("end to end", lambda: extractor(items[:few]), few)


def full_size_networks(device: str, images: int) -> None:
    """As training/extract.py calls them. Arc2Face's recogniser, by ONNX Runtime on the CPU or a GPU, is not among them."""
    import torch

    from facecrafter_core.diffusion.families import FULL, new_autoencoder
    from facecrafter_core.faces.emonet import EmoNet
    from training.extract import BATCH

    size, batch = FULL.image_size, BATCH["full"]
    with torch.device(device), torch.inference_mode():
        vae, emonet = new_autoencoder(FULL).eval(), EmoNet().eval()
        pictures, looks = torch.rand(batch, 3, size, size) * 2 - 1, torch.rand(batch, 3, 256, 256)
        for name, work in (("autoencoder", lambda: vae.encode(pictures).latent_dist.mean), ("EmoNet", lambda: emonet(looks))):
            for _ in range(3):
                work()
            start, done = time.perf_counter(), 0
            while done < images:
                found = work()
                done += batch
            found.sum().item()  # waits for the device
            print(f"{name:<44}{done / (time.perf_counter() - start):8.1f} images/s", flush=True)


if __name__ == "__main__":
    main()
