"""Alignment, drawing and mask agree on where the face is."""

import numpy as np
import pytest

from facecrafter_core.errors import LandmarkError
from facecrafter_core.faces import landmarks as groups
from facecrafter_core.faces.align import align_face, square_from_points
from facecrafter_core.faces.drawing import draw_landmarks
from facecrafter_core.faces.mask import face_mask


def test_the_square_follows_the_rule_of_ffhq():
    centre, half, axis = square_from_points(np.array([40, 50]), np.array([60, 50]), np.array([43, 80]), np.array([57, 80]))
    assert half == pytest.approx(1.8 * 30) and centre.tolist() == [50, 53] and axis.tolist() == [1, 0]
    _, half, _ = square_from_points(np.array([20, 50]), np.array([80, 50]), np.array([40, 80]), np.array([60, 80]))
    assert half == pytest.approx(2 * 60)


def test_landmarks_lie_on_the_aligned_face(astronaut, face, landmarker):
    aligned = align_face(astronaut, face.landmarks, size=256, rotate=False)
    again = landmarker.find_face(aligned.image).landmarks[:, :2] / 256
    assert np.abs(again - aligned.landmarks[:, :2]).mean() < 0.01


def test_rotation_takes_the_roll_out(astronaut, face, landmarker):
    import cv2

    turned = cv2.warpAffine(astronaut, cv2.getRotationMatrix2D((225, 120), 30, 1), (512, 512))
    points = landmarker.find_face(turned).landmarks
    level, tilted = (align_face(turned, points, 256, rotate).landmarks for rotate in (True, False))
    slope = lambda p: np.subtract(*(p[list(eye), 1].mean() for eye in (groups.LEFT_EYE, groups.RIGHT_EYE)))  # noqa: E731
    assert abs(slope(level)) < 0.02 and abs(slope(tilted)) > 0.08


def test_the_square_may_reach_beyond_the_photo(astronaut, face):
    corner = np.ascontiguousarray(astronaut[60:200, 160:290])
    aligned = align_face(corner, face.landmarks - np.array([160, 60, 0], np.float32), size=128)
    assert aligned.image.shape == (128, 128, 3) and aligned.image.min(axis=(0, 1)).max() < 255


def test_the_mask_covers_the_inner_face_only(astronaut, face):
    points = align_face(astronaut, face.landmarks, 256, rotate=False).landmarks
    mask = face_mask(points, 256)
    x, y = np.round(points[4, :2] * 256).astype(int)
    assert mask[y, x] == 1 and mask[0].max() == 0 and 0.1 < mask.mean() < 0.5


def test_a_blink_and_an_open_mouth_change_the_drawing(astronaut, face):
    points = align_face(astronaut, face.landmarks, 256, rotate=False).landmarks
    drawn = draw_landmarks(points, 256)
    for group in (groups.RIGHT_EYE, groups.INNER_LIPS):
        closed = points.copy()
        closed[list(group), 1] = points[list(group), 1].mean()
        assert (draw_landmarks(closed, 256) != drawn).any(axis=2).sum() > 20


def test_half_a_pixel_moves_the_drawing(astronaut, face):
    points = align_face(astronaut, face.landmarks, 256, rotate=False).landmarks
    moved = points + np.array([0.5 / 256, 0, 0], np.float32)
    assert (draw_landmarks(moved, 256) != draw_landmarks(points, 256)).any()


def test_a_face_is_told_from_its_mirror_image(astronaut, face, landmarker):
    mirror = np.ascontiguousarray(astronaut[:, ::-1])
    drawn = draw_landmarks(align_face(astronaut, face.landmarks, 256).landmarks, 256)
    mirrored = draw_landmarks(align_face(mirror, landmarker.find_face(mirror).landmarks, 256).landmarks, 256)
    eye = lambda picture, colour: np.argwhere((picture == colour).all(axis=2))[:, 1].mean()  # noqa: E731
    for picture in (drawn, mirrored):  # the person's right eye stays green and on the left of the picture
        assert eye(picture, (0, 255, 0)) < 128 < eye(picture, (0, 220, 255))


@pytest.mark.parametrize(
    "points", [np.zeros((68, 2)), np.zeros((478, 4)), np.full((478, 3), np.nan), np.zeros((1, 478, 3))], ids=["68", "4d", "nan", "batch"]
)
def test_what_are_no_landmarks_is_refused(points):
    for use in (lambda: draw_landmarks(points, 64), lambda: face_mask(points, 64)):
        with pytest.raises(LandmarkError):
            use()


def test_landmarks_without_extent_cannot_be_aligned():
    with pytest.raises(LandmarkError, match="span no area"):
        align_face(np.zeros((64, 64, 3), np.uint8), np.zeros((478, 3)))


def test_an_unknown_drawing_style_is_refused(face):
    with pytest.raises(LandmarkError, match="style 1, found 7"):
        draw_landmarks(face.landmarks / 512, 64, style=7)
