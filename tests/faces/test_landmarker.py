"""The landmarker finds faces in real photos, large and small, and says what is wrong where it cannot."""

import cv2
import numpy as np
import pytest

from facecrafter_core.batch import picture_names
from facecrafter_core.diffusion.families import DEMO_FOLDER
from facecrafter_core.errors import UNUSABLE, AssetError, FaceChoiceError, NoFaceError, PhotoError, about
from facecrafter_core.faces.identity import DemoIdentityEncoder, encode_identity
from facecrafter_core.faces.landmarker import MIN_FACE, FaceLandmarker
from facecrafter_core.faces.photo import load_photo


def test_a_face_has_478_points_52_scores_and_a_head_matrix(face):
    assert face.landmarks.shape == (478, 3) and face.blendshapes.shape == (52,) and face.head_matrix.shape == (4, 4)
    x0, y0, x1, y1 = face.box
    assert 150 < x0 < x1 < 300 and 50 < y0 < y1 < 200  # where the astronaut's face is
    assert face.blendshapes.min() >= 0 and face.blendshapes.max() <= 1


def test_a_tight_crop_is_found_with_a_border(face, astronaut, landmarker):
    x0, y0, x1, y1 = (round(v) for v in face.box)
    tight = np.ascontiguousarray(astronaut[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4])
    found = landmarker.find_face(tight)
    offset = found.landmarks[:, :2] + [x0 + 4, y0 + 4] - face.landmarks[:, :2]
    assert np.abs(offset).mean() < 5


def test_a_small_face_in_a_large_photo_is_found(crop, landmarker):
    photo = np.full((1200, 1600, 3), 90, np.uint8)
    photo[700:880, 1200:1380] = crop
    assert 1200 < landmarker.find_face(photo).box[0] < 1380


def test_a_face_cut_by_the_border_is_found(astronaut, face, landmarker):
    left = round(face.landmarks[4, 0]) - 25  # the picture ends a little beside the nose
    cut = np.ascontiguousarray(astronaut[:, left:])
    found = landmarker.find_face(cut)
    assert np.abs(found.landmarks[4, :2] + [left, 0] - face.landmarks[4, :2]).max() < 12


def test_a_twelve_megapixel_photo_gives_the_same_points(astronaut, face, landmarker):
    large = cv2.resize(astronaut, (3500, 3500), interpolation=cv2.INTER_CUBIC)
    found = landmarker.find_face(large)
    assert np.abs(found.landmarks[:, :2] / (3500 / 512) - face.landmarks[:, :2]).mean() < 1.5


def test_grey_and_sixteen_bit_photos_give_nearly_the_same_points(astronaut, face, landmarker):
    grey = astronaut.mean(2)
    for photo in (load_photo(grey.astype(np.uint8)), load_photo((grey * 257).astype(np.uint16))):
        assert np.abs(landmarker.find_face(photo).landmarks[:, :2] - face.landmarks[:, :2]).mean() < 2


def test_faces_are_chosen_by_size_and_from_left_to_right(group, landmarker):
    middle = lambda face: (face.box[0] + face.box[2]) / 2  # noqa: E731
    assert len(landmarker.detect(group)) == 3
    assert 200 < middle(landmarker.find_face(group)) < 470  # the largest stands in the middle
    places = [middle(landmarker.find_face(group, i)) for i in range(3)]
    assert places == sorted(places) and places[0] < 200 < 470 < places[2]


def test_one_face_of_many_must_be_chosen(group, landmarker):
    with pytest.raises(FaceChoiceError, match="found 3. Choose one by its number"):
        landmarker.find_face(group, "only")
    with pytest.raises(FaceChoiceError, match="has 3"):
        landmarker.find_face(group, 3)
    with pytest.raises(FaceChoiceError, match="largest"):
        landmarker.find_face(group, "tallest")


def test_no_face_is_said_so(landmarker):
    blank = np.full((300, 400, 3), 128, np.uint8)
    assert landmarker.detect(blank) == []
    with pytest.raises(NoFaceError, match="No face was found in the photo .400 x 300"):
        landmarker.find_face(blank)


def test_a_picture_without_a_face_is_told_by_its_number_or_its_name(astronaut, landmarker):
    encoder = DemoIdentityEncoder(DEMO_FOLDER / "identity" / "model.safetensors")
    photos = [astronaut, np.full((300, 400, 3), 128, np.uint8)]
    for names, words in ((None, "picture 2 of 2: No face"), (picture_names("photo_3", 2), "picture 2 of 2 in photo_3: No face"), (["a.jpg", "b.jpg"], "b.jpg: No face")):
        with pytest.raises(NoFaceError, match=f"^{words}"):
            encode_identity(photos, landmarker, encoder, names=names)
    with pytest.raises(NoFaceError, match="^No face"):
        encode_identity(photos[1:], landmarker, encoder)
    assert picture_names("photo", 1) == ["photo"]


def test_only_what_is_a_pictures_fault_is_told_with_its_name():
    for error in UNUSABLE:
        with pytest.raises(error, match="^frame 3: why$"), about("frame 3"):
            raise error("why")
    with pytest.raises(AssetError, match="^why$"), about("frame 3"):
        raise AssetError("why")


def test_a_face_of_twenty_pixels_is_too_small(crop, landmarker):
    side = round(180 * 20 / 106)  # the crop's face is 106 pixels high
    photo = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    with pytest.raises(NoFaceError, match=f"at least {MIN_FACE}|No face"):
        landmarker.find_face(photo)


def test_only_photos_are_taken(landmarker):
    for wrong in (np.zeros((40, 40), np.uint8), np.zeros((40, 40, 3), np.float32), np.zeros((0, 40, 3), np.uint8), None):
        with pytest.raises(PhotoError, match="Expected a photo"):
            landmarker.detect(wrong)


def test_a_wrong_model_file_is_refused(tmp_path, astronaut):
    wrong = tmp_path / "face_landmarker.task"
    wrong.write_text("not a model")
    with pytest.raises(AssetError, match="face_landmarker.task"):
        FaceLandmarker(wrong).detect(astronaut)


def test_roll_is_positive_clockwise(astronaut, face, landmarker):
    centre = tuple(float(v) for v in face.landmarks[4, :2])
    for clockwise in (25, -25):
        turned = cv2.warpAffine(astronaut, cv2.getRotationMatrix2D(centre, -clockwise, 1), (512, 512))
        assert landmarker.find_face(turned).pose.roll - face.pose.roll == pytest.approx(clockwise, abs=6)


def test_a_mirrored_photo_mirrors_yaw_and_roll(astronaut, landmarker):
    turned = cv2.warpAffine(astronaut, cv2.getRotationMatrix2D((225, 120), -15, 1), (512, 512))
    pose, mirrored = landmarker.find_face(turned).pose, landmarker.find_face(np.ascontiguousarray(turned[:, ::-1])).pose
    assert mirrored.roll == pytest.approx(-pose.roll, abs=4) and mirrored.yaw == pytest.approx(-pose.yaw, abs=4)
    assert mirrored.pitch == pytest.approx(pose.pitch, abs=4)


def test_yaw_is_positive_to_the_right_of_the_picture(landmarker):
    poses = {i: landmarker.find_face(load_photo(DEMO_FOLDER / "samples" / f"portrait_{i}.jpg")).pose for i in (4, 5, 6)}
    assert poses[4].yaw > 10  # rendered at +27, -12 and -20 degrees
    assert poses[5].yaw < -3 and poses[6].yaw < -8
