"""Eq. 1 in the 16 cross-attention layers of ComfyUI's UNet.

`install` puts a patch into each layer. What the patches need in a forward pass is prepared once per pass, in the wrapper around
apply_model, from the Controls that each cond carries; keys and values of the control tokens are projected once per sampling run.

Shapes: R rows of a forward pass (conds x images), B images, N entries of a condition, T tokens, C inner width of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import comfy.model_patcher
import comfy.utils
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...facecrafter_core.control.branches import BranchInput, branch_inputs, decoupled_attention, repeat_rows
from ...facecrafter_core.errors import ModelError
from .adapter import check_model
from .contexts import KEY, Controls

RUN = "facecrafter_run"

# The 16 layers in the order of CROSS_ATTENTION_LAYERS: all blocks of the UNet that have cross-attention.
LAYERS: tuple[tuple[str, int], ...] = (
    *(("input", i) for i in (1, 2, 4, 5, 7, 8)),
    ("middle", 0),
    *(("output", i) for i in range(3, 12)),
)


class BranchPatch:
    """Adds the branches to one cross-attention layer, on top of whatever replaced its attention before.

    Callbacks of other packs may be added (`add`), as IPAdapter_plus does with the patch that it finds in its place: each is called
    with the layer's output so far, and what it returns is added.
    """

    def __init__(self, layer: int, previous: Callable[..., Tensor] | None = None) -> None:
        self.layer = layer
        self.previous = previous
        self.added: list[tuple[Callable[..., Tensor], dict[str, Any]]] = []

    def __deepcopy__(self, memo: Any) -> BranchPatch:
        """For a clone of the MODEL: weights that others keep in here are shared, but what is added to a clone stays in the clone."""
        copy = BranchPatch(self.layer, self.previous)
        copy.added = list(self.added)
        return copy

    def add(self, callback: Callable[..., Tensor], **kwargs: Any) -> None:
        self.added.append((callback, kwargs))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        heads = extra_options["n_heads"]
        if self.previous is not None:
            out = self.previous(q, k, v, extra_options)
        else:
            precision = extra_options.get("attn_precision")
            out = optimized_attention(q, k, v, heads, attn_precision=precision, transformer_options=extra_options)
        branches = extra_options.get(KEY)
        if branches is not None:
            out = decoupled_attention(out, q, branches.take(self.layer), heads)
        for callback, kwargs in self.added:
            if _acts_now(kwargs, extra_options):
                out = out + callback(out, q, k, v, extra_options, **kwargs)
        return out.to(q.dtype)


def _acts_now(kwargs: dict[str, Any], extra_options: dict[str, Any]) -> bool:
    if "sigma_start" not in kwargs or "sigmas" not in extra_options:
        return True
    return kwargs["sigma_end"] <= float(extra_options["sigmas"][0]) <= kwargs["sigma_start"]


class LayerBranches:
    """The branch inputs of each layer, for one layout of rows; notes which layers have taken theirs."""

    def __init__(self, inputs: list[list[BranchInput]]) -> None:
        self.inputs = inputs
        self.taken: set[int] = set()

    def take(self, layer: int) -> list[BranchInput]:
        self.taken.add(layer)
        return self.inputs[layer]

    def check(self) -> None:
        """After a forward pass: another node's patch may have taken the place of ours."""
        if len(self.taken) < len(self.inputs):
            lost = [LAYERS[i] for i in range(len(self.inputs)) if i not in self.taken]
            raise ModelError(
                f"FaceCrafter's branches were not reached in {len(lost)} of {len(self.inputs)} cross-attention layers, such as {lost[0]}: "
                "another node replaced them in the MODEL. Put Apply FaceCrafter after that node."
            )


class Run:
    """What is kept during one sampling run: projected keys and values, and the branch inputs of each layout of rows."""

    def __init__(self) -> None:
        self.projected: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        self.layouts: dict[Any, LayerBranches | None] = {}
        self.keep: list[Any] = []  # objects whose id() is part of a key must live as long as it

    def project(
        self, adapter: comfy.model_patcher.ModelPatcher, branch: str, tokens: Tensor, like: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """tokens [N, T, W] -> (key, value), each [N, T, C], for each layer, in the type and place of `like`."""
        key = (id(adapter), branch, id(tokens), like.dtype, like.device)
        if key not in self.projected:
            self.projected[key] = getattr(adapter.model, f"{branch}_branch").project(tokens.to(like))
            self.keep += [adapter, tokens]
        return self.projected[key]

    def branches(self, conds: Sequence[Controls | None], batch: int, like: Tensor) -> LayerBranches | None:
        """One forward pass of len(conds) x batch rows -> the branch inputs of each of the 16 layers; None when no branch is on."""
        key = (*(c.key if c is not None else None for c in conds), batch, like.dtype, like.device)
        if key not in self.layouts:
            self.layouts[key] = self._branches(conds, batch, like)
            self.keep.append(list(conds))
        return self.layouts[key]

    def _branches(self, conds: Sequence[Controls | None], batch: int, like: Tensor) -> LayerBranches | None:
        parts = []
        for branch, is_on in (("landmark", Controls.has_landmarks.fget), ("emotion", Controls.has_emotion.fget)):
            for first, last in _runs_of_equal(
                [_share(c, branch) if c is not None and is_on(c) else None for c in conds]
            ):
                controls = conds[first]
                tokens = getattr(controls, f"{branch}_tokens")
                start, whole = controls.part or (0, batch)
                projected = [
                    tuple(comfy.utils.repeat_to_batch_size(x, whole)[start : start + batch] for x in pair)
                    for pair in self.project(controls.adapter, branch, tokens, like)
                ]
                rows = slice(first * batch, last * batch)
                alpha = like.new_full((rows.stop - rows.start, 1, 1), getattr(controls, f"alpha_{branch}"))
                parts.append(branch_inputs(repeat_rows(projected, last - first), alpha, rows))
        return LayerBranches([list(layer) for layer in zip(*parts, strict=True)]) if parts else None


def _share(controls: Controls, branch: str) -> tuple[Any, ...]:
    """Neighbouring conds with an equal share of this branch are computed together."""
    return id(controls.adapter), id(getattr(controls, f"{branch}_tokens")), getattr(controls, f"alpha_{branch}")


def _runs_of_equal(values: Sequence[Any]) -> list[tuple[int, int]]:
    """(first, last + 1) of each run of equal neighbours other than None."""
    runs, first = [], 0
    for i in range(1, len(values) + 1):
        if i == len(values) or values[i] != values[first]:
            if values[first] is not None:
                runs.append((first, i))
            first = i
    return runs


def install(model: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """A clone of the MODEL whose cross-attention layers listen to Controls. Without Controls it computes what it did before.

    Idempotent: a MODEL that has the patches already is only cloned.
    """
    clone = model.clone()
    if KEY in clone.wrappers.get(WrappersMP.APPLY_MODEL, {}):
        return clone
    there = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for layer, (block, number) in enumerate(LAYERS):
        # ComfyUI looks for (block, number, transformer) before (block, number)
        if (block, number, 0) in there:
            clone.set_model_attn2_replace(BranchPatch(layer, there[(block, number, 0)]), block, number, 0)
        else:
            clone.set_model_attn2_replace(BranchPatch(layer, there.get((block, number))), block, number)
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _apply_model)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _outer_sample)
    clone.add_callback_with_key(CallbacksMP.ON_CLONE, KEY, _give_patches_of_its_own)
    return clone


def _give_patches_of_its_own(model: comfy.model_patcher.ModelPatcher, clone: comfy.model_patcher.ModelPatcher) -> None:
    """After ModelPatcher.clone(): later versions of ComfyUI share the patches between clones, and what is added to one would act in all."""
    there = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    there.update({place: deepcopy(patch) for place, patch in there.items() if isinstance(patch, BranchPatch)})


def _outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Around a sampling run: gives it a Run. The guider's options are this run's own copy, so the Run ends with them."""
    guider = executor.class_obj
    for entries in guider.conds.values():
        for entry in entries:
            carried = entry.get("model_conds", {}).get(KEY)
            if carried is not None and carried.cond is not None:
                check_model(guider.model_patcher, carried.cond.adapter.model.config)
    options = guider.model_options.setdefault("transformer_options", {})
    options[RUN] = Run()
    try:
        return executor(*args, **kwargs)
    finally:
        options.pop(RUN, None)


def _apply_model(
    executor: Any,
    x: Tensor,
    t: Tensor,
    c_concat: Any = None,
    c_crossattn: Any = None,
    control: Any = None,
    transformer_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Around one forward pass: Controls of its conds -> branch inputs of its layers."""
    options = dict(transformer_options or {})
    conds = kwargs.pop(KEY, None)
    branches = None
    if conds is not None:
        model = executor.class_obj
        like = torch.empty(0, dtype=model.manual_cast_dtype or model.get_dtype(), device=x.device)
        branches = (options.get(RUN) or Run()).branches(conds, x.shape[0] // len(conds), like)
        options[KEY] = branches
        if "cond_or_uncond" in options:  # other packs' patches know 0 (positive) and 1 (negative)
            options["cond_or_uncond"] = [int(c is not None and c.row == "none") for c in conds]
    out = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
    if branches is not None:
        branches.check()
    return out
