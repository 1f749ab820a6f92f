"""Photos -> identity and landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..facecrafter_core.batch import picture_names
from ..facecrafter_core.errors import FaceChoiceError, NoFaceError, about
from .host.adapter import DEMO_FOLDER, FaceCrafter
from .pictures import sample_names, sample_path, to_image, to_photos, to_square
from .types import CATEGORY, Crafter, Identity, Landmarks

CHOICES = ("largest", "only one", "by number")
MISSING = ("stop", "fill the gap")
FACELESS = ("stop", "skip")
Found = TypeVar("Found")
MOST_FACE_NUMBER = 999
"""Above any photo's: all faces are found, also of crowds."""
WHICH = "Which face, when a photo shows several. 'only one' stops with an error instead of choosing."


@lru_cache(maxsize=1)
def landmarker() -> Any:
    """The one FaceLandmarker of this process."""
    from ..facecrafter_core.faces.landmarker import FaceLandmarker

    return FaceLandmarker()


@lru_cache(maxsize=2)
def identity_encoder(family: str) -> Any:
    """The identity encoder of a family, on the CPU: what ONNX Runtime takes on a GPU, ComfyUI could neither count nor have back.

    Raises:
        ModelError, AssetError: its files or packages are missing.
    """
    from ..facecrafter_core.faces.identity import load_identity_encoder

    return load_identity_encoder(family, DEMO_FOLDER if family == "demo" else None)


def choice_inputs(options: tuple[str, ...] = CHOICES, tooltip: str = WHICH) -> list[io.Input]:
    """The two inputs that say which face of a photo is meant."""
    return [
        io.Combo.Input("face", options=list(options), default=options[0], tooltip=tooltip),
        io.Int.Input(
            "face_number", default=0, min=0, max=MOST_FACE_NUMBER, tooltip="With 'by number': counted from 0, left to right."
        ),
    ]


def choice(face: str, face_number: int) -> str | int:
    """The two inputs -> find_face's `choose`.

    Raises:
        FaceChoiceError: no such choice; ComfyUI lets every value through where a prompt comes over its API.
    """
    if face not in CHOICES:
        raise FaceChoiceError(f"Expected the face as one of {', '.join(CHOICES)}, found {face!r}.")
    return face_number if face == "by number" else {"largest": "largest", "only one": "only"}[face]


def faceless_input(what: str) -> io.Input:
    """What to do with pictures without a face. Optional, since workflows of before this input have no value for it."""
    return io.Combo.Input(
        "faceless",
        options=list(FACELESS),
        default=FACELESS[0],
        optional=True,
        tooltip=f"Pictures without a face: stop with an error, or skip them. {what} SKIPPED says how many.",
    )


def skipped_output() -> io.Output:
    return io.Int.Output(id="skipped", display_name="SKIPPED", tooltip="How many pictures had no face and were skipped.")


def is_first(value: str, options: Sequence[str], name: str) -> bool:
    """Whether it is the first of two choices, which is to stop.

    Raises:
        FaceChoiceError: no such choice; see choice.
    """
    if value not in options:
        raise FaceChoiceError(f"Expected {name} as one of {', '.join(options)}, found {value!r}.")
    return value == options[0]


def find_in(photos: Sequence[np.ndarray], names: Sequence[str], find: Callable[[np.ndarray], Found], stop: bool = True) -> list[Found | None]:
    """What `find` finds in each photo; None for one without a face.

    Raises:
        NoFaceError: a photo without a face, or, with `stop` off, none of the photos has one. Errors of `find` begin with the photo's name.
    """
    found: list[Found | None] = []
    for photo, name in zip(photos, names, strict=True):
        try:
            with about(name):
                found.append(find(photo))
        except NoFaceError:
            if stop or len(photos) == 1:
                raise
            found.append(None)
    if all(one is None for one in found):
        raise NoFaceError(f"No face was found in any of the {len(photos)} pictures. Use pictures in which a face is seen.")
    return found


class FaceCrafterSamplePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = sample_names()
        return io.Schema(
            node_id="FaceCrafterSamplePortrait",
            display_name="Sample Portrait",
            category=CATEGORY,
            description="One of the portraits that come with FaceCrafter, so that a workflow runs at once. Replace it by Load Image.",
            inputs=[
                io.Combo.Input(
                    "portrait",
                    options=names,
                    default=names[0] if names else None,
                    tooltip="A rendered person; no real one.",
                )
            ],
            outputs=[io.Image.Output(id="image", display_name="IMAGE", tooltip="The portrait.")],
        )

    @classmethod
    def execute(cls, portrait: str) -> io.NodeOutput:
        from ..facecrafter_core.faces.photo import load_photo

        image = to_image([load_photo(sample_path(portrait))])
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))


class FaceCrafterEncodeIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterEncodeIdentity",
            display_name="Encode Identity",
            category=CATEGORY,
            description="Who it is: one or several photos of one person -> the identity, averaged over the photos.",
            inputs=[
                Crafter.Input("facecrafter", tooltip="From Load FaceCrafter; says which identity encoder is needed."),
                io.Image.Input(
                    "photo", tooltip="A photo of the person. All pictures of a batch are taken for the same person."
                ),
                *choice_inputs(),
                io.Image.Input("photo_2", optional=True, tooltip="A further photo of the same person."),
                io.Image.Input("photo_3", optional=True, tooltip="A further photo of the same person."),
                io.Image.Input("photo_4", optional=True, tooltip="A further photo of the same person."),
                io.Boolean.Input(
                    "one_each",
                    default=False,
                    optional=True,
                    tooltip="On: every picture is a person of its own, as the FACES of Face Crop are, and a batch of identities comes out.",
                ),
                faceless_input("The identity is that of the other pictures."),
            ],
            outputs=[
                Identity.Output(
                    id="identity", display_name="IDENTITY", tooltip="The identity: a unit vector, or a batch of them."
                ),
                io.Image.Output(
                    id="crops", display_name="FACES", tooltip="What the encoder saw: the aligned face of each photo."
                ),
                skipped_output(),
            ],
        )

    @classmethod
    def execute(
        cls,
        facecrafter: FaceCrafter,
        photo: torch.Tensor,
        face: str,
        face_number: int,
        photo_2: torch.Tensor | None = None,
        photo_3: torch.Tensor | None = None,
        photo_4: torch.Tensor | None = None,
        one_each: bool = False,
        faceless: str = FACELESS[0],
    ) -> io.NodeOutput:
        from ..facecrafter_core.faces.align import align_face
        from ..facecrafter_core.faces.identity import encode_identity

        photos, names = [], []
        for name, given in (("photo", photo), ("photo_2", photo_2), ("photo_3", photo_3), ("photo_4", photo_4)):
            if given is not None or name == "photo":
                batch = to_photos(given, name)
                photos, names = photos + batch, names + picture_names(name, len(batch))
        finder, which, size = landmarker(), choice(face, face_number), facecrafter.family.image_size
        crops = find_in(
            photos, names, lambda p: align_face(p, finder.find_face(p, which).landmarks, size=size, rotate=True).image,
            is_first(faceless, FACELESS, "faceless"),
        )  # fmt: skip
        people = [[i] for i, crop in enumerate(crops) if crop is not None]
        groups = people if one_each else [[i for [i] in people]]
        encoder = identity_encoder(facecrafter.family.name)
        identities = [encode_identity([photos[i] for i in group], finder, encoder, which, [names[i] for i in group]) for group in groups]
        return io.NodeOutput(torch.stack(identities), to_image([crops[i] for [i] in people]), len(photos) - len(people))


class FaceCrafterExtractLandmarks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterExtractLandmarks",
            display_name="Extract Landmarks",
            category=CATEGORY,
            description="Pose and expression: a photo of anyone -> 478 landmarks in the picture to be made, and their drawing. "
            "A batch of photos gives a batch of landmarks: one new portrait each.",
            inputs=[
                io.Image.Input("photo", tooltip="Whose pose and expression to copy; need not be the same person."),
                *choice_inputs(),
                io.Int.Input(
                    "drawing_size",
                    default=256,
                    min=64,
                    max=2048,
                    step=64,
                    tooltip="Side of the drawing in pixels; the landmarks stay the same.",
                ),
                io.Combo.Input(
                    "missing",
                    options=list(MISSING),
                    default=MISSING[0],
                    optional=True,  # workflows of before this input have no value for it
                    tooltip="Pictures of a batch without a face: stop with an error, or (for videos) fill the gap between the faces before and after. "
                    "FILLED says how many.",
                ),
            ],
            outputs=[
                Landmarks.Output(
                    id="landmarks", display_name="LANDMARKS", tooltip="478 points a face, in units of the picture."
                ),
                io.Image.Output(
                    id="drawing", display_name="DRAWING", tooltip="The landmarks, drawn as the adapter sees them."
                ),
                io.Image.Output(
                    id="crops", display_name="FACES", tooltip="The part of each photo that the picture will show."
                ),
                io.Int.Output(id="filled", display_name="FILLED", tooltip="How many pictures had no face and were filled."),
            ],
        )

    @classmethod
    def execute(
        cls, photo: torch.Tensor, face: str, face_number: int, drawing_size: int, missing: str = MISSING[0]
    ) -> io.NodeOutput:
        from ..facecrafter_core.faces.align import align_face
        from ..facecrafter_core.faces.drawing import draw_landmarks
        from ..facecrafter_core.schedule import fill_missing

        finder, which, photos = landmarker(), choice(face, face_number), to_photos(photo, "photo")
        aligned = find_in(
            photos, picture_names("photo", len(photos)),
            lambda p: align_face(p, finder.find_face(p, which).landmarks, size=drawing_size, rotate=False), is_first(missing, MISSING, "missing"),
        )  # fmt: skip
        landmarks, filled = fill_missing([a and a.landmarks for a in aligned])
        drawings = [draw_landmarks(points, drawing_size) for points in landmarks]
        crops = [to_square(p, drawing_size) if a is None else a.image for p, a in zip(photos, aligned, strict=True)]
        return io.NodeOutput(torch.from_numpy(landmarks), to_image(drawings), to_image(crops), filled)
