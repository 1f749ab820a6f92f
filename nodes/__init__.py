"""FaceCrafter's nodes for ComfyUI (V3 schema). Each file holds one kind of node; `host` is the only room that knows ComfyUI's insides.

Nodes are thin: they unpack sockets, call facecrafter_core or nodes.host, and pack sockets.
"""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .conditioning import FaceCrafterConditioning
from .crops import FaceCrafterFaceCrop, FaceCrafterFaceMasks, FaceCrafterFacePaste
from .downloads import FaceCrafterDownloadModels, licences
from .emotion import FaceCrafterEmotion, FaceCrafterEmotionFromImage, FaceCrafterEmotionSweep
from .faces import FaceCrafterEncodeIdentity, FaceCrafterExtractLandmarks, FaceCrafterSamplePortrait
from .host.acceptance import add_routes
from .host.adapter import register_folder
from .landmarks import FaceCrafterEditLandmarks, FaceCrafterRetargetLandmarks, FaceCrafterStripExpression
from .loaders import FaceCrafterLoader
from .sampling import FaceCrafterApply, FaceCrafterGuidanceIntervals, FaceCrafterGuiderNode, FaceCrafterSampler
from .score import FaceCrafterBestOf, FaceCrafterScore
from .sequences import FaceCrafterBlend, FaceCrafterSchedule, FaceCrafterSmoothLandmarks
from .sheets import FaceCrafterBalancedSet, FaceCrafterExpressionSheet


class FaceCrafterExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_folder()  # here, since ComfyUI 0.3.64 calls no on_load
        add_routes(licences)
        return [
            FaceCrafterLoader,
            FaceCrafterSamplePortrait,
            FaceCrafterEncodeIdentity,
            FaceCrafterExtractLandmarks,
            FaceCrafterEditLandmarks,
            FaceCrafterRetargetLandmarks,
            FaceCrafterStripExpression,
            FaceCrafterEmotion,
            FaceCrafterEmotionFromImage,
            FaceCrafterEmotionSweep,
            FaceCrafterConditioning,
            FaceCrafterSampler,
            FaceCrafterGuiderNode,
            FaceCrafterApply,
            FaceCrafterGuidanceIntervals,
            FaceCrafterScore,
            FaceCrafterBestOf,
            FaceCrafterBlend,
            FaceCrafterSchedule,
            FaceCrafterSmoothLandmarks,
            FaceCrafterExpressionSheet,
            FaceCrafterBalancedSet,
            FaceCrafterDownloadModels,
            FaceCrafterFaceCrop,
            FaceCrafterFacePaste,
            FaceCrafterFaceMasks,
        ]
