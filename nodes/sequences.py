"""Sequences: values that change from picture to picture, and landmarks of videos."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..facecrafter_core.schedule import EASINGS
from .landmarks import drawing_size_input, drawn
from .types import CATEGORY, EmotionVectors, Landmarks, Weights, needed

WEIGHTS = ("identity", "landmark", "emotion")
ANGLES = ("yaw", "pitch", "roll")


def track_input(name: str, example: str, tooltip: str) -> io.Input:
    return io.String.Input(name, default="", tooltip=f"{tooltip} Keyframes 'frame: value', such as '{example}'. Empty: nothing.")


class FaceCrafterBlend(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterBlend",
            display_name="Blend",
            category=CATEGORY,
            description="Between two emotions and between two faces' landmarks. A turning head keeps its shape: angles and shape are blended apart.",
            inputs=[
                io.Float.Input("blend", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="0 is the first, 1 the second."),
                EmotionVectors.Input("emotion_1", optional=True, tooltip="The first emotion."),
                EmotionVectors.Input("emotion_2", optional=True, tooltip="The second emotion."),
                Landmarks.Input("landmarks_1", optional=True, tooltip="The first face. A batch pairs with the second's, or with one."),
                Landmarks.Input("landmarks_2", optional=True, tooltip="The second face."),
            ],
            outputs=[
                EmotionVectors.Output(id="emotion", display_name="EMOTION", tooltip="The blended emotion; nothing without both."),
                Landmarks.Output(id="landmarks", display_name="LANDMARKS", tooltip="The blended landmarks; nothing without both."),
            ],
        )

    @classmethod
    def execute(cls, blend: float, emotion_1: Any = None, emotion_2: Any = None, landmarks_1: Any = None, landmarks_2: Any = None) -> io.NodeOutput:
        from ..facecrafter_core.schedule import blend_emotions, blend_faces, both

        emotions = both(emotion_1, emotion_2, "emotion")
        faces = both(landmarks_1, landmarks_2, "landmarks")
        return io.NodeOutput(
            None if emotions is None else torch.from_numpy(blend_emotions(*(e.numpy() for e in emotions), blend)),
            None if faces is None else torch.from_numpy(blend_faces(*(f.numpy() for f in faces), blend)),
        )


class FaceCrafterSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterSchedule",
            display_name="Schedule",
            category=CATEGORY,
            description="A sequence of portraits by keyframes: emotion, head angles, expression and guidance weights change from frame to frame. With "
            "landmarks of a video, the video is spread over the frames and the rest goes on top. Sample it with same_noise and one seed.",
            inputs=[
                io.Int.Input("frames", default=16, min=1, max=4096, tooltip="How many pictures."),
                io.Combo.Input("easing", options=list(EASINGS), default="smooth", tooltip="From keyframe to keyframe: evenly, slowly at both ends, or in steps."),
                io.String.Input(
                    "emotion", default="0: neutral, 15: happy", multiline=True,
                    tooltip="Keyframes of emotion: a name with an intensity, or valence and arousal, such as '0: neutral, 8: happy 0.8, 15: -0.5 0.3'. Empty: none.",
                ),
                *(track_input(name, "0: -20, 15: 20", f"Change of {name} in degrees.") for name in ANGLES),
                track_input("smile", "0: 0, 15: 1", "Weight of the facial action smile."),
                track_input("jaw", "0: 0, 8: 0.6, 15: 0", "Weight of the facial action jawOpen."),
                track_input("blink", "7: 0, 8: 1, 9: 0", "Weight of the facial action blink."),
                *(track_input(f"{name}_weight", "0: 2.0, 15: 0.5", f"The {name} weight of Eq. 6.") for name in WEIGHTS),
                drawing_size_input(),
                Landmarks.Input("landmarks", optional=True, tooltip="A face, or a video's faces. Open: the built-in neutral face, if anything moves."),
            ],
            outputs=[
                EmotionVectors.Output(id="emotions", display_name="EMOTION", tooltip="One a frame; nothing without keyframes."),
                Landmarks.Output(id="faces", display_name="LANDMARKS", tooltip="One a frame; nothing if no landmarks are connected and nothing moves."),
                Weights.Output(id="weights", display_name="WEIGHTS", tooltip="For the FaceCrafter Sampler, Guider or Apply; replaces the weights that have keyframes."),
                io.Image.Output(id="drawing", display_name="DRAWING", tooltip="The landmarks of all frames, drawn; a black picture without any."),
                io.Int.Output(id="count", display_name="FRAMES", tooltip="How many pictures."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, frames: int, easing: str, emotion: str, drawing_size: int, landmarks: Any = None, **tracks: str) -> io.NodeOutput:
        import numpy as np

        from ..facecrafter_core.schedule import emotion_track, face_track, number_track

        numbers = {name: number_track(text, frames, easing) for name, text in tracks.items()}
        emotions = emotion_track(emotion, frames, easing)
        motion = {name: numbers[name] for name in (*ANGLES, "smile", "jaw", "blink") if numbers[name] is not None}
        faces = face_track(None if landmarks is None else landmarks.numpy(), frames, motion)
        vectors = None if emotions is None else torch.from_numpy(np.stack([e.vector for e in emotions]))
        out, pictures = (None, torch.zeros(1, drawing_size, drawing_size, 3)) if faces is None else drawn(faces, drawing_size)
        return io.NodeOutput(vectors, out, tuple(numbers[f"{name}_weight"] for name in WEIGHTS), pictures, frames)


class FaceCrafterSmoothLandmarks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterSmoothLandmarks",
            display_name="Smooth Landmarks",
            category=CATEGORY,
            description="Takes the jitter out of the landmarks of a video: a Gaussian over time, which adds no delay.",
            inputs=[
                Landmarks.Input("landmarks", tooltip="The faces of a video, in order."),
                io.Float.Input("frames", default=1.5, min=0.0, max=30.0, step=0.1, tooltip="Width of the Gaussian (sigma) in frames; 0 changes nothing."),
                drawing_size_input(),
            ],
            outputs=[
                Landmarks.Output(id="smoothed", display_name="LANDMARKS", tooltip="The same faces, steadier."),
                io.Image.Output(id="drawing", display_name="DRAWING", tooltip="The landmarks, drawn as the adapter sees them."),
            ],
        )

    @classmethod
    def execute(cls, landmarks: torch.Tensor, frames: float, drawing_size: int) -> io.NodeOutput:
        from ..facecrafter_core.schedule import smooth

        return io.NodeOutput(*drawn(smooth(needed(landmarks, "landmarks").numpy(), frames), drawing_size))
