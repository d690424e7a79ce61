"""The fast path takes only what it can be sure of, and decodes it as Pillow does."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image, ImageCms

from batch_prep.image.plain_jpeg import decode, size_of
from droplens.imaging import prepare
from tests.support.photographs import some
from tests.support.photos import ORIENTATION, encode, photo, with_flipped_bytes

XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation='6'/>"
SCAN = b"\xff\xda"
PLAIN = encode(photo(97, 61))


def exif(orientation: int | None) -> Image.Exif:
    made = Image.Exif()
    made[0x010F] = "a camera"
    if orientation is not None:
        made[ORIENTATION] = orientation
    return made


def with_segment(kind: int, body: bytes, data: bytes | None = None) -> bytes:
    whole = data or PLAIN
    return whole[:2] + bytes([0xFF, kind]) + (len(body) + 2).to_bytes(2, "big") + body + whole[2:]


def check_pixels(data: bytes) -> None:
    picture = decode(data)
    assert picture is not None
    assert picture.mode == "RGB"
    with Image.open(BytesIO(data)) as theirs:
        assert np.array_equal(np.asarray(picture), np.asarray(theirs))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 20}, {"optimize": True}, {"restart_marker_blocks": 3}, {"exif": exif(None)}],
)
def test_plain_ones_have_pillow_s_pixels(subsampling: str, options: dict[str, Any]) -> None:
    for size in ((97, 61), (64, 64), (1, 1), (7, 300)):
        data = encode(photo(*size), subsampling=subsampling, **options)
        assert size_of(data) == size
        check_pixels(data)


@pytest.mark.parametrize("ids", [b"RGB", b"\x00\x01\x02", b"abc"])
def test_the_colours_are_guessed_as_pillow_guesses_them(ids: bytes) -> None:
    """A file without a JFIF header says what its components are by their numbers only."""
    data = bytearray(encode(photo(97, 61), subsampling="4:4:4"))
    del data[2:20]
    frame, scan = data.index(b"\xff\xc0"), data.index(SCAN)
    for place, number in enumerate(ids):
        data[frame + 10 + 3 * place] = number
        data[scan + 5 + 2 * place] = number
    assert size_of(bytes(data)) == (97, 61)
    check_pixels(bytes(data))


def test_photographs_have_pillow_s_pixels(photographs: Path) -> None:
    paths = some(photographs, 36)
    assert all(size_of(path.read_bytes()) for path in paths)
    for path in paths:
        check_pixels(path.read_bytes())


UNUSUAL = {
    "grey": encode(photo().convert("L")),
    "CMYK": encode(photo().convert("CMYK")),
    "progressive": encode(photo(), progressive=True),
    "turned": encode(photo(), exif=exif(6)),
    "with EXIF twice": with_segment(0xE1, exif(1).tobytes(), encode(photo(), exif=exif(1))),
    "turned by XMP": with_segment(0xE1, XMP),
    "with a colour profile": encode(
        photo(), icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
    "Adobe's": with_segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01"),
    "of several pictures": with_segment(0xE2, b"MPF\0"),
    "with a scan for each component": PLAIN.replace(SCAN + b"\0\x0c\x03", SCAN + b"\0\x08\x01"),
    "of 12 bits": PLAIN.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
    "without a frame": PLAIN.replace(b"\xff\xc0", b"\xff\xfe"),
    "with two frames": with_segment(0xC0, PLAIN[PLAIN.index(b"\xff\xc0") + 4 :][:15]),
    "with a short frame": with_segment(0xC0, b"\x08\0"),
    "only a start": PLAIN[:20],
    "not a JPEG": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "empty": b"",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_ones_are_left_to_pillow(name: str) -> None:
    assert size_of(UNUSUAL[name]) is None


def test_damaged_exif_tells_no_turn() -> None:
    data = with_segment(0xE1, b"Exif\0\0MM\0*\0\0")
    assert size_of(data) == size_of(PLAIN) is not None
    check_pixels(data)


def test_it_may_end_anywhere() -> None:
    for end in range(len(PLAIN)):
        assert size_of(PLAIN[:end]) in (None, size_of(PLAIN))


def test_segments_are_counted() -> None:
    data = PLAIN
    for _ in range(11):
        data = with_segment(0xFE, b"", data)
    assert size_of(data) is not None
    assert size_of(PLAIN[:2] + b"\xff\xfe\0\x02" * 5_000_000 + PLAIN[2:]) is None


def test_what_libjpeg_warns_of_is_left_to_pillow() -> None:
    whole = encode(photo(300, 200), quality=95)
    middle = len(whole) // 2
    for damaged in (
        whole[:middle],
        whole[:middle] + b"\xff\xd9",
        whole[:middle] + b"\xff\xd7" + whole[middle:],
        whole[:-2],
    ):
        assert size_of(damaged) == (300, 200)
        assert decode(damaged) is None


@given(with_flipped_bytes())
@settings(max_examples=150, deadline=None)
def test_damage_is_never_decoded_to_other_pixels_than_pillow_s(file: bytes) -> None:
    size = size_of(file)
    if size is None or size[0] * size[1] > 1_000_000:
        return
    picture = decode(file)
    if picture is None:
        return
    theirs, info = prepare.decode(file)
    assert (info.width, info.height) == size == picture.size
    assert np.array_equal(np.asarray(picture), np.asarray(theirs))
