"""A photo of any kind becomes uint8 RGB, upright; what cannot is refused in one sentence."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from facecrafter_core.errors import PhotoError
from facecrafter_core.faces import photo as module
from facecrafter_core.faces.photo import load_photo, photo_from_bytes, photo_from_tensor


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


def test_sixteen_bits_of_a_dark_photo_stay_dark(tmp_path):
    Image.fromarray(np.full((40, 40), 200, np.uint16)).save(tmp_path / "dark.png")
    assert load_photo(tmp_path / "dark.png").max() <= 1


@pytest.mark.parametrize("ending", ["eps", "jpg"])
def test_postscript_is_no_picture_for_it_is_a_program(tmp_path, monkeypatch, ending):
    from PIL import EpsImagePlugin

    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: ran.append("Ghostscript"))
    program = tmp_path / f"me.{ending}"
    program.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n(code) print\n%%EOF\n")
    for read in (lambda: load_photo(program), lambda: photo_from_bytes(program.read_bytes(), program.name)):
        with pytest.raises(PhotoError, match="is not a picture that can be read"):
            read()
    assert not ran


def test_a_photo_that_may_not_be_read_is_not_called_damaged(picture, tmp_path, monkeypatch):
    Image.fromarray(picture).save(tmp_path / "me.png")

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", "me.png")

    monkeypatch.setattr(Image, "open", closed)
    with pytest.raises(PhotoError, match="me.png cannot be opened .Permission denied.. Correct its permissions"):
        load_photo(tmp_path / "me.png")


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
        (tmp_path / ("a" * 300), "cannot be opened .File name too long"),
        ("nobody\0.jpg", "cannot be opened"),
        ("~nobody-has-this-name/me.jpg", "There is no photo"),
        (text / "me.jpg", "There is no photo"),
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


def odd_exif(tag: int, kind: int, value: bytes) -> bytes:
    """EXIF with Orientation 6 and one tag of a kind that it should not have."""
    entries = [struct.pack("<HHI", 274, 3, 1) + b"\6\0\0\0", struct.pack("<HHI", tag, kind, 4 if kind in (2, 7) else 1) + value]
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(sorted(entries)) + bytes(4)


@pytest.mark.parametrize("exif", [odd_exif(256, 2, b"123\0"), odd_exif(256, 9, struct.pack("<i", -1)), odd_exif(282, 7, b"\1\2\3\4")])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_odd_exif_does_not_keep_a_photo_from_being_turned(picture, exif, form):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, exif=exif)
    photo = photo_from_bytes(buffer.getvalue(), "a.jpg")
    with Image.open(buffer) as plain:
        np.testing.assert_array_equal(photo, np.rot90(np.asarray(plain.convert("RGB")), -1))


def test_exif_that_cannot_be_read_turns_nothing(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(photo_from_bytes(buffer.getvalue(), "a.png"), picture)


@pytest.mark.parametrize("raised", [RuntimeError("decode"), struct.error("unpack"), TypeError(), IndexError("x"), OverflowError("y"), ZeroDivisionError()])
def test_whatever_a_decoder_raises_is_a_sentence(picture, tmp_path, monkeypatch, raised):
    Image.fromarray(picture).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: (_ for _ in ()).throw(raised))
    for source, name in ((tmp_path / "a.png", tmp_path / "a.png"), (Image.open(tmp_path / "a.png"), "The picture")):
        with pytest.raises(PhotoError, match=f"^{name} is damaged and cannot be read .{str(raised) or type(raised).__name__}.. Copy"):
            load_photo(source)


def test_a_file_that_holds_no_finite_numbers_is_named(tmp_path):
    Image.fromarray(np.full((40, 40), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(PhotoError, match=f"^{tmp_path / 'nan.tif'}: The photo holds numbers that are not finite"):
        load_photo(tmp_path / "nan.tif")


def test_photos_of_phones_are_reduced_while_they_are_decoded(tmp_path, monkeypatch, recwarn):
    """KEPT_PIXELS and MAX_PIXELS are a hundredth here, so that 108 and 200 megapixels are 1.08 and 2."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 890_000)
    monkeypatch.setattr(module, "KEPT_PIXELS", 640_000)
    monkeypatch.setattr(module, "MAX_PIXELS", 2_560_000)
    ramp = np.linspace(0, 255, 1632).astype(np.uint8)
    for size, kept in (((1200, 900), (600, 450)), ((1632, 1224), (816, 612))):
        for name in ("a.jpg", "a.png"):
            Image.fromarray(np.broadcast_to(ramp[None, : size[0], None], (*size[::-1], 3)).copy()).save(tmp_path / name)
            photo = load_photo(tmp_path / name)
            assert photo.shape == (*kept[::-1], 3) and abs(int(photo[100, 300, 0]) - int(ramp[601])) < 4
    Image.new("L", (2000, 1300)).save(tmp_path / "huge.png")
    with pytest.raises(PhotoError, match="huge.png is 2000 x 1300 pixels; at most 2 megapixels can be read. Reduce it first."):
        load_photo(tmp_path / "huge.png")
    assert not len(recwarn) and Image.MAX_IMAGE_PIXELS == 890_000


def test_the_largest_photos_of_phones_are_within_the_limit():
    assert max(12000 * 9000, 16320 * 12240, 16384 * 12288) <= module.MAX_PIXELS


def test_a_heic_that_cannot_be_read_says_what_to_do(tmp_path):
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(PhotoError, match="JPEG, or run `pip install pillow-heif`|damaged"):
        load_photo(tmp_path / "a.HEIC")
