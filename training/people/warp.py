"""Moves a face in a picture: landmarks go from where they are to where they should be, and the picture follows smoothly.

It makes the expressions that the generator hardly knows (lowered mouth corners, knitted brows, closed lids). What was hidden cannot appear: lips
that part show no teeth.

Shapes: B pictures, P grid points, K control points.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

CONTROLS = 468
"""The mesh's points; the ten of the irises follow their surroundings."""

RING = 1.3
"""Around the face at this multiple of its outline, and beyond, nothing moves."""

_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234,
    127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip


def warp_faces(pictures: Tensor, before: Tensor, after: Tensor, grid_side: int = 256) -> Tensor:
    """Pictures whose landmarks move from `before` to `after`.

    The displacement between the points is Shepard's (1968): the mean of the points' displacements, weighted by the inverse fourth power of
    their distance.

    Args:
        pictures: [B, 3, S, S]. before, after: [B, 478, 2 or 3], in sides of the picture.
        grid_side: side of the grid on which the displacement is computed before it is interpolated.
    """
    b, side = len(pictures), pictures.shape[-1]
    device = pictures.device
    old, new = before[:, :CONTROLS, :2].to(device).float(), after[:, :CONTROLS, :2].to(device).float()
    oval = new[:, list(_OVAL)]
    middle = oval.mean(1, keepdim=True)
    rings = torch.cat([middle + factor * (oval - middle) for factor in (RING, 1.7)], 1)
    edge = torch.linspace(0, 1, 9, device=device)
    border = torch.cat([torch.stack([edge, torch.full_like(edge, v)], 1)[:, order] for v in (0.0, 1.0) for order in ([0, 1], [1, 0])])
    still = torch.cat([rings, border.expand(b, -1, -1)], 1)
    points = torch.cat([new, still], 1)
    moves = torch.cat([old - new, torch.zeros_like(still)], 1)
    place = (torch.arange(grid_side, device=device) + 0.5) / grid_side
    grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), -1).view(1, -1, 2).expand(b, -1, -1)
    weights = 1 / (torch.cdist(grid, points).square() + (1.5 / side) ** 2).square()
    flow = (weights @ moves) / weights.sum(2, keepdim=True)
    flow = interpolate(flow.view(b, grid_side, grid_side, 2).permute(0, 3, 1, 2), size=side, mode="bilinear", align_corners=False)
    place = (torch.arange(side, device=device) + 0.5) / side
    target = torch.stack(torch.meshgrid(place, place, indexing="xy"), -1)
    source = target + flow.permute(0, 2, 3, 1)
    return grid_sample(pictures.float(), source * 2 - 1, mode="bicubic", padding_mode="border", align_corners=False)
