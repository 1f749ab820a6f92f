"""Renders the six sample portraits of the demo from held-out people.

    python -m training.synthetic.samples --assets ASSETS --out demo/samples

Portraits 1 to 3 are identity photos, 4 to 6 driving photos with a clear pose and expression. All are CC0 1.0.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from facecrafter_core.terminal import escape_unprintable
from training.ranges import Range

from .assets import Assets
from .expressions import EMOTION_ACTIONS, action_vector
from .people import sample_person
from .render import Renderer
from .scene import Light, Scene, posed, sample_scene

# identity number, scene seed, pose (yaw, pitch, roll), emotion and intensity, further actions
PORTRAITS = (
    (7, 3, (4, 2, 0), None, 0.0, {"mouthSmile": 0.2, "cheekSquint": 0.1}),
    (42, 5, (-8, 0, 2), None, 0.0, {"mouthSmile": 0.12}),
    (63, 8, (6, -2, -2), None, 0.0, {"mouthSmile": 0.1}),
    (19, 12, (27, 4, 3), "happy", 1.0, {"jawOpen": 0.05}),
    (22, 15, (-12, 3, -8), "surprise", 1.05, {}),
    (40, 21, (-20, -10, 4), "anger", 1.0, {}),
)


def main() -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("demo/samples"))
    parser.add_argument("--size", type=Range(16).of(int), default=512)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    renderer = Renderer(Assets(args.assets), args.size, supersample=3)
    for i, (number, seed, pose, emotion, intensity, extra) in enumerate(PORTRAITS, 1):
        prepared = renderer.prepare(sample_person(number, renderer.assets.catalogue))
        actions = action_vector(extra)
        if emotion:
            actions = actions + intensity * action_vector(EMOTION_ACTIONS[emotion])
        picture = renderer.render(prepared, actions, _studio(seed, *pose))
        Image.fromarray(picture).save(args.out / f"portrait_{i}.jpg", quality=91)
        print(f"portrait_{i}.jpg: person {number}, {emotion or 'neutral'}, yaw {pose[0]}")


def _studio(seed: int, yaw: float, pitch: float, roll: float) -> Scene:
    """A scene of this seed with a clean camera, a soft key light from the front and even light around it."""
    scene = posed(sample_scene(np.random.default_rng(seed)), yaw, pitch, roll)
    side = -1.0 if seed % 2 else 1.0
    direction = np.array([0.55 * side, 0.55, 0.75], np.float32)
    key = Light(direction / np.linalg.norm(direction), np.array([1.03, 1.0, 0.96]) * 1.0)
    fill = Light(np.array([-0.8 * side, 0.1, 0.6]), np.array([0.97, 1.0, 1.03]) * 0.22)
    return replace(
        scene, key=key, fill=fill, sky=np.full(3, 0.4), ground=np.full(3, 0.24), exposure=1.0, contrast=1.02, saturation=1.0,
        vignette=0.1, blur=0.0, noise=0.004, jpeg=0, white=np.ones(3), distance=14.0, scale=0.94, neckline=0, pattern=0, collar=0.0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
