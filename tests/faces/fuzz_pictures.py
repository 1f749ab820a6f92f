"""Damaged picture files of every format that Pillow writes -> each is read, or refused in one sentence.

    python tests/faces/fuzz_pictures.py [--count 20000] [--first 0]

A number makes one file, always the same for a version of Pillow. Exit code 1: some were neither; their numbers are printed.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from facecrafter_core.errors import PhotoError  # noqa: E402
from facecrafter_core.faces.photo import photo_from_bytes  # noqa: E402

FORMS = (
    ("JPEG", "RGB", {"quality": 80}), ("JPEG", "CMYK", {"progressive": True}), ("JPEG", "L", {"optimize": True}), ("PNG", "RGBA", {}), ("PNG", "P", {}),
    ("PNG", "I;16", {}), ("PNG", "1", {}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}), ("BMP", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "F", {}), ("TIFF", "RGBA", {"compression": "tiff_deflate"}), ("TIFF", "1", {"compression": "group4"}),
    ("AVIF", "RGB", {}), ("AVIF", "RGBA", {}), ("JPEG2000", "RGB", {}), ("DDS", "RGBA", {"pixel_format": "DXT5"}), ("DDS", "RGB", {}), ("ICO", "RGBA", {}),
    ("TGA", "RGBA", {"compression": "tga_rle"}), ("PPM", "RGB", {}), ("PCX", "RGB", {}), ("SGI", "RGB", {}), ("IM", "RGB", {}), ("MPO", "RGB", {}),
)  # fmt: skip
"""Format, mode and options of the whole files."""

EXIF_FORMS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "MPO")


def whole_files() -> list[tuple[str, bytes]]:
    """One file of each of FORMS that this Pillow can write, some with EXIF."""
    colours = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
    picture = Image.fromarray(colours).resize((48, 40), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    files = []
    for form, mode, options in FORMS:
        shown = picture.convert("RGB").convert("L").convert("I").convert("I;16") if mode == "I;16" else picture.convert("RGB").convert(mode)
        buffer = io.BytesIO()
        try:
            shown.save(buffer, form, **options, **({"exif": exif} if form in EXIF_FORMS else {}))
        except (KeyError, OSError, ValueError):  # not built into this Pillow
            continue
        files.append((f"{form} {mode}", buffer.getvalue()))
    return files


def damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One or two kinds of damage: single bytes, runs of bytes, a cut, a hole, a piece of another file; mostly near the head, where sizes stand."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 3)):
        reach = min(len(content), int(rng.choice([32, 256, len(data)]))) or 1
        at, length = int(rng.integers(reach)), int(rng.integers(1, 33))
        match int(rng.integers(6)):
            case 0:
                for _ in range(rng.integers(1, 9)):
                    place = int(rng.integers(reach))
                    content[place : place + 1] = bytes([rng.integers(256)])
            case 1:
                content[at : at + length] = bytes([rng.choice([0, 1, 127, 128, 255])]) * length
            case 2:
                del content[int(rng.integers(len(content) + 1)) :]
            case 3:
                del content[at : at + length]
            case 4:
                start = int(rng.integers(len(other)))
                content[at:at] = other[start : start + length]
            case 5:
                content[at : at + length] = rng.bytes(length)
    return bytes(content)


def fuzz(numbers: range) -> Iterator[tuple[int, str, str, float]]:
    """(number, form, "read", "refused" or what is wrong, seconds) of each damaged file."""
    files = whole_files()
    for number in numbers:
        rng = np.random.default_rng(number)
        form, data = files[number % len(files)]
        content = damaged(data, files[int(rng.integers(len(files)))][1], rng)
        start, warned = time.perf_counter(), []
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                photo = photo_from_bytes(content, "the file")
            outcome = "read" if photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3 else f"gives {photo.dtype} {photo.shape}"
        except PhotoError as error:
            sentence = str(error)
            outcome = "refused" if sentence.startswith("the file") and "\n" not in sentence and sentence.isprintable() else f"is said in no sentence: {sentence!r}"
        except Exception as error:
            outcome = f"raises {type(error).__name__}: {error}"
        yield number, form, f"warns: {warned[0].message}" if warned else outcome, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    logging.disable()
    outcomes: Counter[str] = Counter()
    start, slowest = time.perf_counter(), (0.0, 0)
    for number, form, outcome, seconds in fuzz(range(args.first, args.first + args.count)):
        outcomes[outcome if outcome in ("read", "refused") else "wrong"] += 1
        slowest = max(slowest, (seconds, number))
        if outcome not in ("read", "refused"):
            print(f"{number} ({form}) {outcome}", flush=True)
    print(f"{dict(outcomes)} of {args.count} in {time.perf_counter() - start:.0f} s; the slowest, {slowest[1]}, took {slowest[0]:.1f} s")
    raise SystemExit(1 if outcomes["wrong"] else 0)


if __name__ == "__main__":
    main()
