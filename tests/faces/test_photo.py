"""A photo of any kind becomes uint8 RGB, upright; what cannot is refused in one sentence."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from facecrafter_core.errors import PhotoError
from facecrafter_core.faces.photo import load_photo, photo_from_tensor


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def smooth() -> np.ndarray:
    return np.linspace(0, 1, 40 * 60).reshape(40, 60)


def test_a_file_a_pil_image_and_an_array_give_the_same_photo(picture, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture).save(path)
    for source in (path, str(path), Image.fromarray(picture), picture):
        np.testing.assert_array_equal(load_photo(source), picture)


@pytest.mark.parametrize("orientation, turned", [(1, lambda p: p), (3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p, -1)), (8, np.rot90)])
def test_exif_rotation_is_applied(picture, tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(load_photo(tmp_path / "photo.png"), turned(picture))


def test_transparency_is_laid_over_white(picture):
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:10] = 0
    photo = load_photo(Image.fromarray(np.concatenate([picture, alpha], axis=2)))
    assert (photo[:10] == 255).all()
    np.testing.assert_array_equal(photo[10:], picture[10:])
    np.testing.assert_array_equal(load_photo(np.concatenate([picture, alpha], axis=2)), photo)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "HSV", "RGBA"])
def test_every_pillow_mode_is_read(picture, mode):
    photo = load_photo(Image.fromarray(picture).convert(mode))
    assert photo.shape == (40, 60, 3) and photo.dtype == np.uint8


def test_a_palette_with_transparency_is_read():
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.info["transparency"] = 0
    assert (load_photo(palette) == 255).all()


def test_sixteen_bits_keep_their_brightness(smooth, tmp_path):
    Image.fromarray((smooth * 65535).astype(np.uint16)).save(tmp_path / "deep.png")
    expected = np.repeat((smooth * 255)[..., None], 3, axis=2)
    assert np.abs(load_photo(tmp_path / "deep.png") - expected).max() <= 1
    assert np.abs(load_photo((smooth * 65535).astype(np.uint16)) - expected).max() <= 1


def test_a_tensor_of_one_three_or_four_channels_is_a_photo(smooth):
    for channels in (1, 3):
        photo = photo_from_tensor(torch.from_numpy(np.repeat(smooth[..., None], channels, axis=2)))
        assert np.abs(photo - (smooth * 255)[..., None]).max() <= 0.5 + 1e-6
    assert (photo_from_tensor(torch.zeros(20, 20, 4)) == 255).all()


def test_twelve_megapixels_are_read(tmp_path):
    Image.fromarray(np.zeros((3000, 4000, 3), np.uint8)).save(tmp_path / "large.jpg")
    assert load_photo(tmp_path / "large.jpg").shape == (3000, 4000, 3)


def test_what_is_no_photo_is_refused_in_one_sentence(tmp_path, picture):
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture")
    empty = tmp_path / "empty.png"
    empty.touch()
    buffer = io.BytesIO()
    Image.fromarray(np.tile(picture, (8, 8, 1))).save(buffer, "JPEG")
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(buffer.getvalue()[:3000])
    for source, words in (
        (tmp_path / "missing.jpg", "There is no photo"),
        (tmp_path, "is a folder"),
        (text, "is not a picture"),
        (empty, "is empty"),
        (damaged, "damaged"),
        (None, "Expected a photo"),
        (np.zeros((0, 0, 3), np.uint8), "at least"),
        (np.zeros((4, 4, 3), np.uint8), "at least"),
        (np.zeros((40, 40, 2), np.uint8), "Expected a picture of shape"),
        (np.zeros((1, 40, 40, 3), np.uint8), "Expected a picture of shape"),
        (np.full((40, 40, 3), np.nan, np.float32), "not finite"),
        (np.full((40, 40, 3), 200.0), "0..1"),
        (np.zeros((40, 40, 3), np.int64), "int64"),
        (np.broadcast_to(np.uint8(0), (50_000, 50_000, 3)), "megapixels"),
    ):
        with pytest.raises(PhotoError, match=words):
            load_photo(source)


def test_a_batch_is_not_one_photo():
    with pytest.raises(PhotoError, match="Take one out of the batch"):
        photo_from_tensor(torch.zeros(2, 40, 40, 3))


def test_a_tensor_with_nan_is_refused():
    with pytest.raises(PhotoError, match="not finite"):
        photo_from_tensor(torch.full((40, 40, 3), torch.nan))
