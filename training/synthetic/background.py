"""Backdrops: gradients, out-of-focus shapes, windows, walls and foliage, drawn small and in linear light."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

SIZE = 96


def backdrop(seed: int) -> np.ndarray:
    """A backdrop, float32 [96, 96, 3] in linear RGB; rows run downwards."""
    rng = np.random.default_rng(seed)
    base, second = _color(rng), _color(rng)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    kind = rng.choice(6, p=(0.24, 0.16, 0.18, 0.16, 0.14, 0.12))
    angle = rng.uniform(0, 2 * np.pi)
    slope = ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.5).clip(0, 1)
    picture = base + (second - base) * (slope * rng.uniform(0, 1))[..., None]
    if kind == 0:  # studio: a glow behind the head
        glow = np.exp(-(((x - rng.uniform(0.2, 0.8)) ** 2 + (y - rng.uniform(0.2, 0.7)) ** 2) * rng.uniform(2, 8)))
        picture = base * (0.5 + rng.uniform(0, 1) * glow[..., None])
    elif kind == 1:  # mottled wall or painted canvas
        picture = picture * (1 + rng.uniform(0.1, 0.4) * (_clouds(rng, 5) - 0.5)[..., None])
    elif kind == 2:  # bokeh
        for _ in range(int(rng.integers(6, 30))):
            centre, radius = rng.uniform(0, SIZE, 2).astype(int), int(rng.integers(2, 11))
            layer = np.zeros((SIZE, SIZE), np.float32)
            cv2.circle(layer, centre.tolist(), radius, float(rng.uniform(0.1, 0.8)), -1, cv2.LINE_AA)
            picture = picture + layer[..., None] * _color(rng) * rng.uniform(0.3, 1.6)
    elif kind == 3:  # rooms: rectangles out of focus
        for _ in range(int(rng.integers(3, 10))):
            (x0, y0), (w, h) = rng.integers(-20, SIZE, 2), rng.integers(6, 60, 2)
            picture[max(0, y0) : max(0, y0 + h), max(0, x0) : max(0, x0 + w)] = _color(rng)
    elif kind == 4:  # foliage and sky
        green = np.array(colorsys.hsv_to_rgb(rng.uniform(0.18, 0.4), rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.35)))
        leaves = (_clouds(rng, 9) * 1.4).clip(0, 1)[..., None]
        sky = np.array([0.55, 0.7, 0.95]) * rng.uniform(0.3, 1.1)
        picture = green * (0.4 + leaves) + (sky - green) * (y < rng.uniform(0.0, 0.6))[..., None] * 0.8
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), float(rng.uniform(0.8, 5.0)))
    return np.ascontiguousarray(picture.clip(0.002, 3.0), np.float32)


def _color(rng: np.random.Generator) -> np.ndarray:
    value = rng.uniform(0.12, 0.97) ** 2.2
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(1.0, 3.0), value), np.float32)


def _clouds(rng: np.random.Generator, finest: int) -> np.ndarray:
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(1, 4):
        coarse = rng.random((octave * finest // 2 + 2,) * 2).astype(np.float32)
        total += cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) / 2**octave
    return total / 0.875
