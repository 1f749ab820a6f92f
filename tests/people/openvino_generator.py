"""The generator as OpenVINO runs it, for the comparison with torch.

    python -m tests.people.openvino_generator

writes openvino.npz (needs openvino and the generator's files): z [2, 512] in fp16, the first 32 numbers of w [2, 32], and both pictures averaged to
16 x 16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecrafter_core.files import write_whole
from training.people.generator import find_folder

REFERENCE = Path(__file__).with_name("openvino.npz")


def run(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z float32 [B, 512] -> w [B, 512] and pictures [B, 3, 512, 512], the 2 x 2 means of the network's own."""
    import openvino

    core, exact = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    mapping, synthesis = (core.compile_model(find_folder() / f"{name}Network.xml", "CPU", exact) for name in ("Mapping", "Synthesis"))
    w = np.concatenate([mapping([one[None]])[0] for one in z])
    return w, np.concatenate([means(synthesis([one[None]])[0], 512) for one in w])


def means(pictures: np.ndarray, side: int) -> np.ndarray:
    """[B, C, H, H] -> [B, C, side, side], the means of squares."""
    b, c, h, _ = pictures.shape
    return pictures.reshape(b, c, side, h // side, side, h // side).mean((3, 5))


def main() -> None:
    z = np.random.default_rng(26).standard_normal((2, 512)).astype(np.float16)
    w, pictures = run(z.astype(np.float32))
    write_whole(REFERENCE, lambda file: np.savez_compressed(file, z=z, w=w[:, :32], pictures=means(pictures, 16).astype(np.float32)))


if __name__ == "__main__":
    main()
