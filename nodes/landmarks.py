"""Landmarks by hand: turn the head, change the expression, take them over from another face, or take the expression away."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..facecrafter_core.faces.edit import EXPRESSION_SOURCES, POSE_SOURCES
from .pictures import to_image
from .types import CATEGORY, Landmarks, needed


def drawing_size_input() -> io.Input:
    return io.Int.Input(
        "drawing_size", default=256, min=64, max=2048, step=64, tooltip="Side of the drawing in pixels; the landmarks stay the same."
    )


def landmark_outputs() -> list[io.Output]:
    return [
        Landmarks.Output(id="edited", display_name="LANDMARKS", tooltip="478 points a face, in units of the picture."),
        io.Image.Output(id="drawing", display_name="DRAWING", tooltip="The landmarks, drawn as the adapter sees them."),
    ]


def drawn(landmarks: Any, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Landmarks [N, 478, 3] -> the two sockets of landmark_outputs."""
    from ..facecrafter_core.faces.drawing import draw_landmarks

    return torch.as_tensor(landmarks).float(), to_image([draw_landmarks(face, size) for face in landmarks])


class FaceCrafterEditLandmarks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        angle = {"default": 0.0, "min": -90.0, "max": 90.0, "step": 0.5}
        return io.Schema(
            node_id="FaceCrafterEditLandmarks",
            display_name="Edit Landmarks",
            category=CATEGORY,
            description="Turns the head in 3-D, changes the expression by facial actions, moves parts of the face. Works on landmarks of a photo "
            "(a batch: all of them), or on a built-in neutral face.",
            inputs=[
                io.Float.Input("yaw", **angle, tooltip="Turns the head by so many degrees; positive is to the picture's right."),
                io.Float.Input("pitch", **angle, tooltip="Tilts the head by so many degrees; positive looks up."),
                io.Float.Input("roll", **angle, tooltip="Rolls the head by so many degrees; positive is clockwise."),
                io.String.Input(
                    "expression",
                    default="",
                    tooltip="Facial actions to add: names and weights, such as 'smile 0.6, jawOpen 0.3, eyeBlinkLeft 1'. ARKit's names, or groups such as "
                    "smile, frown, blink, browUp, gazeLeft. 1 is the full action; negative goes the other way.",
                ),
                io.String.Input(
                    "moves",
                    default="",
                    tooltip="Parts to move right and down, in units of the picture, such as 'leftBrow 0 -0.02, mouth 0.01 0'. Parts: leftBrow, rightBrow, "
                    "leftEye, rightEye, nose, mouth, chin.",
                ),
                io.Combo.Input(
                    "pose", options=list(POSE_SOURCES), default=POSE_SOURCES[0], tooltip="Which head angles to start from: hold the first face's for a whole batch, or look ahead."
                ),
                io.Combo.Input(
                    "base_expression",
                    options=list(EXPRESSION_SOURCES),
                    default=EXPRESSION_SOURCES[0],
                    tooltip="Which expression to start from: hold the first face's for a whole batch, or begin with a neutral one.",
                ),
                drawing_size_input(),
                Landmarks.Input("landmarks", optional=True, tooltip="What to edit. Open: the built-in neutral face."),
                io.Image.Input("photo", optional=True, tooltip="FACES of Extract Landmarks: shown behind the points in the editor, nothing else."),
            ],
            outputs=landmark_outputs(),
            is_output_node=True,  # so that Run shows the face in the editor even if nothing is connected, or all is cached
        )

    @classmethod
    def execute(
        cls,
        yaw: float,
        pitch: float,
        roll: float,
        expression: str,
        moves: str,
        pose: str,
        base_expression: str,
        drawing_size: int,
        landmarks: torch.Tensor | None = None,
        photo: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..facecrafter_core.faces.edit import (
            chosen,
            edit,
            editor_state,
            neutral_landmarks,
            parse_expression,
            parse_moves,
        )

        faces = neutral_landmarks()[None] if landmarks is None else landmarks.numpy()
        edited = edit(faces, (yaw, pitch, roll), parse_expression(expression), parse_moves(moves), pose, base_expression)
        shown: dict[str, Any] = {"fc_landmarks": [editor_state(chosen(faces[0], faces[0], pose, base_expression))]}
        if photo is not None:
            shown["fc_photo"] = ui.PreviewImage(photo[:1], cls=cls).as_dict()["images"]
        return io.NodeOutput(*drawn(edited, drawing_size), ui=shown)


class FaceCrafterRetargetLandmarks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterRetargetLandmarks",
            display_name="Retarget Landmarks",
            category=CATEGORY,
            description="Pose and expression of one face on the face shape of another: copy someone's pose without copying how wide their face is.",
            inputs=[
                Landmarks.Input("source", tooltip="Whose pose and expression to take. A batch gives a batch."),
                Landmarks.Input("shape", tooltip="Whose proportions to keep: landmarks of the person who is generated."),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05, tooltip="1 takes the proportions wholly, 0 leaves the source's."
                ),
                drawing_size_input(),
            ],
            outputs=landmark_outputs(),
        )

    @classmethod
    def execute(cls, source: torch.Tensor, shape: torch.Tensor, strength: float, drawing_size: int) -> io.NodeOutput:
        from ..facecrafter_core.faces.edit import retarget_all

        return io.NodeOutput(*drawn(retarget_all(needed(source, "landmarks").numpy(), needed(shape, "landmarks").numpy(), strength), drawing_size))


class FaceCrafterStripExpression(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterStripExpression",
            display_name="Strip Expression",
            category=CATEGORY,
            description="Takes the expression off landmarks: the same face and pose, neutral. Then an emotion, or Edit Landmarks, decides alone.",
            inputs=[
                Landmarks.Input("landmarks", tooltip="From Extract Landmarks."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05, tooltip="1 is neutral, 0 changes nothing."),
                drawing_size_input(),
            ],
            outputs=landmark_outputs(),
        )

    @classmethod
    def execute(cls, landmarks: torch.Tensor, strength: float, drawing_size: int) -> io.NodeOutput:
        from ..facecrafter_core.faces.edit import strip_expression

        return io.NodeOutput(*drawn([strip_expression(face, strength) for face in needed(landmarks, "landmarks").numpy()], drawing_size))
