"""Emotions by name, by valence and arousal, by class, from a photo, and in between."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from comfy_api.latest import io

from ..facecrafter_core.batch import picture_names
from ..facecrafter_core.errors import EmotionError
from ..facecrafter_core.faces.emotion import EMOTIONS, SPREAD, VALENCE_AROUSAL, Emotion
from ..facecrafter_core.faces.emotion_estimators import AUTOMATIC, ESTIMATORS
from .faces import FACELESS, choice, choice_inputs, faceless_input, find_in, is_first, landmarker, skipped_output
from .host.adapter import FaceCrafter
from .pictures import emotion_chart, to_image, to_photos
from .types import CATEGORY, Crafter, EmotionVectors, needed

SOURCES = ("preset", "valence and arousal", "classes")


def emotion_outputs() -> list[io.Output]:
    return [
        EmotionVectors.Output(
            id="emotion", display_name="EMOTION", tooltip="Valence, arousal and eight class probabilities."
        ),
        io.Image.Output(
            id="chart",
            display_name="CHART",
            tooltip="The emotion as a picture: the valence-arousal plane and the eight classes.",
        ),
        io.String.Output(id="description", display_name="DESCRIPTION", tooltip="The emotion in words."),
    ]


def pack(emotions: list[Emotion]) -> io.NodeOutput:
    """Emotions -> the three sockets of emotion_outputs."""
    vectors = torch.stack([torch.as_tensor(e.vector) for e in emotions]).float()
    return io.NodeOutput(
        vectors, to_image([emotion_chart(v.numpy()) for v in vectors]), "\n".join(e.describe() for e in emotions)
    )


def preset_input() -> io.Input:
    """The names of the emotions. Their places on the circumplex go to the browser with it, so that the pad has the same numbers."""
    preset = io.Combo.Input(
        "preset", options=list(EMOTIONS), default="happy", tooltip="With 'preset': the emotion's name."
    )
    preset.extra_dict = {"circumplex": {"centroids": VALENCE_AROUSAL, "spread": SPREAD}}
    return preset


class FaceCrafterEmotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        share = {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01}
        return io.Schema(
            node_id="FaceCrafterEmotion",
            display_name="Emotion",
            category=CATEGORY,
            description="An emotion by name and intensity, by a point in the valence-arousal plane, or by all ten numbers.",
            inputs=[
                io.Combo.Input(
                    "source", options=list(SOURCES), default=SOURCES[0], tooltip="Which of the inputs below count."
                ),
                preset_input(),
                io.Float.Input(
                    "intensity",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="With 'preset': 0 is neutral, 1 the full emotion.",
                ),
                io.Float.Input(
                    "valence",
                    default=0.0,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From unpleasant (-1) to pleasant (1). Counts with 'valence and arousal' and with 'classes'.",
                ),
                io.Float.Input(
                    "arousal",
                    default=0.0,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From calm (-1) to excited (1). Counts with 'valence and arousal' and with 'classes'.",
                ),
                *(
                    io.Float.Input(
                        name,
                        **{**share, "default": 1.0 if name == "neutral" else 0.0},
                        tooltip=f"With 'classes': the probability of {name}. The eight must sum to 1.",
                    )
                    for name in EMOTIONS
                ),
            ],
            outputs=emotion_outputs(),
        )

    @classmethod
    def execute(
        cls, source: str, preset: str, intensity: float, valence: float, arousal: float, **classes: float
    ) -> io.NodeOutput:
        if source not in SOURCES:
            raise EmotionError(f"Expected the emotion's source as one of {', '.join(SOURCES)}, found {source!r}.")
        if source == "preset":
            return pack([Emotion.preset(preset, intensity)])
        if source == "valence and arousal":
            return pack([Emotion.from_valence_arousal(valence, arousal)])
        return pack([Emotion(valence, arousal, tuple(classes[name] for name in EMOTIONS))])


class FaceCrafterEmotionSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterEmotionSweep",
            display_name="Emotion Sweep",
            category=CATEGORY,
            description="A batch of emotions from one to another, in even steps: one portrait each.",
            inputs=[
                EmotionVectors.Input("first", tooltip="Where the sweep begins."),
                EmotionVectors.Input("last", tooltip="Where it ends."),
                io.Int.Input("count", default=5, min=2, max=64, tooltip="How many emotions, both ends included."),
            ],
            outputs=emotion_outputs(),
        )

    @classmethod
    def execute(cls, first: torch.Tensor, last: torch.Tensor, count: int) -> io.NodeOutput:
        first, last = needed(first, "emotions"), needed(last, "emotions")
        a, b = Emotion.from_vector(first[0].numpy()), Emotion.from_vector(last[-1].numpy())
        return pack([a.blend(b, i / (count - 1)) for i in range(count)])


@lru_cache(maxsize=2)
def emotion_estimator(name: str, family: str) -> Any:
    """An emotion estimator; EmoNet's network is ComfyUI's to load and unload, the others' are small and on the CPU.

    Raises:
        ModelError, AssetError: no such estimator, or its weights or package are missing.
    """
    from ..facecrafter_core.faces.emonet import EmoNetEstimator
    from ..facecrafter_core.faces.emotion_estimators import load_emotion_estimator
    from .host.networks import ManagedNetwork

    estimator = load_emotion_estimator(name, family)
    if isinstance(estimator, EmoNetEstimator):
        estimator.network = ManagedNetwork(estimator.network)
    return estimator


class FaceCrafterEmotionFromImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterEmotionFromImage",
            display_name="Emotion From Image",
            category=CATEGORY,
            description="The emotion that a face shows. A batch of photos gives a batch of emotions.",
            inputs=[
                io.Image.Input("photo", tooltip="Whose emotion to copy; need not be the same person."),
                *choice_inputs(),
                io.Combo.Input(
                    "estimator",
                    options=list(ESTIMATORS),
                    default=AUTOMATIC,
                    optional=True,  # workflows of before this input have no value for it
                    tooltip="Who reads the emotion. automatic: the one that FACECRAFTER's adapter is trained with, EmoNet at full size; without "
                    "FACECRAFTER, the demo's. emonet (CC BY-NC-ND 4.0: not for commercial use) and hsemotion (Apache-2.0) need their weights.",
                ),
                Crafter.Input(
                    "facecrafter", optional=True, tooltip="From Load FaceCrafter; tells 'automatic' which estimator is meant."
                ),
                faceless_input("An emotion comes out for each of the others."),
            ],
            outputs=[*emotion_outputs(), skipped_output()],
        )

    @classmethod
    def execute(
        cls,
        photo: torch.Tensor,
        face: str,
        face_number: int,
        estimator: str = AUTOMATIC,
        facecrafter: FaceCrafter | None = None,
        faceless: str = FACELESS[0],
    ) -> io.NodeOutput:
        from ..facecrafter_core.faces.emotion_estimators import read_emotions

        chosen = emotion_estimator(estimator, facecrafter.family.name if facecrafter else "demo")
        photos, which = to_photos(photo, "photo"), choice(face, face_number)
        names, stop = picture_names("photo", len(photos)), is_first(faceless, FACELESS, "faceless")
        found = find_in(photos, names, lambda p: landmarker().find_face(p, which), stop)
        seen = [(p, face) for p, face in zip(photos, found, strict=True) if face is not None]
        return io.NodeOutput(*pack(read_emotions(chosen, *zip(*seen, strict=True))).args, len(photos) - len(seen))
