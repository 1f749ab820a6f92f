"""Pictures of every kind -> photos: uint8 [H, W, 3], RGB, upright."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE = 16
"""Smallest side of a photo, in pixels."""

MAX_PIXELS = 200_000_000
"""Largest photo; beyond it a few bytes on disk may stand for gigabytes in memory."""


def load_photo(source: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Reads one photo.

    A file's or PIL image's EXIF rotation is applied, transparency is laid over white, grey and palette pictures become RGB, and 16 bits
    become 8.

    Args:
        source: a file, a PIL image, or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8 (0..255), uint16 (0..65535),
            bool, or float (0..1).

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        PhotoError: missing, unreadable, empty, too large, or holding numbers that are not finite.
    """
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _from_pil(source, "The picture")
    if isinstance(source, (str, Path)):
        return _from_file(Path(source).expanduser())
    raise PhotoError(f"Expected a photo as a path, a PIL image or an array, found {type(source).__name__}.")


def photo_from_tensor(image: Any) -> np.ndarray:
    """A picture [H, W, C] of floats in 0..1 (a torch tensor or an array; C = 1, 3 or 4) -> uint8 [H, W, 3].

    Raises:
        PhotoError: another shape, or numbers that are not finite.
    """
    array = np.asarray(image.detach().cpu().float().numpy() if hasattr(image, "detach") else image, np.float32)
    if array.ndim != 3:
        raise PhotoError(f"Expected one picture of shape [H, W, C], found {list(array.shape)}. Take one out of the batch.")
    return _from_array(array)


def _from_file(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    if path.is_dir():
        raise PhotoError(f"{path} is a folder; expected a picture file. Name one file in it.")
    if not path.is_file():
        raise PhotoError(f"There is no photo at {path}.")
    if not path.stat().st_size:
        raise PhotoError(f"{path} is empty (0 bytes). Copy or download the photo again.")
    try:
        with Image.open(path) as picture:
            return _from_pil(picture, str(path))
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(f"{path} is not a picture that can be read. Use a JPEG, PNG or WebP file.") from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{path} is larger than {MAX_PIXELS // 10**6} megapixels. Reduce it first.") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise PhotoError(f"{path} is damaged and cannot be read ({error}). Copy or download the photo again.") from error


def _from_pil(picture: Image.Image, name: str) -> np.ndarray:
    from PIL import Image, ImageOps

    _check_size(picture.height, picture.width, name)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        return _from_array(_deep_grey(picture))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"))


def _deep_grey(picture: Image.Image) -> np.ndarray:
    """Pillow's one-channel pictures of more than 8 bits -> float [H, W] in 0..1."""
    grey = np.asarray(picture).astype(np.float64)
    if not np.isfinite(grey).all():
        raise PhotoError("The photo holds numbers that are not finite (NaN or infinity). Export it again.")
    if picture.mode.startswith("F") and grey.size and grey.max() <= 1:
        return grey.clip(0, 1)
    return (grey / (65535 if grey.max() > 255 else 255)).clip(0, 1)


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise PhotoError(f"Expected a picture of shape [H, W], [H, W, 3] or [H, W, 4], found {list(array.shape)}.")
    _check_size(array.shape[0], array.shape[1], "The picture")
    if array.dtype == np.uint8 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    unit = _to_unit(array)
    if unit.shape[2] == 4:
        alpha = unit[..., 3:]
        unit = unit[..., :3] * alpha + (1 - alpha)
    photo = np.round(unit * 255).astype(np.uint8)
    return np.repeat(photo, 3, axis=2) if photo.shape[2] == 1 else photo


def _to_unit(array: np.ndarray) -> np.ndarray:
    """Any accepted type -> float32 in 0..1."""
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16):
        return array.astype(np.float32) / np.iinfo(array.dtype).max
    if not np.issubdtype(array.dtype, np.floating):
        raise PhotoError(f"Expected a picture of uint8, uint16 or float, found {array.dtype}.")
    if not np.isfinite(array).all():
        raise PhotoError("The picture holds numbers that are not finite (NaN or infinity). Load or make it again.")
    if array.min() < -0.5 or array.max() > 1.5:
        raise PhotoError(f"Expected a float picture in 0..1, found {array.min():g} to {array.max():g}. Divide 0..255 values by 255.")
    return array.astype(np.float32).clip(0, 1)


def _check_size(height: int, width: int, name: str) -> None:
    if min(height, width) < MIN_SIDE:
        raise PhotoError(f"{name} is {width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed. Use a photo with a visible face.")
    if height * width > MAX_PIXELS:
        raise PhotoError(f"{name} is {width} x {height} pixels; at most {MAX_PIXELS // 10**6} megapixels can be read. Reduce it first.")
