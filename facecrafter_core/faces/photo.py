"""Pictures of every kind -> photos: uint8 [H, W, 3], RGB, upright."""

from __future__ import annotations

import contextlib
import io
import math
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE = 16
"""Smallest side of a photo, in pixels."""

MAX_PIXELS = 256_000_000
"""Largest photo; beyond it a few bytes on disk may stand for gigabytes in memory. Phones make up to 201 megapixels."""

KEPT_PIXELS = 64_000_000
"""Larger photos are halved, or reduced further: JPEG files while they are decoded, which saves time and memory."""

HEIF = {".heic", ".heif"}
"""Pictures of iPhones, which Pillow reads where pillow-heif is installed."""

PROGRAMS = {"EPS"}
"""Pictures that Pillow has Ghostscript execute, whatever the file's name ends in."""

_opening = threading.Lock()


def load_photo(source: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Reads one photo.

    A file's or PIL image's EXIF rotation is applied, transparency is laid over white, grey and palette pictures become RGB, 16 bits
    become 8, and of an animation the first picture counts. A photo of more than KEPT_PIXELS is reduced.

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
        with _in_one_sentence("The picture"):
            _check_size(source.height, source.width, "The picture")
            return _from_pil(source)
    if isinstance(source, (str, Path)):
        return _from_file(Path(os.path.expanduser(source)))  # pathlib's own raises for a user who does not exist
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
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PhotoError(f"There is no photo at {path}.") from error
    except (OSError, ValueError) as error:  # a name that is too long, a folder that is closed; a name with a zero
        raise PhotoError(f"{path} cannot be opened ({_reason(error)}). Correct the path, or its permissions.") from error
    if path.is_dir():
        raise PhotoError(f"{path} is a folder; expected a picture file. Name one file in it.")
    if not path.is_file():
        raise PhotoError(f"{path} is no file; expected a picture file.")
    if not size:
        raise PhotoError(f"{path} is empty (0 bytes). Copy or download the photo again.")
    return _decoded(path, str(path))


def photo_from_bytes(data: bytes, name: str) -> np.ndarray:
    """The content of a picture file -> uint8 [H, W, 3], RGB; see load_photo. name: what errors call it.

    Raises:
        PhotoError: as load_photo.
    """
    return _decoded(io.BytesIO(data), name)


def _decoded(source: Path | io.BytesIO, name: str) -> np.ndarray:
    heif = Path(name).suffix.lower() in HEIF
    if heif:
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
    instead = "Export it as JPEG, or run `pip install pillow-heif`" if heif else "Use a JPEG, PNG or WebP file"
    with _in_one_sentence(name, instead), _opened(source) as picture:
        _check_size(picture.height, picture.width, name)
        if (factor := _factor(picture)) > 1:
            picture.draft(None, (picture.width // factor, picture.height // factor))
        return _from_pil(picture)


@contextlib.contextmanager
def _in_one_sentence(name: str, instead: str = "Use a JPEG, PNG or WebP file") -> Iterator[None]:
    """Whatever Pillow raises -> PhotoError with the picture's name; what it warns of (EXIF that is cut, for one) is not told."""
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PhotoError as error:
        raise error if str(error).startswith(name) else PhotoError(f"{name}: {error}") from error.__cause__
    except UnidentifiedImageError as error:
        raise PhotoError(f"{name} is not a picture that can be read. {instead}.") from error
    except MemoryError as error:
        raise PhotoError(f"{name} is too large for this machine's memory. Reduce it first.") from error
    except PermissionError as error:
        raise PhotoError(f"{name} cannot be opened ({_reason(error)}). Correct its permissions.") from error
    except Exception as error:  # decoders raise almost anything for damaged files: OSError, SyntaxError, RuntimeError, struct.error, ...
        raise PhotoError(f"{name} is damaged and cannot be read ({_reason(error)}). Copy or download the photo again.") from error


def _reason(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return told.strip().rstrip(".") or type(error).__name__


def _opened(source: Path | io.BytesIO) -> Image.Image:
    """Image.open without Pillow's own limit and its warning: MAX_PIXELS is ours. And without EPS: such a picture is a program."""
    from PIL import Image

    Image.init()
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source, formats=[name for name in Image.ID if name not in PROGRAMS])
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _from_pil(picture: Image.Image) -> np.ndarray:
    from PIL import Image

    picture = _upright(picture)
    if picture.mode.startswith(("I", "F")):
        return _from_array(_deep_grey(picture))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("RGB")
    return np.asarray(picture.reduce(factor) if (factor := _factor(picture)) > 1 else picture)


def _factor(picture: Image.Image) -> int:
    """By how much both sides are to be divided, so that at most KEPT_PIXELS are left."""
    return math.ceil(math.sqrt(picture.width * picture.height / KEPT_PIXELS))


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says; EXIF that cannot be read turns nothing. (ImageOps.exif_transpose writes EXIF anew and fails at any odd tag.)"""
    from PIL import Image

    picture.load()
    how = Image.Transpose
    turns = {
        2: how.FLIP_LEFT_RIGHT, 3: how.ROTATE_180, 4: how.FLIP_TOP_BOTTOM, 5: how.TRANSPOSE, 6: how.ROTATE_270, 7: how.TRANSVERSE, 8: how.ROTATE_90
    }  # fmt: skip
    try:
        turn = turns.get(picture.getexif().get(0x0112))
    except Exception:  # whatever its parsers meet: the pixels are whole
        return picture
    return picture if turn is None else picture.transpose(turn)


def _deep_grey(picture: Image.Image) -> np.ndarray:
    """Pillow's one-channel pictures of more than 8 bits -> float [H, W] in 0..1."""
    grey = np.asarray(picture).astype(np.float64)
    if not np.isfinite(grey).all():
        raise PhotoError("The photo holds numbers that are not finite (NaN or infinity). Export it again.")
    if picture.mode.startswith("F") and grey.size and grey.max() <= 1:
        return grey.clip(0, 1)
    deep = picture.mode.startswith("I;16") or grey.max() > 255
    return (grey / (65535 if deep else 255)).clip(0, 1)


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
