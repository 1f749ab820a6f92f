"""Identity -> CONDITIONING through the host's CLIP, with the control tokens of the same portrait beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import comfy.conds
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor

from ...facecrafter_core.batch import common_length
from ...facecrafter_core.diffusion.families import TOKENS, Family
from ...facecrafter_core.diffusion.guidance import row_has_emotion, row_has_landmarks
from ...facecrafter_core.errors import ModelError
from .adapter import FaceCrafter

KEY = "facecrafter"
"""Our entry in a conditioning's model_conds and in transformer_options."""


@dataclass(frozen=True, eq=False)
class Controls:
    """The controls of one conditioning entry.

    Attributes:
        adapter: whose branches read the tokens.
        landmark_tokens, emotion_tokens: [N, T, W] or None; picture i of a batch takes entry i modulo N.
        alpha_landmark, alpha_emotion: Eq. 1; 0 cuts the branch off.
        row: the guidance row that the entry stands for; None: all that it carries.
        part: (first, all): the forward pass begins with picture `first` of a batch of `all`; None: it has the whole batch.
    """

    adapter: comfy.model_patcher.ModelPatcher
    landmark_tokens: Tensor | None = None
    emotion_tokens: Tensor | None = None
    alpha_landmark: float = 1.0
    alpha_emotion: float = 1.0
    row: str | None = None
    part: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for entries whose branches are the same."""
        return (
            id(self.adapter),
            id(self.landmark_tokens),
            id(self.emotion_tokens),
            self.alpha_landmark,
            self.alpha_emotion,
            self.row,
            self.part,
        )

    @property
    def has_landmarks(self) -> bool:
        return (
            self.landmark_tokens is not None
            and self.alpha_landmark != 0
            and (self.row is None or row_has_landmarks(self.row))
        )

    @property
    def has_emotion(self) -> bool:
        return (
            self.emotion_tokens is not None
            and self.alpha_emotion != 0
            and (self.row is None or row_has_emotion(self.row))
        )

    def from_picture(self, first: int, count: int) -> Controls:
        """For a part, from picture `first` on, of the `count` pictures that these are for."""
        before, whole = self.part or (0, count)
        return replace(self, part=(before + first, whole))

    @property
    def dtype(self) -> None:
        """ComfyUI asks for this only where our patch has not taken the Controls out of a forward pass: they would be lost without a word.

        Raises:
            ModelError: there are landmarks or an emotion that the MODEL does not know.
        """
        if self.has_landmarks or self.has_emotion:
            raise ModelError(
                "This MODEL does not know FaceCrafter's landmarks and emotion: put Apply FaceCrafter between it and the sampler, "
                "or use the FaceCrafter Sampler."
            )
        raise AttributeError("dtype")


class ControlsCond(comfy.conds.CONDRegular):
    """Carries Controls (or None) to the model beside the context. Entries of a chunk arrive there as a list, one a cond, in its order."""

    def process_cond(self, batch_size: int, **kwargs: Any) -> ControlsCond:
        return self

    def can_concat(self, other: Any) -> bool:
        return isinstance(other, ControlsCond)

    def concat(self, others: list[Any]) -> list[Controls | None]:
        return [self.cond, *(other.cond for other in others)]

    def size(self) -> list[int]:
        return [1]


def controls_of(entry: dict[str, Any]) -> Controls | None:
    """The Controls of one entry of a guider's conds."""
    carried = entry.get("model_conds", {}).get(KEY)
    return carried.cond if carried is not None else None


def as_row(entries: list[dict[str, Any]], row: str) -> list[dict[str, Any]]:
    """The entries of a guider's cond, as the guidance row `row`. The entries themselves stay as they are."""
    out = []
    for entry in entries:
        controls = controls_of(entry)
        carried = ControlsCond(replace(controls, row=row) if controls is not None else None)
        out.append({**entry, "model_conds": {**entry.get("model_conds", {}), KEY: carried}})
    return out


def of_pictures(entries: list[dict[str, Any]], pictures: slice, count: int) -> list[dict[str, Any]] | None:
    """The entries of a cond for some pictures of a batch of `count`. None: something in them cannot be divided, such as a ControlNet."""
    out = []
    for entry in entries:
        if entry.get("control") is not None or entry.get("gligen") is not None:
            return None
        conds = {}
        for name, cond in entry.get("model_conds", {}).items():
            if isinstance(cond, ControlsCond):
                conds[name] = ControlsCond(cond.cond and cond.cond.from_picture(pictures.start, count))
            elif isinstance(getattr(cond, "cond", None), Tensor):
                conds[name] = type(cond)(comfy.utils.repeat_to_batch_size(cond.cond, count)[pictures])
            else:
                conds[name] = cond
        mask = entry.get("mask")
        masked = {} if mask is None or len(mask) == 1 else {"mask": comfy.utils.repeat_to_batch_size(mask, count)[pictures]}
        out.append({**entry, **masked, "model_conds": conds})
    return out


def encode_identity(clip: Any, family: Family, identities: Tensor | None) -> Tensor:
    """identities [N, D] (None: no identity) -> context [N, 77, width] on ComfyUI's intermediate device.

    Raises:
        ModelError: vectors or CLIP of another family.
    """
    if identities is None:
        return _encode(clip, family, ())
    if identities.ndim != 2 or identities.shape[1] != family.identity_dim:
        raise ModelError(
            f"Expected an identity of {family.identity_dim} numbers for the {family.name} family, found shape {list(identities.shape)}. "
            "Encode it with the FACECRAFTER that the conditioning uses."
        )
    width = family.unet["cross_attention_dim"]
    padded = torch.nn.functional.pad(identities.float(), (0, width - identities.shape[1]))
    words = tuple(family.prompt)
    return torch.cat([_encode(clip, family, words, vector[None]) for vector in padded])


def _encode(clip: Any, family: Family, words: tuple[int, ...], vector: Tensor | None = None) -> Tensor:
    """One prompt of token numbers, with the identity's embedding in place of its token, -> [1, 77, width]."""
    numbers = [family.start_token, *words, family.end_token]
    numbers += [family.end_token] * (TOKENS - len(numbers))
    tokens = [(vector if vector is not None and n == family.identity_token else n, 1.0) for n in numbers]
    keys = list(clip.tokenize(""))
    if keys != ["l"]:
        raise ModelError(
            f"Expected the CLIP of an SD 1.5 shaped base (one encoder, 'l'), found encoders {keys}. Connect the base's own CLIP."
        )
    context = clip.encode_from_tokens({"l": [tokens]})
    width = family.unet["cross_attention_dim"]
    if context.shape[1:] != (TOKENS, width):
        raise ModelError(
            f"Expected a CLIP that gives {TOKENS} tokens of width {width} for the {family.name} family, found {context.shape[1]} of width "
            f"{context.shape[2]}. Connect the CLIP of the base that the adapter was made for."
        )
    return context


def make_conditioning(
    crafter: FaceCrafter,
    identities: Tensor,
    landmarks: Tensor | None,
    emotions: Tensor | None,
    alpha_landmark: float,
    alpha_emotion: float,
) -> tuple[list[Any], list[Any]]:
    """(positive, negative) CONDITIONING: the identity with its controls, and none.

    Args:
        identities: [N, D]; landmarks: [N, 478, 3] in units of the picture, or None; emotions: [N, 10], or None. One of any serves all.

    Raises:
        ModelError: batches that do not pair, or of another family.
    """
    common_length(ModelError, **{name: None if t is None else len(t) for name, t in (("identity", identities), ("landmarks", landmarks), ("emotion", emotions))})
    adapter = crafter.adapter
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([adapter])
        landmark_tokens = None if landmarks is None else adapter.model.encode_landmarks(landmarks)
        emotion_tokens = None if emotions is None else adapter.model.encode_emotion(emotions)
        device = comfy.model_management.intermediate_device()
        controls = Controls(
            adapter,
            landmark_tokens if landmark_tokens is None else landmark_tokens.to(device),
            emotion_tokens if emotion_tokens is None else emotion_tokens.to(device),
            alpha_landmark,
            alpha_emotion,
        )
        positive = encode_identity(crafter.clip, crafter.family, identities)
        negative = encode_identity(crafter.clip, crafter.family, None)
    carried = {"model_conds": {KEY: ControlsCond(controls)}, "additional_models": [adapter]}
    return [[positive, carried]], [[negative, {"model_conds": {KEY: ControlsCond(replace(controls, row="none"))}}]]
