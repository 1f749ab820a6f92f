"""Many portraits in one node: a sheet of emotions and poses, and balanced sets of faces on disk."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from .host.adapter import FaceCrafter
from .host.run import SAMPLERS, SCHEDULERS, output_folder, portraits, progress
from .pictures import captioned_grid, to_image, to_photos
from .sampling import guidance_of, weight_inputs
from .types import CATEGORY, Crafter, Identity

EMOTIONS = "neutral, happy, sad, surprise, fear, disgust, anger, contempt"


def model_inputs() -> list[io.Input]:
    return [
        Crafter.Input("facecrafter", tooltip="From Load FaceCrafter."),
        io.Model.Input("model", tooltip="The base's MODEL, maybe with LoRAs and other patches."),
        io.Vae.Input("vae", tooltip="The base's VAE."),
    ]


def sampling_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip="The same seed gives the same pictures."
        ),
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps."),
        io.Combo.Input("sampler_name", options=SAMPLERS, default="dpmpp_2m", tooltip="One that adds no noise keeps pictures comparable."),
        io.Combo.Input("scheduler", options=SCHEDULERS, default="sgm_uniform", tooltip="How the steps are spread over noise levels."),
        *weight_inputs(),
        io.Int.Input("batch_size", default=8, min=1, max=64, tooltip="Pictures that are sampled together; fewer need less memory."),
    ]


def emotions_input() -> io.Input:
    return io.String.Input(
        "emotions", default=EMOTIONS, multiline=True, tooltip="Emotions, separated by commas: names with an intensity ('happy 0.8'), or valence and arousal ('-0.5 0.3')."
    )


def poses_input() -> io.Input:
    return io.String.Input("poses", default="-25, 0, 25", tooltip="Head poses, separated by commas: yaw, or yaw and pitch, in degrees ('-25, 0, 25 10').")


class FaceCrafterExpressionSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterExpressionSheet",
            display_name="Expression Sheet",
            category=CATEGORY,
            description="One person with every emotion in every pose, as a labelled grid: emotions across, poses down. All pictures start from the same noise.",
            inputs=[
                *model_inputs(),
                Identity.Input("identity", tooltip="From Encode Identity: who it is."),
                emotions_input(),
                poses_input(),
                *sampling_inputs(),
            ],
            outputs=[
                io.Image.Output(id="sheet", display_name="SHEET", tooltip="The labelled grid."),
                io.Image.Output(id="pictures", display_name="IMAGE", tooltip="The single pictures, row by row."),
            ],
        )

    @classmethod
    def execute(
        cls, facecrafter: FaceCrafter, model: Any, vae: Any, identity: torch.Tensor, emotions: str, poses: str, seed: int, steps: int,
        sampler_name: str, scheduler: str, batch_size: int, **weights: Any,
    ) -> io.NodeOutput:  # fmt: skip
        from ..facecrafter_core.plan import make_plan, parse_emotions, parse_poses

        named, turned = parse_emotions(emotions), parse_poses(poses)
        plan = sorted(make_plan(1, named, turned, 1, 0), key=lambda p: turned.index(p.pose))
        run = (guidance_of(model, **weights), steps, sampler_name, scheduler)
        made, bar = [], progress(len(plan))
        for start in range(0, len(plan), batch_size):
            some = plan[start : start + batch_size]
            made.append(portraits(facecrafter, model, vae, identity[:1].repeat(len(some), 1), some, [seed] * len(some), *run))
            bar(start + len(some))
        pictures = torch.cat(made)
        captions = [[p.text, str(p.pose)] for p in plan]
        sheet = captioned_grid(to_photos(pictures, "pictures"), captions, columns=len(named), size=pictures.shape[1])
        return io.NodeOutput(to_image([sheet]), pictures)


class FaceCrafterBalancedSet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceCrafterBalancedSet",
            display_name="Balanced Set",
            category=CATEGORY,
            description="Faces for data sets: every identity with every emotion in every pose, equally often, written to a folder with a manifest. A run that "
            "was stopped goes on where it was.",
            inputs=[
                *model_inputs(),
                Identity.Input("identities", tooltip="One or several identities, such as a batch from Encode Identity."),
                emotions_input(),
                poses_input(),
                io.Int.Input("each", default=1, min=1, max=1000, tooltip="Pictures of each combination, with other seeds."),
                io.String.Input("folder", default="facecrafter_set", tooltip="Folder under ComfyUI's output folder."),
                *sampling_inputs(),
            ],
            outputs=[
                io.String.Output(id="manifest", display_name="MANIFEST", tooltip="Path of manifest.csv: a row a picture, with person, emotion, valence, arousal and pose."),
                io.Int.Output(id="count", display_name="COUNT", tooltip="How many pictures the set has."),
                io.Image.Output(id="last", display_name="LAST", tooltip="The last picture of the set."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, facecrafter: FaceCrafter, model: Any, vae: Any, identities: torch.Tensor, emotions: str, poses: str, each: int, folder: str, seed: int, steps: int,
        sampler_name: str, scheduler: str, batch_size: int, **weights: Any,
    ) -> io.NodeOutput:  # fmt: skip
        from PIL import Image

        from ..facecrafter_core.faces.photo import load_photo
        from ..facecrafter_core.plan import MANIFEST, fill_set, make_plan, parse_emotions, parse_poses

        plan = make_plan(len(identities), parse_emotions(emotions), parse_poses(poses), each, seed)
        place, run = output_folder(folder), (guidance_of(model, **weights), steps, sampler_name, scheduler)

        def draw(some: list[Any]) -> list[Any]:
            who = identities[[p.person for p in some]]
            pictures = portraits(facecrafter, model, vae, who, some, [p.seed for p in some], *run)
            return [Image.fromarray(p) for p in to_photos(pictures, "pictures")]

        bar = progress(len(plan))
        for done in fill_set(place, plan, draw, batch_size):
            bar(done)
        return io.NodeOutput(str(place / MANIFEST), len(plan), to_image([load_photo(place / plan[-1].path)]))
