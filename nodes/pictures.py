"""Pictures between ComfyUI's IMAGE (float [B, H, W, 3] in 0..1) and the core's photos (uint8 [H, W, 3])."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..facecrafter_core.errors import PhotoError
from .host.adapter import DEMO_FOLDER

SAMPLES = DEMO_FOLDER / "samples"


def to_photos(image: Tensor, name: str) -> list[np.ndarray]:
    """IMAGE -> photos.

    Raises:
        PhotoError: an empty batch, or numbers that are not finite.
    """
    from ..facecrafter_core.faces.photo import photo_from_tensor

    if image is None or image.ndim != 4 or not len(image) or 0 in image.shape:
        found = "nothing" if image is None else f"an IMAGE of shape {list(image.shape)}"
        raise PhotoError(f"Expected at least one picture in {name}, found {found}.")
    if not torch.isfinite(image).all():
        raise PhotoError(
            f"The picture in {name} holds numbers that are not finite (NaN or infinity). Load or make it again."
        )
    return [photo_from_tensor(picture) for picture in image.cpu()]


def to_pictures(image: Tensor, name: str) -> list[np.ndarray]:
    """IMAGE -> pictures float32 [H, W, 3] in 0..1, not rounded. Grey becomes RGB, transparency is laid over white.

    Raises:
        PhotoError: as to_photos.
    """
    pictures = []
    for photo, picture in zip(to_photos(image, name), image.cpu().float().numpy(), strict=True):
        colours = picture.shape[-1] == 3
        pictures.append(np.ascontiguousarray(picture) if colours else photo.astype(np.float32) / 255)
    return pictures


def to_image(photos: Sequence[np.ndarray], size: int | None = None) -> Tensor:
    """Photos of one size (or resized to squares of `size`) -> IMAGE."""
    from PIL import Image

    if size is not None:
        photos = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in photos]
    return torch.from_numpy(np.stack(photos).astype(np.float32) / 255)


def to_square(photo: np.ndarray, size: int) -> np.ndarray:
    """A whole photo inside a black square."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.pad(Image.fromarray(photo), (size, size)))


def sample_names() -> list[str]:
    """The portraits that come with the demo."""
    return sorted(path.name for path in SAMPLES.glob("*.jpg"))


def sample_photos() -> dict[str, np.ndarray]:
    """The demo's portraits by file name, uint8 [H, W, 3]."""
    from PIL import Image

    return {name: np.asarray(Image.open(SAMPLES / name).convert("RGB")) for name in sample_names()}


def sample_path(name: str) -> Path:
    """
    Raises:
        PhotoError: no such portrait.
    """
    if name not in sample_names():
        raise PhotoError(
            f"There is no sample portrait {name!r}: expected one of {', '.join(sample_names()) or 'none (the folder is empty)'}."
        )
    return SAMPLES / name


def emotion_chart(vector: np.ndarray, size: int = 256) -> np.ndarray:
    """One emotion vector [10] -> a picture uint8 [size, size, 3]: the point in the valence-arousal plane, and eight bars."""
    from PIL import Image, ImageDraw, ImageFont

    from ..facecrafter_core.faces.emotion import EMOTIONS

    scale = 2  # drawn larger and reduced, for smooth edges
    side = size * scale
    picture = Image.new("RGB", (side, side), (24, 24, 28))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=side / 24)
    plane = side * 0.58
    left, top = (side - plane) / 2, side * 0.03
    draw.ellipse((left, top, left + plane, top + plane), outline=(90, 90, 100), width=scale)
    middle_x, middle_y = left + plane / 2, top + plane / 2
    draw.line((left, middle_y, left + plane, middle_y), fill=(60, 60, 68), width=scale)
    draw.line((middle_x, top, middle_x, top + plane), fill=(60, 60, 68), width=scale)
    draw.text((left + plane, middle_y), "valence", font=font, fill=(150, 150, 160), anchor="ls")
    draw.text((middle_x + 3 * scale, top), "arousal", font=font, fill=(150, 150, 160), anchor="lt")
    x, y = middle_x + vector[0] * plane / 2, middle_y - vector[1] * plane / 2
    radius = side / 40
    draw.line((middle_x, middle_y, x, y), fill=(255, 190, 80), width=scale)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 190, 80))
    bottom, room = side * 0.93, side * 0.27
    for i, (name, share) in enumerate(zip(EMOTIONS, vector[2:], strict=True)):
        a, b = side * (0.03 + i * 0.118), side * (0.03 + i * 0.118 + 0.095)
        draw.rectangle((a, bottom - room, b, bottom), fill=(40, 40, 46))
        draw.rectangle((a, bottom - room * float(share), b, bottom), fill=(110, 170, 255))
        draw.text(((a + b) / 2, bottom + side * 0.045), name[:4], font=font, fill=(200, 200, 208), anchor="ms")
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))


def captioned_grid(photos: Sequence[np.ndarray], captions: Sequence[Sequence[str]], columns: int = 0, size: int = 256) -> np.ndarray:
    """Photos with lines of text below each -> one picture uint8 [H, W, 3].

    Args:
        columns: 0 makes it about square.
        size: side of each photo in pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = columns or max(1, math.ceil(math.sqrt(len(photos))))
    line, gap = size // 14, size // 32
    below = max((len(text) for text in captions), default=0) * line + gap
    rows = math.ceil(len(photos) / columns)
    sheet = Image.new("RGB", (columns * (size + gap) + gap, rows * (size + below + gap) + gap), (24, 24, 28))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=line * 0.85)
    for i, (photo, text) in enumerate(zip(photos, captions, strict=True)):
        x, y = gap + (i % columns) * (size + gap), gap + (i // columns) * (size + below + gap)
        picture = Image.fromarray(photo)
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
        sheet.paste(picture, (x + (size - picture.width) // 2, y + (size - picture.height) // 2))
        for k, words in enumerate(text):
            draw.text((x, y + size + gap // 2 + k * line), words, font=font, fill=(214, 214, 222))
    return np.asarray(sheet)
