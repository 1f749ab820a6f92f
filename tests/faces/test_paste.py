"""A face that is cut out of a picture goes back into its place, and nothing else of the picture changes."""

import numpy as np
import pytest

from facecrafter_core.errors import LandmarkError, NoFaceError, PhotoError
from facecrafter_core.faces.align import align_face
from facecrafter_core.faces.paste import crop_face, face_region, match_colour, paste_face


@pytest.fixture(scope="module")
def picture(astronaut):
    return astronaut.astype(np.float32) / 255


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("shape", ["oval", "square"])
def test_an_unchanged_face_goes_back_to_within_resampling(picture, face, upright, margin, shape):
    crop = crop_face(picture, face.landmarks, 512, upright, margin, shape)
    back = paste_face(picture, crop.image, crop)
    assert 0 < np.abs(back - picture).max() < 0.25 and np.abs(back - picture).mean() < 0.0015
    moved = paste_face(picture, np.roll(crop.image, 8, axis=1), crop)
    assert np.abs(moved - picture).mean() > 2 * np.abs(back - picture).mean(), "a shift would not be seen"


def test_pasting_at_the_pictures_own_scale_is_exact_to_rounding(picture):
    """A square that lies on the pixel grid: no resampling at all."""
    from facecrafter_core.faces.paste import FaceCrop

    matrix = np.array([[1.0, 0, -100], [0, 1, -50]])
    crop = FaceCrop(picture[50:178, 100:228].copy(), np.zeros((478, 3)), np.ones((128, 128), np.float32), matrix)
    assert np.array_equal(paste_face(picture, crop.image, crop), picture)
    black = paste_face(picture, np.zeros_like(crop.image), crop)
    assert black[50:178, 100:228].max() == 0
    black[50:178, 100:228] = picture[50:178, 100:228]
    assert np.array_equal(black, picture)


@pytest.mark.parametrize("upright", [False, True])
def test_outside_of_the_mask_the_picture_stays_bit_for_bit(picture, face, upright):
    crop = crop_face(picture, face.landmarks, 256, upright)
    changed = paste_face(picture, np.zeros_like(crop.image), crop) != picture
    allowed = face_region(face.landmarks, picture.shape[:2], "oval", 0.05, 0.05 + 0.02) > 0
    assert changed.any() and not (changed.any(axis=2) & ~allowed).any()
    assert np.array_equal(paste_face(picture, np.zeros_like(crop.image), crop, np.zeros((256, 256))), picture)


def test_the_new_face_lands_on_the_old_ones_place(picture, face, landmarker):
    for upright in (False, True):
        crop = crop_face(picture, face.landmarks, 512, upright, shape="square")
        mirrored = paste_face(picture, crop.image[::2, ::2], crop)  # at half the crop's side
        again = landmarker.find_face(np.round(mirrored * 255).astype(np.uint8)).landmarks
        assert np.abs(again - face.landmarks)[:, :2].mean() < 0.01 * face.size


def test_a_tilted_head_is_cut_upright_and_pasted_tilted(astronaut, landmarker):
    import cv2

    turned = cv2.warpAffine(astronaut, cv2.getRotationMatrix2D((225, 120), 30, 1), (512, 512))
    found = landmarker.find_face(turned)
    crop = crop_face(turned.astype(np.float32) / 255, found.landmarks, 256, upright=True)
    assert abs(landmarker.find_face(np.round(crop.image * 255).astype(np.uint8)).pose.roll) < 5 < abs(found.pose.roll)
    back = paste_face(turned.astype(np.float32) / 255, crop.image, crop)
    assert np.abs(back - turned.astype(np.float32) / 255).mean() < 0.003


def test_a_face_at_the_border_keeps_the_picture_whole(astronaut, face):
    corner = np.ascontiguousarray(astronaut[60:200, 160:290]).astype(np.float32) / 255
    crop = crop_face(corner, face.landmarks - np.array([160, 60, 0], np.float32), 256, shape="square")
    back = paste_face(corner, crop.image, crop)
    assert back.shape == corner.shape and np.abs(back - corner).mean() < 0.005
    beyond = crop_face(corner, face.landmarks + np.array([5000, 0, 0], np.float32), 64)
    assert np.array_equal(paste_face(corner, beyond.image * 0, beyond), corner)


def test_the_crop_is_the_square_that_landmarks_are_extracted_from(astronaut, picture, face):
    crop, aligned = crop_face(picture, face.landmarks, 256), align_face(astronaut, face.landmarks, 256, rotate=False)
    assert np.array_equal(crop.landmarks, aligned.landmarks)
    assert np.abs(crop.image - aligned.image / 255).mean() < 0.01
    wide = crop_face(picture, face.landmarks, 256, margin=0.5).landmarks
    assert np.ptp(wide[:, 0]) == pytest.approx(np.ptp(crop.landmarks[:, 0]) / 1.5, rel=1e-4)


def test_the_mask_is_1_on_the_face_0_along_the_border_and_soft_between(picture, face):
    for shape in ("oval", "square"):
        mask = crop_face(picture, face.landmarks, 256, shape=shape).mask
        nose = np.round(crop_face(picture, face.landmarks, 256).landmarks[4, :2] * 256).astype(int)
        assert mask[nose[1], nose[0]] == 1 and mask[[0, -1]].max() == 0 and mask[:, [0, -1]].max() == 0
        assert ((mask > 0.2) & (mask < 0.8)).any() and mask.min() >= 0 and mask.max() == 1


def test_grow_and_feather_are_shares_of_the_square(face):
    areas = [face_region(face.landmarks, (512, 512), grow=grow, feather=0).sum() for grow in (-0.1, 0, 0.1)]
    assert areas[0] < 0.8 * areas[1] and areas[2] > 1.2 * areas[1]
    hard, soft = (face_region(face.landmarks, (512, 512), feather=f) for f in (0.0, 0.2))
    assert ((hard > 0) & (hard < 1)).sum() < 0.1 * hard.sum() and ((soft > 0) | (hard == 0)).all() and (soft > 0).sum() > (hard > 0).sum()


def test_faces_of_a_group_have_masks_of_their_own(group, landmarker):
    faces = landmarker.find_faces(group)
    assert [f.box[0] for f in faces] == sorted(f.box[0] for f in faces) and len(faces) == 3
    masks = np.stack([face_region(f.landmarks, group.shape[:2]) for f in faces])
    assert (masks.max(axis=(1, 2)) == 1).all() and (masks > 0).sum(0).max() == 1, "they overlap"
    assert [np.argmax(m[round(float(f.landmarks[4, 1]))]) // 200 for f, m in zip(faces, masks, strict=True)] == [0, 1, 2]


def test_faces_below_the_smallest_size_are_left_out_and_none_is_an_error(group, landmarker):
    sizes = sorted(f.size for f in landmarker.find_faces(group))
    assert len(landmarker.find_faces(group, smallest=(sizes[0] + sizes[1]) / 2)) == 2
    with pytest.raises(NoFaceError, match="at least 1000 pixels.*3 smaller"):
        landmarker.find_faces(group, smallest=1000)


def test_matching_colours_gives_the_old_faces_light(picture, face):
    crop = crop_face(picture, face.landmarks, 256)
    blue = (crop.image * [0.5, 0.7, 1.0]).astype(np.float32)
    matched = match_colour(blue, crop.image, crop.mask)
    assert np.abs(matched - crop.image)[crop.mask > 0].mean() < 0.3 * np.abs(blue - crop.image)[crop.mask > 0].mean()
    assert np.abs(match_colour(crop.image, crop.image, crop.mask) - crop.image).max() < 0.01


def test_bad_input_is_told_in_one_sentence(picture, face):
    crop = crop_face(picture, face.landmarks, 64)
    with pytest.raises(PhotoError, match="as a square.*64 x 32"):
        paste_face(picture, crop.image[:32], crop)
    with pytest.raises(PhotoError, match="not finite"):
        paste_face(picture, crop.image * np.nan, crop)
    with pytest.raises(PhotoError, match="keep, match"):
        paste_face(picture, crop.image, crop, colour="mach")
    with pytest.raises(LandmarkError, match="oval, square"):
        face_region(face.landmarks, (64, 64), "round")
    with pytest.raises(LandmarkError, match="478"):
        face_region(face.landmarks[:68], (64, 64))
