"""Chips for dlib's recogniser, against dlib's own (dlib_astronaut.json) and against what geometry says."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from facecrafter_core.errors import LandmarkError, PhotoError
from facecrafter_core.faces.align import face_box
from facecrafter_core.faces.chips import FIVE_POINTS, chip_matrices, face_boxes, face_chips
from facecrafter_core.faces.dlib_resnet import DlibResNet
from facecrafter_core.faces.landmarker import Face

DLIB = json.loads(Path(__file__).with_name("dlib_astronaut.json").read_text())


@pytest.fixture(scope="module")
def points() -> torch.Tensor:
    """Landmarks [1, 478, 2] whose five points are those that dlib was given: there pixel centres are integers."""
    return torch.zeros(1, 478, 2).index_copy(1, torch.tensor(FIVE_POINTS), torch.tensor(DLIB["five_points"])[None] + 0.5)


@pytest.fixture(scope="module")
def picture(astronaut: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(astronaut.copy()).permute(2, 0, 1)[None].float() / 255


def enlarged(picture: torch.Tensor, factor: int) -> torch.Tensor:
    return torch.nn.functional.interpolate(picture, scale_factor=factor, mode="bilinear")


def test_chip_and_vector_are_dlibs(picture: torch.Tensor, points: torch.Tensor) -> None:
    vector = DlibResNet.load()(face_chips(picture, points))[0].numpy()
    assert np.linalg.norm(vector - DLIB["aligned"]) < 0.02


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_a_chip_shows_the_place_that_its_matrix_says(points: torch.Tensor, factor: int) -> None:
    size = 512 * factor
    ramp = (torch.arange(size) + 0.5).expand(size, size)
    chip = face_chips(torch.stack([ramp, ramp.T, ramp])[None], points * factor)[0]
    square = chip_matrices(points * factor)[0]
    centres = torch.cartesian_prod(*[torch.arange(150) + 0.5] * 2)[:, [1, 0]]
    wanted = (centres - square[:, 2]) @ torch.linalg.inv(square[:, :2]).T
    assert (chip[:2].flatten(1).T - wanted).abs().max() < 0.05 * factor


def test_pixels_finer_than_the_chips_are_averaged(points: torch.Tensor) -> None:
    stripes = (torch.arange(2048) % 2).float().expand(1, 3, 2048, 2048)
    chip = face_chips(stripes, points * 4)
    assert (chip - 0.5).abs().max() < 0.05


def test_chips_of_one_face_agree_at_all_sizes(picture: torch.Tensor, points: torch.Tensor) -> None:
    small, large = face_chips(picture, points), face_chips(enlarged(picture, 4), points * 4)
    assert (small - large).abs().mean() < 0.02


def test_a_batch_of_faces_of_all_sizes_gives_each_its_own_chip(picture: torch.Tensor, points: torch.Tensor) -> None:
    pictures = enlarged(picture, 3).expand(3, -1, -1, -1)
    landmarks = torch.cat([points * 3, points, points * 2])
    together = face_chips(pictures, landmarks)
    assert all(torch.equal(together[[i]], face_chips(pictures[[i]], landmarks[[i]])) for i in range(3))


def test_the_head_is_upright_in_the_chip_of_a_turned_photo(picture: torch.Tensor, points: torch.Tensor) -> None:
    assert (face_chips(picture.flip(2, 3), 512 - points) - face_chips(picture, points)).abs().max() < 1e-3


def test_outside_of_the_picture_is_black(picture: torch.Tensor, points: torch.Tensor) -> None:
    chip = face_chips(picture, points - torch.tensor([224.0, 0]))
    assert (chip[..., 30:120, :60] == 0).all() and (chip[..., 30:120, 90:] > 0).any()


def test_gradients_reach_pictures_and_landmarks(picture: torch.Tensor, points: torch.Tensor) -> None:
    pictures, landmarks = enlarged(picture, 3).requires_grad_(True), (points * 3).requires_grad_(True)
    face_chips(pictures, landmarks).square().mean().backward()
    assert pictures.grad.abs().sum() > 0 and (landmarks.grad[0].abs().sum(1) > 0).nonzero()[:, 0].tolist() == sorted(FIVE_POINTS)


@pytest.mark.parametrize("size", [48, 224])
def test_the_box_is_that_of_one_picture_at_a_time(astronaut: np.ndarray, picture: torch.Tensor, face: Face, size: int) -> None:
    wanted = face_box(astronaut, face.landmarks, size) / 255
    found = face_boxes(picture, torch.from_numpy(face.landmarks)[None], size)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).mean() < 0.01


def test_a_box_beyond_the_edge_is_filled_by_reflection(astronaut: np.ndarray, face: Face) -> None:
    left = round(face.box[0]) + 20
    found = face_boxes(torch.from_numpy(astronaut[:, left:].copy()).permute(2, 0, 1)[None] / 255, torch.from_numpy(face.landmarks - [left, 0, 0])[None], 224)
    wanted = face_box(astronaut[:, left:], face.landmarks - np.float32([left, 0, 0]), 224) / 255
    assert np.abs(found[0].permute(1, 2, 0).numpy() - wanted).mean() < 0.02


def test_wrong_input_is_told(picture: torch.Tensor, points: torch.Tensor) -> None:
    with pytest.raises(PhotoError, match="Expected pictures as floats"):
        face_chips((picture * 255).byte(), points)
    with pytest.raises(LandmarkError, match="for 1 pictures, found them for 2"):
        face_chips(picture, points.expand(2, -1, -1))
    with pytest.raises(LandmarkError, match=r"\[B, 478, 2\]"):
        face_chips(picture, points[:, :68])
    for useless in (points * 0, points * float("nan")):
        for cut in (face_chips, partial(face_boxes, size=64)):
            with pytest.raises(LandmarkError, match="not finite, or lie in one pixel"):
                cut(picture, useless)
