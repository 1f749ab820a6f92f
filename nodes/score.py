"""How well pictures did what was asked, and the best of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..facecrafter_core.errors import MetricError, about
from .faces import landmarker
from .host.adapter import DEMO_FOLDER, FaceCrafter
from .pictures import captioned_grid, to_image, to_photos
from .types import CATEGORY, Crafter, EmotionVectors, Landmarks


@lru_cache(maxsize=2)
def estimators(family: str) -> list[Any]:
    """Those that measure a family's pictures; they took no part in generating them."""
    from ..facecrafter_core.metrics.estimators import estimators_of

    return estimators_of(family, DEMO_FOLDER)[0]


def asked_inputs() -> list[io.Input]:
    return [
        Crafter.Input("facecrafter", tooltip="From Load FaceCrafter; says which estimators measure."),
        io.Image.Input("pictures", tooltip="The pictures to score."),
        io.Image.Input("photo", optional=True, tooltip="A photo of the person they should show. Open: likeness is not scored."),
        Landmarks.Input("landmarks", optional=True, tooltip="The landmarks they should have, one or one a picture. Open: pose and expression are not scored."),
        EmotionVectors.Input("emotion", optional=True, tooltip="The emotion they should show, one or one a picture. Open: emotion is not scored."),
    ]


def scores_of(facecrafter: FaceCrafter, pictures: torch.Tensor, photo: Any, landmarks: Any, emotion: Any) -> tuple[list[np.ndarray], list[Any]]:
    """Photos and their scores."""
    from ..facecrafter_core.metrics.estimators import find_faces, read_all
    from ..facecrafter_core.metrics.score import score_pictures

    photos, readers = to_photos(pictures, "pictures"), estimators(facecrafter.family.name)
    reading, identity = read_all(readers, photos, find_faces(photos, landmarker())), None
    if photo is not None:
        person = to_photos(photo, "photo")[:1]
        with about("photo"):
            seen = read_all(readers, person, [landmarker().find_face(person[0])])
        if "identity" not in seen:
            raise MetricError(f"No estimator measures likeness for the {facecrafter.family.name} family in this version. Leave photo open.")
        identity = seen["identity"][0]
    asked = [None if tensor is None else tensor.numpy() for tensor in (landmarks, emotion)]
    return photos, score_pictures(reading, identity, *asked)


def captions(scores: list[Any], names: list[str]) -> list[list[str]]:
    rows = []
    for name, s in zip(names, scores, strict=True):
        if not s.found:
            rows.append([name, "no face"])
            continue
        shown = (
            ("likeness {:.0f}%", s.likeness), ("pose {:.1f} deg off", s.pose), ("expression {:.1f}% off", s.expression), ("emotion {:.2f} off", s.emotion), ("shows {}", s.shown)
        )  # fmt: skip
        rows.append([name, *(form.format(value) for form, value in shown if value is not None)])
    return rows


class FaceCrafterScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterScore",
            display_name="Score Portraits",
            category=CATEGORY,
            description="How well each picture did what was asked: likeness in percent, errors of pose, expression and emotion. Pictures without a face are "
            "named. Likeness and emotion are measured by networks that took no part in generating; landmarks by MediaPipe.",
            inputs=asked_inputs(),
            outputs=[
                io.String.Output(id="table", display_name="TABLE", tooltip="A row a picture, as Markdown."),
                io.Image.Output(id="chart", display_name="CHART", tooltip="The pictures with their scores."),
                io.Float.Output(id="likeness", display_name="LIKENESS", tooltip="Mean likeness in percent of the pictures with a face; 0 where it was not scored."),
                io.Int.Output(id="faces", display_name="FACES", tooltip="In how many pictures a face was found."),
            ],
        )

    @classmethod
    def execute(cls, facecrafter: FaceCrafter, pictures: torch.Tensor, photo: Any = None, landmarks: Any = None, emotion: Any = None) -> io.NodeOutput:
        from ..facecrafter_core.metrics.score import as_table

        photos, scores = scores_of(facecrafter, pictures, photo, landmarks, emotion)
        chart = captioned_grid(photos, captions(scores, [str(i) for i in range(len(scores))]))
        likeness = [s.likeness for s in scores if s.likeness is not None]
        return io.NodeOutput(as_table(scores), to_image([chart]), float(np.mean(likeness)) if likeness else 0.0, sum(s.found for s in scores))


class FaceCrafterBestOf(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        weight = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.1}
        return io.Schema(
            node_id="FaceCrafterBestOf",
            display_name="Best of N",
            category=CATEGORY,
            description="Keeps the best pictures of a batch: those that are most like the person and closest to what was asked. Pictures without a face come last.",
            inputs=[
                *asked_inputs()[:2],
                io.Int.Input("keep", default=1, min=1, max=64, tooltip="How many pictures to keep, the best first."),
                io.Float.Input("likeness_weight", **weight, tooltip="How much likeness counts; half the likeness lost is one unit."),
                io.Float.Input("pose_weight", **weight, tooltip="How much the pose counts; 10 degrees off are one unit."),
                io.Float.Input("expression_weight", **weight, tooltip="How much the expression counts; 5% of the eye distance off are one unit."),
                io.Float.Input("emotion_weight", **weight, tooltip="How much the emotion counts; 0.5 off in valence and arousal is one unit."),
                *asked_inputs()[2:],
            ],
            outputs=[
                io.Image.Output(id="best", display_name="BEST", tooltip="The pictures that were kept, the best first."),
                io.String.Output(id="table", display_name="TABLE", tooltip="The scores of all pictures, as Markdown, and which were kept."),
                io.Image.Output(id="chart", display_name="CHART", tooltip="All pictures with their scores, the best first."),
            ],
        )

    @classmethod
    def execute(
        cls, facecrafter: FaceCrafter, pictures: torch.Tensor, keep: int, photo: Any = None, landmarks: Any = None, emotion: Any = None, **weights: float
    ) -> io.NodeOutput:
        from ..facecrafter_core.metrics.score import as_table, best

        photos, scores = scores_of(facecrafter, pictures, photo, landmarks, emotion)
        by_name = {name.removesuffix("_weight"): value for name, value in weights.items()}
        order = best(scores, by_name, len(scores))
        kept = best(scores, by_name, keep)
        chart = captioned_grid([photos[i] for i in order], captions([scores[i] for i in order], [f"{place + 1}. (picture {i})" for place, i in enumerate(order)]))
        return io.NodeOutput(pictures[kept], f"{as_table(scores)}\n\nKept: {', '.join(map(str, kept))}.", to_image([chart]))
