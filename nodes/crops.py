"""Faces in whole pictures: cut out, put back, and marked one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from comfy_api.latest import io

from ..facecrafter_core.batch import picture_names
from ..facecrafter_core.errors import PhotoError, about
from .faces import (
    CHOICES,
    FACELESS,
    MOST_FACE_NUMBER,
    choice,
    choice_inputs,
    faceless_input,
    find_in,
    is_first,
    landmarker,
    skipped_output,
)
from .host.adapter import FaceCrafter
from .pictures import to_photos, to_pictures
from .types import CATEGORY, Crafter, FaceCrops, Landmarks

if TYPE_CHECKING:
    from ..facecrafter_core.faces.landmarker import Face
    from ..facecrafter_core.faces.paste import FaceCrop

SMALLEST = 32
SHAPES = ("oval", "square")
WHICH_OF_ALL = "Which face, when a picture shows several. 'all': every face, from left to right."


@dataclass(frozen=True, eq=False)
class Crops:
    """What flows through an FC_CROP socket: pictures float32 [H, W, 3] in 0..1, and the faces cut out of them."""

    pictures: list[np.ndarray]
    faces: list[FaceCrop]


def smallest_input() -> io.Input:
    return io.Int.Input(
        "smallest",
        default=SMALLEST,
        min=SMALLEST,
        max=4096,
        tooltip="Smaller faces, in pixels of the longer side, are left out when all are taken.",
    )


def mask_inputs() -> list[io.Input]:
    share = "in shares of the face's square"
    return [
        io.Combo.Input(
            "shape",
            options=list(SHAPES),
            default=SHAPES[0],
            tooltip="'oval': forehead to chin. 'square': all that the portrait shows, hair and neck too.",
        ),
        io.Float.Input(
            "grow",
            default=0.05,
            min=-0.2,
            max=0.5,
            step=0.01,
            tooltip=f"How far the mask reaches beyond its shape, {share}.",
        ),
        io.Float.Input(
            "feather", default=0.05, min=0.0, max=0.5, step=0.01, tooltip=f"Width of the mask's soft edge, {share}."
        ),
    ]


def chosen_faces(photo: np.ndarray, face: str, face_number: int, smallest: int) -> list[Face]:
    finder = landmarker()
    if face == "all":
        return finder.find_faces(photo, smallest)
    return [finder.find_face(photo, choice(face, face_number))]


class FaceCrafterFaceCrop(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterFaceCrop",
            display_name="Face Crop",
            category=CATEGORY,
            description="Takes faces out of whole pictures as the squares that FaceCrafter paints, with their landmarks, their masks, and what "
            "Face Paste needs to put new faces in their places.",
            inputs=[
                Crafter.Input("facecrafter", tooltip="From Load FaceCrafter; its picture size becomes the square's."),
                io.Image.Input("photo", tooltip="A whole picture, or a batch."),
                *choice_inputs((*CHOICES, "all"), WHICH_OF_ALL),
                smallest_input(),
                io.Boolean.Input(
                    "upright",
                    default=False,
                    tooltip="On: the square turns with a tilted head. Off: the head keeps its tilt.",
                ),
                io.Float.Input(
                    "margin",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Widens the square. The models know it as it is at 0.",
                ),
                *mask_inputs(),
                faceless_input("Face Paste leaves them as they are."),
            ],
            outputs=[
                io.Image.Output(id="faces", display_name="FACES", tooltip="The squares, as a batch."),
                Landmarks.Output(
                    id="landmarks", display_name="LANDMARKS", tooltip="Of each square: keeps its pose and expression."
                ),
                io.Mask.Output(
                    id="masks", display_name="MASKS", tooltip="Of each square: for Set Latent Noise Mask, and as pasted."
                ),
                FaceCrops.Output(id="crop", display_name="CROP", tooltip="For Face Paste."),
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
        smallest: int,
        upright: bool,
        margin: float,
        shape: str,
        grow: float,
        feather: float,
        faceless: str = FACELESS[0],
    ) -> io.NodeOutput:
        from ..facecrafter_core.faces.paste import crop_face

        size, pictures, names = facecrafter.family.image_size, to_pictures(photo, "photo"), picture_names("photo", len(photo))
        stop = is_first(faceless, FACELESS, "faceless")
        seen = find_in(to_photos(photo, "photo"), names, lambda p: chosen_faces(p, face, face_number, smallest), stop)
        crops = [
            crop_face(picture, found.landmarks, size, upright, margin, shape, grow, feather, number)
            for number, (picture, faces) in enumerate(zip(pictures, seen, strict=True))
            for found in faces or ()
        ]
        images, landmarks, masks = (
            torch.from_numpy(np.stack([getattr(crop, name) for crop in crops]))
            for name in ("image", "landmarks", "mask")
        )
        return io.NodeOutput(images, landmarks, masks, Crops(pictures, crops), seen.count(None))


class FaceCrafterFacePaste(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterFacePaste",
            display_name="Face Paste",
            category=CATEGORY,
            description="Puts new faces where Face Crop took the old ones. Outside of the mask the picture stays as it is, bit for bit.",
            inputs=[
                FaceCrops.Input("crop", tooltip="From Face Crop."),
                io.Image.Input(
                    "faces",
                    tooltip="One new face for each that was cut out, in the same order. Twice as many give two pictures, and so on.",
                ),
                io.Combo.Input(
                    "colour",
                    options=["keep", "match"],
                    default="keep",
                    tooltip="'match': mean and spread of each CIELAB channel become the old face's (Reinhard's colour transfer).",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="Replaces the masks of Face Crop: one for all, or one for each face.",
                ),
            ],
            outputs=[io.Image.Output(id="image", display_name="IMAGE", tooltip="The whole pictures.")],
        )

    @classmethod
    def execute(cls, crop: Crops, faces: torch.Tensor, colour: str, masks: Any = None) -> io.NodeOutput:
        from ..facecrafter_core.faces.paste import paste_face

        new, count = to_pictures(faces, "faces"), len(crop.faces)
        if len(new) % count:
            raise PhotoError(
                f"Expected {count} new faces for the {count} that were cut out, or a multiple of that, found {len(new)}. "
                "Sample one for each: their landmarks and identities are batches in the same order."
            )
        own = mask_batch(masks, count)
        pasted = []
        for first in range(0, len(new), count):
            pictures = list(crop.pictures)
            for i, hole in enumerate(crop.faces):
                pictures[hole.picture] = paste_face(pictures[hole.picture], new[first + i], hole, own[i], colour)
            pasted += pictures
        return io.NodeOutput(torch.from_numpy(np.stack(pasted)))


def mask_batch(masks: torch.Tensor | None, count: int) -> list[np.ndarray | None]:
    """MASK [count, S, S], [1, S, S] or [S, S], or nothing -> one for each face."""
    if masks is None:
        return [None] * count
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.ndim != 3 or len(masks) not in (1, count):
        raise PhotoError(f"Expected one mask, or {count} for the {count} faces, found shape {list(masks.shape)}.")
    return [mask.cpu().float().numpy() for mask in masks.expand(count, -1, -1)]


class FaceCrafterFaceMasks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterFaceMasks",
            display_name="Face Masks",
            category=CATEGORY,
            description="A mask for each face of a picture, from left to right, so that several people in one picture can each have their own "
            "identity and emotion: give each mask to a Conditioning (Set Mask) with 'mask bounds', and combine them.",
            inputs=[
                io.Image.Input("photo", tooltip="One picture that shows all the faces."),
                io.Int.Input(
                    "face_number", default=0, min=0, max=MOST_FACE_NUMBER, tooltip="Which mask comes out of MASK; 0 is the leftmost."
                ),
                smallest_input(),
                *mask_inputs(),
            ],
            outputs=[
                io.Mask.Output(id="mask", display_name="MASK", tooltip="The mask of the face with this number."),
                io.Mask.Output(id="masks", display_name="MASKS", tooltip="All masks as a batch, from left to right."),
                io.Mask.Output(
                    id="union", display_name="ALL FACES", tooltip="All masks in one: for Set Latent Noise Mask."
                ),
                io.Int.Output(id="count", display_name="COUNT", tooltip="How many faces there are."),
            ],
        )

    @classmethod
    def execute(
        cls, photo: torch.Tensor, face_number: int, smallest: int, shape: str, grow: float, feather: float
    ) -> io.NodeOutput:
        from ..facecrafter_core.errors import FaceChoiceError
        from ..facecrafter_core.faces.paste import face_region

        photos = to_photos(photo, "photo")
        if len(photos) > 1:
            raise PhotoError(f"Expected one picture with all the faces, found a batch of {len(photos)}. Take one out.")
        with about("photo"):
            faces = landmarker().find_faces(photos[0], smallest)
        if face_number >= len(faces):
            raise FaceChoiceError(
                f"Face number {face_number} was asked for, but the photo has {len(faces)} (numbers 0 to {len(faces) - 1}, from the left)."
            )
        size = photos[0].shape[:2]
        masks = torch.stack(
            [torch.from_numpy(face_region(face.landmarks, size, shape, grow, feather)) for face in faces]
        )
        return io.NodeOutput(masks[face_number : face_number + 1], masks, masks.amax(0, keepdim=True), len(faces))
