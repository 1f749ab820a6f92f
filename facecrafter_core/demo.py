"""The demo: one photo -> a captioned contact sheet that shows identity, landmarks and emotion, alone and together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import PhotoError, about
from .files import check_place, write_picture
from .studio import DEMO_FOLDER, Studio

if TYPE_CHECKING:
    from PIL import Image

SECOND_FACE = DEMO_FOLDER / "samples" / "portrait_4.jpg"
"""Whose pose and expression the demo copies unless another photo is given: a rendered person's."""

SHOWN_EMOTIONS = ("happy", "sad", "surprise")


@dataclass(frozen=True)
class Cell:
    """One picture of the contact sheet; `name` is its file's."""

    name: str
    caption: str
    picture: np.ndarray


def run_demo(
    photo: Path | None = None, driving: Path | None = None, out: Path = Path("output"), folder: Path = DEMO_FOLDER, seed: int = 0, steps: int = 20
) -> Path:
    """Writes out/demo.png and the single pictures to out/demo/; says on the terminal what it does.

    Args:
        photo: the person; None takes scikit-image's astronaut.
        driving: whose pose and expression to copy; None takes a portrait that comes with the demo.

    Returns:
        Path of the contact sheet.

    Raises:
        PhotoError, NoFaceError: a photo cannot be used. ModelError: no demo model. OutputError: nothing can be written there.
    """
    from tqdm import tqdm

    from .diffusion.guidance import Guidance
    from .faces.drawing import draw_landmarks
    from .faces.emotion import Emotion
    from .faces.photo import load_photo

    check_place(out / "demo.png")
    start = time.perf_counter()
    person = load_photo(photo) if photo else astronaut()
    other = load_photo(driving or SECOND_FACE)
    studio = Studio(folder)
    names = str(photo or "the astronaut of scikit-image"), str(driving or f"{SECOND_FACE.name} of the demo")
    identity = studio.identity([person], names=names[:1])
    with about(names[1]):
        face = studio.driving_face(other)
    shown = studio.driving_face(person)
    print(f"Photo: {names[0]}. Second face: {names[1]}.")
    print(f"Loaded the model and read both faces in {time.perf_counter() - start:.1f} s.")

    emotions = {name: Emotion.preset(name) for name in SHOWN_EMOTIONS}
    wanted = [
        ("identity", "identity only", None, None),
        ("landmarks", "identity + landmarks", face.landmarks, None),
        ("both", "identity + landmarks + sad", face.landmarks, emotions["sad"]),
        *((f"emotion_{name}", f"identity + {name}", None, emotion) for name, emotion in emotions.items()),
    ]
    start = time.perf_counter()
    made = []
    with tqdm(total=len(wanted) * steps, desc="Painting", unit="step", leave=False, disable=None) as bar:

        def advance(*_: object) -> None:
            bar.update()

        for name, caption, landmarks, emotion in wanted:
            pictures = studio.pipe(
                identity, landmarks, emotion, guidance=Guidance(), steps=steps, seed=seed, output_type="np", callback_on_step_end=advance
            )
            made.append(Cell(name, caption, np.round(pictures[0] * 255).astype(np.uint8)))
    print(f"Made {len(made)} pictures of {studio.image_size} x {studio.image_size} in {time.perf_counter() - start:.1f} s ({steps} steps each).")

    given = [
        Cell("photo", "the photo", shown.image),
        Cell("second_face", "a second face", face.image),
        Cell("second_face_landmarks", "its landmarks", draw_landmarks(face.landmarks, studio.image_size)),
    ]
    for cell in [*given, *made]:
        write_picture(out / "demo" / f"{cell.name}.png", cell.picture)
    sheet = write_picture(out / "demo.png", contact_sheet([*given, *made], columns=3))
    print(f"Wrote {sheet} and the single pictures in {out / 'demo'}.")
    return sheet


def astronaut() -> np.ndarray:
    """scikit-image's photo of Eileen Collins (NASA, public domain), uint8 [512, 512, 3]."""
    try:
        from skimage import data
    except ImportError as error:
        raise PhotoError("The demo's own photo comes from scikit-image, which is not installed. Give one with --photo, or pip install scikit-image.") from error
    return data.astronaut()


def contact_sheet(cells: list[Cell], columns: int, gap: int = 12) -> Image.Image:
    """Square pictures of one size, with their captions below them, row by row."""
    from PIL import Image, ImageDraw, ImageFont

    size = len(cells[0].picture)
    line = max(20, size // 10)
    font = ImageFont.load_default(size=line * 0.62)
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (size + gap) + gap, rows * (size + line + gap) + gap), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    for i, cell in enumerate(cells):
        x, y = gap + i % columns * (size + gap), gap + i // columns * (size + line + gap)
        sheet.paste(Image.fromarray(cell.picture), (x, y))
        draw.text((x + size / 2, y + size + line / 2), cell.caption, font=font, fill=(40, 40, 40), anchor="mm")
    return sheet
