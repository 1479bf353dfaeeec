import pickle

import numpy as np
import pytest
from PIL import Image

from gossamer import InputError
from gossamer_vision import readers

PIXELS = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
# As Python 2 wrote CIFAR's files: text of bytes, and NumPy's old names.
OF_PYTHON_2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87"
    b"Rq\x05(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tb\x89T\x00\x18\x00\x00" + PIXELS.tobytes() + b"tbU\x06labels]q\x08(K\x01K\x02eu."
)


@pytest.mark.parametrize(
    "content", [OF_PYTHON_2, *(pickle.dumps({b"data": PIXELS, "labels": [1, 2]}, protocol) for protocol in (2, 3, 4))]
)
def test_cifar_pickles_of_every_age_are_read(tmp_path, content):
    (tmp_path / "batch").write_bytes(content)
    found = readers.cifar(tmp_path / "batch")
    assert found["labels"] == [1, 2] and np.array_equal(found["data"], PIXELS) and found["data"].dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (OF_PYTHON_2.replace(b"u1", b"O8"), "type b'O8', not of bytes"),
        (OF_PYTHON_2.replace(b"M\x00\x0c", b"M\x00\x0d"), r"6144 bytes for an array of \[2, 3328\]"),
        (OF_PYTHON_2.replace(b"K\x01K\x02M", b"K\x01K\x03M"), r"6144 bytes for an array of \[3, 3072\]"),
        (OF_PYTHON_2.replace(b"u1K\x00K\x01", b"u1K\x00K\x01K\x01"), "no file of CIFAR's"),
        (b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", "unhashable"),
        (b"\x80\x04}B\xff\xff\xff\x7f.", "no file of CIFAR's: EOFError"),
        (pickle.dumps({b"data": b"x" * 9})[:-4], "no file of CIFAR's"),
        (pickle.dumps([1]), "no file of CIFAR's"),
    ],
)
def test_damaged_cifar_pickles_are_named_and_crash_nothing(tmp_path, content, message):
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(InputError, match=message):
        readers.cifar(tmp_path / "batch")


def test_pictures_are_cut_to_their_middle_before_they_grow(tmp_path):
    tall = np.zeros((30_000, 1), np.uint8)
    tall[15_000 - 1 : 15_000 + 1] = 77
    Image.fromarray(tall).save(tmp_path / "tall.png")
    assert readers.picture(tmp_path / "tall.png", 64).unique().tolist() == [77]
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).save(tmp_path / "wide.png")
    assert readers.picture(tmp_path / "wide.png", 4, channels=1)[0, 0].tolist() == [1, 2, 3, 4]


def test_pictures_are_turned_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise, to see it
    Image.fromarray(np.array([[1, 2], [3, 4]], np.uint8)).save(tmp_path / "turned.png", exif=exif)
    assert readers.picture(tmp_path / "turned.png", 2, channels=1)[0].tolist() == [[3, 1], [4, 2]]


def test_a_large_jpeg_is_read_as_a_bitmap_of_its_pixels_is(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(levels).resize((1600, 1200), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=90)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
    assert readers._upright(tmp_path / "a.jpg", 8 * 16).size == (200, 150)
    few, all_ = (readers.picture(tmp_path / name, 16).int() for name in ("a.jpg", "a.png"))
    assert (few - all_).abs().max() <= 1


def test_pictures_with_more_pixels_than_pillow_takes_for_safe_are_refused(tmp_path, monkeypatch):
    Image.new("L", (30, 20)).save(tmp_path / "large.png")
    for limit in (599, 250):  # at once the limit Pillow warns of, at twice that it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match=r"large.png .*600 pixels"):
            readers.picture(tmp_path / "large.png", 8)


def wide(path, ground: tuple[int, ...], ink: tuple[int, ...]) -> None:
    """A picture of 12 by 4 pixels, its left third of another colour."""
    image = Image.new("RGB", (12, 4), ground)
    image.paste(ink, (0, 0, 4, 4))
    image.save(path)


def test_pictures_are_made_square_by_hand(tmp_path):
    wide(tmp_path / "a.png", ground=(10, 10, 10), ink=(200, 200, 200))
    crop, pad, stretch = (readers.picture(tmp_path / "a.png", 12, 1, fit)[0] for fit in ("crop", "pad", "stretch"))
    assert set(crop.flatten().tolist()) == {10}
    assert pad[0].tolist() == [255] * 12 == pad[11].tolist() and pad[6].tolist() == [200] * 4 + [10] * 8
    assert stretch[0].tolist() == stretch[11].tolist() and stretch[5, 0] == 200 and stretch[5, 11] == 10


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "LA"])
def test_pictures_of_every_mode_are_padded_with_white(tmp_path, mode):
    Image.new(mode, (12, 4)).save(tmp_path / "a.png")
    assert readers.picture(tmp_path / "a.png", 12, 1, "pad")[0, 0].tolist() == [255] * 12


@pytest.mark.parametrize(
    ("sizes", "size", "fit"),
    [
        ([(28, 28)] * 5, 28, "crop"),
        ([(90, 70)] * 5, 64, "crop"),
        ([(9, 9)] * 5, 16, "crop"),
        ([(60, 29)] * 5, 32, "pad"),
    ],
)
def test_a_folder_s_pictures_choose_their_frame(tmp_path, sizes, size, fit):
    (tmp_path / "cat").mkdir()
    for number, pair in enumerate(sizes):
        Image.new("L", pair).save(tmp_path / "cat" / f"{number}.png")
    (tmp_path / "cat" / "bad.png").write_bytes(b"no picture")
    found = readers.survey(tmp_path)
    assert (found.size, found.fit) == (size, fit) and found.reasons.keys() == {"image_size", "fit"}


def test_a_picture_of_too_many_pixels_says_so(tmp_path, monkeypatch):
    Image.new("1", (100, 100)).save(tmp_path / "a.png")
    for most in (6000, 3000):  # where Pillow warns, and where it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(InputError, match=rf"a\.png has more pixels than are read .* at most {most:,} pixels"):
            readers.picture(tmp_path / "a.png", 8)
