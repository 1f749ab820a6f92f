"""Pictures and landmarks -> what networks for faces read: batched, on the pictures' device, differentiable.

The chip is that of dlib's recogniser (get_face_chip_details for five points, King 2017): the similarity that brings five points closest to their means
over many faces. The box is upright, as detectors' are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import LandmarkError, PhotoError
from . import landmarks as groups
from .dlib_resnet import CHIP_SIZE

FIVE_POINTS = (263, 362, 33, 133, 2)
"""MediaPipe's landmarks in dlib's order: outer and inner corner of the left eye, then of the right eye, base of the nose."""

MEAN_POINTS = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
"""dlib's means of these points, in units of the face's square."""

PADDING = 0.25
"""What the recogniser sees around that square on each side, in units of it."""


def face_chips(pictures: Tensor, landmarks: Tensor) -> Tensor:
    """The chip of one face of each picture, for DlibResNet. What lies outside of a picture is black, as dlib has it.

    dlib shifts its chip by a quarter of a pixel each time it halves the picture (point_down in its image_pyramid.h). That is not done here, so chips
    of one face agree at all sizes of the picture.

    Args:
        pictures: [B, 3, H, W] floats of any range.
        landmarks: [B, 478, 2 or 3] in pixels of the pictures; the upper left pixel reaches from (0, 0) to (1, 1). z is not read.

    Returns:
        float32 [B, 3, 150, 150] of the pictures' range. Gradients reach pictures and landmarks.

    Raises:
        PhotoError, LandmarkError: other shapes, integers, or landmarks that are not finite or lie in one pixel.
    """
    return cut(pictures, chip_matrices(landmarks), CHIP_SIZE, "zeros")


def face_boxes(pictures: Tensor, landmarks: Tensor, size: int, share: float = 1.2) -> Tensor:
    """The upright square around the landmarks of one face of each picture; what lies outside of a picture is filled by reflection.

    Args:
        pictures, landmarks: as in face_chips.
        size: of the result in pixels.
        share: side of the square by the longer side of the landmarks' box.

    Returns:
        float32 [B, 3, size, size] of the pictures' range.

    Raises:
        PhotoError, LandmarkError: as in face_chips.
    """
    points = _checked(landmarks)
    low, high = points.amin(1), points.amax(1)
    scale = size / (share * _positive((high - low).amax(1)))
    shift = size / 2 - scale[:, None] * (low + high) / 2
    return cut(pictures, torch.cat([torch.diag_embed(scale[:, None].expand(-1, 2)), shift[..., None]], dim=2), size, "reflection")


def cut(pictures: Tensor, matrices: Tensor, size: int, outside: str) -> Tensor:
    """A square from each picture. Pictures are blurred and halved until they are less than twice as fine as the squares: no pixel is skipped.

    Args:
        pictures: [B, 3, H, W] floats.
        matrices: [B, 2, 3], pixels of the picture -> pixels of the square; pixel centres are at half-integers.
        outside: "zeros" or "reflection".

    Returns:
        float32 [B, 3, size, size].

    Raises:
        PhotoError: another shape or type. LandmarkError: another number of matrices.
    """
    from kornia.geometry.transform import warp_affine

    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.is_floating_point():
        raise PhotoError(f"Expected pictures as floats of shape [B, 3, H, W], found {pictures.dtype} {list(pictures.shape)}.")
    if len(matrices) != len(pictures):
        raise LandmarkError(f"Expected landmarks for {len(pictures)} pictures, found them for {len(matrices)}.")
    matrices, level = matrices.to(pictures.device), pictures.float()
    halvings = (-0.5 * torch.linalg.det(matrices[:, :, :2].detach()).log2()).floor().clamp(min=0).int().tolist()
    squares = level.new_zeros(len(level), 3, size, size)
    for count in range(max(halvings, default=-1) + 1):
        if count:
            level = _halve(level)
        if chosen := [i for i, wanted in enumerate(halvings) if wanted == count]:
            squares[chosen] = warp_affine(level[chosen], _between_centres(matrices[chosen], 2**count), (size, size), padding_mode=outside)
    return squares


def chip_matrices(landmarks: Tensor) -> Tensor:
    """landmarks [B, 478, 2 or 3] in pixels -> float32 [B, 2, 3], pixels of the picture -> pixels of the chip; pixel centres are at half-integers.

    Raises:
        LandmarkError: another shape, or landmarks that are not finite or lie in one pixel.
    """
    found = _checked(landmarks)[:, list(FIVE_POINTS)]
    wanted = ((torch.tensor(MEAN_POINTS, device=found.device) - 0.5) / (1 + 2 * PADDING)) * CHIP_SIZE  # from the chip's middle
    middle, wanted_middle = found.mean(1), wanted.mean(0)
    x, y = (found - middle[:, None]).unbind(-1)
    u, v = (wanted - wanted_middle).unbind(-1)
    # The turn and scale that bring the mean points closest to those found are the complex number c + is.
    c, s = (torch.stack([u * x + v * y, u * y - v * x]).sum(2) / (u.square() + v.square()).sum()).unbind()
    size = _positive((c.square() + s.square()).sqrt() * CHIP_SIZE)
    turn = torch.stack([c, -s, s, c], 1).view(-1, 2, 2)
    centre = middle - turn @ wanted_middle
    # dlib's chip begins and ends in the middle of its outer pixels: 149 of them cover one pixel less than the square.
    inverse = turn.mT * ((CHIP_SIZE - 1) / (size - 1) * CHIP_SIZE / size).view(-1, 1, 1)
    return torch.cat([inverse, CHIP_SIZE / 2 - inverse @ centre[..., None]], dim=2)


def _checked(landmarks: Tensor) -> Tensor:
    """x and y of landmarks, float32 [B, 478, 2]."""
    if landmarks.ndim != 3 or landmarks.shape[1] != groups.COUNT or landmarks.shape[2] not in (2, 3):
        raise LandmarkError(f"Expected landmarks of shape [B, 478, 2] or [B, 478, 3], found {list(landmarks.shape)}.")
    return landmarks[..., :2].float()


def _positive(sizes: Tensor) -> Tensor:
    """Sizes of faces, in pixels."""
    if not (torch.isfinite(sizes).all() and (sizes > 1).all()):
        raise LandmarkError("The landmarks are not finite, or lie in one pixel, so no face can be cut by them. Extract them again.")
    return sizes


def _between_centres(matrices: Tensor, step: int) -> Tensor:
    """chip_matrices' -> the same for every step-th pixel of the pictures, with pixel centres at integers, as warp_affine has them."""
    turn, shift = matrices[:, :, :2], matrices[:, :, 2:]
    return torch.cat([turn * step, shift + turn.sum(2, keepdim=True) / 2 - 0.5], dim=2)


def _halve(pictures: Tensor) -> Tensor:
    """Every second pixel of every second row, beginning with the first, after the blur of dlib's pyramid_down."""
    kernel = torch.tensor([1.0, 4, 6, 4, 1], device=pictures.device) / 16
    planes = F.pad(pictures, (2, 2, 2, 2), "replicate").flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, 1, 5), stride=(1, 2)), kernel.view(1, 1, 5, 1), stride=(2, 1))
    return planes.unflatten(0, pictures.shape[:2])[:, :, 0]
