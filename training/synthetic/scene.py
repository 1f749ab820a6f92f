"""What varies from picture to picture: pose, light, lens, background, clothes, and how the picture is framed.

Angles follow the photograph: yaw > 0 turns the face to the picture's right (the person's own left), pitch > 0 looks up,
roll > 0 tilts the head clockwise in the picture (towards its right). The rotation is yaw after pitch after roll, as in faces.landmarker.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from facecrafter_core.faces.align import square_from_points
from facecrafter_core.faces.face import Pose, rotation_of_pose


@dataclass(frozen=True)
class Light:
    """A directional light: unit direction towards it, linear RGB."""

    direction: np.ndarray
    color: np.ndarray


@dataclass(frozen=True)
class Scene:
    """One picture's circumstances.

    Attributes:
        yaw, pitch, roll: degrees, of the head.  torso: share of the head's turn that the shoulders follow, 0..1.
        key, fill, rim: lights.  sky, ground: ambient linear RGB from above and below.
        distance: camera to face, decimetres.  scale, dx, dy: framing jitter, shift in parts of the picture's width.
        exposure, contrast, saturation, vignette, blur (pixels at 256), noise, jpeg (quality or 0): the photograph.
        white: linear RGB white balance.
        shirt, shirt_2: linear RGB; pattern 0 plain, 1 stripes, 2 checks, 3 mottled; neckline 0 crew, 1 V, 2 high, 3 wide;
        collar: decimetres from the chin down to the collar.
        background: seed of the background picture.
    """

    yaw: float
    pitch: float
    roll: float
    torso: float
    key: Light
    fill: Light
    rim: Light
    sky: np.ndarray
    ground: np.ndarray
    distance: float
    scale: float
    dx: float
    dy: float
    exposure: float
    contrast: float
    saturation: float
    vignette: float
    blur: float
    noise: float
    jpeg: int
    white: np.ndarray
    shirt: np.ndarray
    shirt_2: np.ndarray
    pattern: int
    neckline: int
    collar: float
    background: int


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draws a picture's circumstances."""
    yaw, pitch, roll = _pose(rng)
    key, fill, rim, sky, ground = _lights(rng)
    hue, shade = rng.random(), 0.03 + 0.75 * rng.random() ** 1.6
    shirt = np.array(colorsys.hsv_to_rgb(hue, rng.random() ** 1.3 * 0.85, shade))
    other = colorsys.hsv_to_rgb(hue + 0.06 * rng.normal(), rng.random() * 0.5, 0.03 + 0.75 * rng.random())
    shirt_2 = 0.35 * shirt + 0.65 * np.array(other)
    noisy, compressed, soft = rng.random() < 0.6, rng.random() < 0.55, rng.random() < 0.35
    return Scene(
        yaw, pitch, roll, float(rng.beta(1.2, 2.0)), key, fill, rim, sky, ground,
        distance=float(np.exp(rng.uniform(np.log(5.5), np.log(25.0)))),
        scale=float(np.clip(1 + 0.04 * rng.normal(), 0.88, 1.12)),
        dx=float(np.clip(0.02 * rng.normal(), -0.06, 0.06)),
        dy=float(np.clip(0.02 * rng.normal(), -0.06, 0.06)),
        exposure=float(np.exp(np.clip(0.14 * rng.normal(), -0.3, 0.25))),
        contrast=float(np.clip(1 + 0.1 * rng.normal(), 0.75, 1.25)),
        saturation=float(np.clip(1 + 0.14 * rng.normal(), 0.5, 1.35)) * (0.0 if rng.random() < 0.015 else 1.0),
        vignette=float(max(0.0, rng.normal() * 0.2)),
        blur=float(rng.uniform(0.3, 1.1)) if soft else 0.0,
        noise=float(rng.gamma(1.5, 0.007)) if noisy else 0.0,
        jpeg=int(rng.integers(60, 97)) if compressed else 0,
        white=np.array([1 + 0.05 * rng.normal(), 1.0, 1 + 0.06 * rng.normal()]).clip(0.8, 1.2),
        shirt=shirt, shirt_2=shirt_2, pattern=int(rng.choice(4, p=(0.55, 0.14, 0.14, 0.17))),
        neckline=int(rng.choice(4, p=(0.4, 0.25, 0.2, 0.15))), collar=float(rng.uniform(-0.1, 0.3)),
        background=int(rng.integers(1 << 30)),
    )  # fmt: skip


def posed(scene: Scene, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Scene:
    """The same scene with another pose, without framing jitter."""
    return replace(scene, yaw=yaw, pitch=pitch, roll=roll, scale=1.0, dx=0.0, dy=0.0)


def _pose(rng: np.random.Generator) -> tuple[float, float, float]:
    """A quarter of the pictures near frontal; otherwise yaw spreads 22 degrees, pitch 11, roll 7."""
    share = 0.3 if rng.random() < 0.25 else 1.0
    spread, limit = np.array([22.0, 11.0, 7.0]), np.array([50.0, 28.0, 22.0])
    yaw, pitch, roll = (rng.normal(size=3) * spread * share).clip(-limit, limit)
    return float(yaw), float(pitch), float(roll)


def _lights(rng: np.random.Generator) -> tuple[Light, Light, Light, np.ndarray, np.ndarray]:
    """Key, fill and rim light and the ambient light, from studio, window, overcast, sun and lamp."""
    kind = rng.choice(5, p=(0.3, 0.25, 0.2, 0.13, 0.12))
    strength = (1.25, 1.15, 0.5, 1.75, 1.1)[kind] * np.exp(0.18 * rng.normal())
    ambient = (0.36, 0.32, 0.72, 0.36, 0.26)[kind] * np.exp(0.2 * rng.normal())
    warmth = (0.0, -0.04, -0.03, 0.05, 0.10)[kind] + 0.04 * rng.normal()
    side = rng.choice([-1.0, 1.0])
    azimuth = side * abs(rng.normal()) * (0.6, 0.9, 0.7, 0.8, 0.7)[kind]
    elevation = float(np.clip(rng.normal() * 0.2 + (0.5, 0.25, 0.8, 0.75, 0.45)[kind], -0.1, 1.15))
    key = Light(_towards(np.clip(azimuth, -1.5, 1.5), elevation), np.array([1 + warmth, 1.0, 1 - warmth]) * strength)
    cool = -0.5 * warmth + 0.03 * rng.normal()
    fill = Light(
        _towards(-side * rng.uniform(0.4, 1.3), 0.1),
        np.array([1 + cool, 1, 1 - cool]) * strength * rng.uniform(0.05, 0.35),
    )
    rim_strength = strength * rng.uniform(0.3, 1.3) if rng.random() < 0.4 else 0.0
    rim_warmth = 0.1 * rng.normal()
    rim = Light(
        _towards(rng.choice([-1, 1]) * rng.uniform(1.9, 2.7), 0.4),
        np.array([1 + rim_warmth, 1, 1 - rim_warmth]) * rim_strength,
    )
    sky = np.array([1 + cool, 1.0, 1 - cool]) * ambient
    ground = np.array([1 + 0.06 * rng.normal(), 1.0, 1 - 0.08 * abs(rng.normal())]) * ambient * rng.uniform(0.35, 0.8)
    return key, fill, rim, sky, ground


def _towards(azimuth: float, elevation: float) -> np.ndarray:
    return np.array(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], np.float32
    )


def head_rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Degrees -> rotation float32 [3, 3] in the head's axes (x to the person's left, y up, z out of the face)."""
    return rotation_of_pose(Pose(yaw, pitch, roll)).astype(np.float32)


def camera(points_43: np.ndarray, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Places the camera so that FFHQ's upright square, up to the scene's jitter, is the picture.

    Args:
        points_43: posed left eye, right eye, left and right mouth corner, in the world.

    Returns:
        (eye [3], matrix [4, 4]): the camera's place, and world -> clip space with y up.
    """
    middle = points_43.mean(0) - np.array([0, 0, 0.5])
    eye = middle + np.array([0, 0, scene.distance])
    depth = eye[2] - points_43[:, 2]
    flat = (points_43[:, :2] - eye[:2]) / depth[:, None]  # on the plane one decimetre in front of the camera
    left_eye, right_eye, left_mouth, right_mouth = flat * [1, -1]  # y down, as in pictures
    centre, half, _ = square_from_points(right_eye, left_eye, right_mouth, left_mouth, rotate=False)
    centre = centre * [1, -1]
    half = half / scene.scale
    # The face moves right and down by (dx, dy), so the window moves left and up.
    centre = centre - 2 * half * np.array([scene.dx, -scene.dy])
    near, far = max(0.5, scene.distance - 3.5), scene.distance + 6
    m = np.array(
        [[1 / half, 0, centre[0] / half, 0], [0, 1 / half, centre[1] / half, 0],
         [0, 0, (far + near) / (near - far), 2 * far * near / (near - far)], [0, 0, -1, 0]]
    )  # fmt: skip
    view = np.eye(4)
    view[:3, 3] = -eye
    return eye.astype(np.float32), (m @ view).astype(np.float32)
