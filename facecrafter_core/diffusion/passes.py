"""What one forward pass of the guided denoiser reads: rows of Eq. 6 of some pictures, with their contexts and branches, and its division where it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..control.branches import Packed, PackedBranches
from .guidance import row_has_emotion, row_has_landmarks


class Conditions(NamedTuple):
    """What is static over a run of B pictures.

    contexts: the 77-token contexts "id" and "none", each [B, 77, width]. projected: keys and values for each layer, each [B, T, C], of
    the branches "landmark" and "emotion", and maybe of the contexts (the layers project those themselves where they are missing).
    alphas: of these branches (Eq. 1).
    """

    contexts: dict[str, Tensor]
    projected: dict[str, Packed]
    alphas: Mapping[str, float]


class Pass(NamedTuple):
    """One forward pass: some guidance rows of some pictures, row by row.

    context: [rows x pictures, 77, width]. projected: its keys and values, where they are made once a run. branches: None where no row
    has one.
    """

    rows: tuple[str, ...]
    pictures: slice
    context: Tensor
    projected: Packed | None
    branches: PackedBranches | None


def prepare_pass(conditions: Conditions, rows: Sequence[str], pictures: slice) -> Pass:
    """One forward pass for some rows of some pictures; in the order of ROWS, so that a branch's rows stand together."""
    names = ["none" if row == "none" else "id" for row in rows]
    context = torch.cat([conditions.contexts[name][pictures] for name in names])
    projected = {name: Packed(packed.tensor[pictures], packed.widths) for name, packed in conditions.projected.items()}
    batch, branches = len(context) // len(rows), []
    for name, uses in (("landmark", row_has_landmarks), ("emotion", row_has_emotion)):
        places = [i for i, row in enumerate(rows) if uses(row)]
        if places and name in projected:
            span = slice(places[0] * batch, (places[-1] + 1) * batch)
            alpha = context.new_full((span.stop - span.start, 1, 1), conditions.alphas[name])
            repeated = projected[name].tensor.repeat(len(places), 1, 1)
            branches.append((Packed(repeated, projected[name].widths), alpha, span))
    of_context = None
    if all(name in projected for name in names):
        of_context = Packed(torch.cat([projected[name].tensor for name in names]), projected["id"].widths)
    return Pass(tuple(rows), pictures, context, of_context, PackedBranches(branches) if branches else None)


def halves(one: Pass) -> list[tuple[tuple[str, ...], slice]]:
    """Rows and pictures of two smaller passes: the rows are divided first; nothing where there is one row of one picture."""
    if len(one.rows) > 1:
        middle = len(one.rows) // 2
        return [(one.rows[:middle], one.pictures), (one.rows[middle:], one.pictures)]
    start, stop = one.pictures.start, one.pictures.stop
    if stop - start > 1:
        middle = (start + stop) // 2
        return [(one.rows, slice(start, middle)), (one.rows, slice(middle, stop))]
    return []
