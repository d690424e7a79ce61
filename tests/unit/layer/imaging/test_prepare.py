"""Pictures from strangers: the right pixels, or a reason why there are none."""

import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from droplens.imaging.prepare import (
    CODES,
    FORMATS,
    ImageError,
    Limits,
    Preprocessing,
    decode,
    prepare,
)
from tests.support import needs
from tests.support.photos import ORIENTATION, SWAPPED, encode, heic, photo, profile

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(width: int = 64, height: int = 32) -> Image.Image:
    """Red in the upper left quarter, green in the upper right, blue below."""
    picture = Image.new("RGB", (width, height), BLUE)
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    return picture


def near(pixel: Any, wanted: tuple[int, int, int], by: int = 3) -> bool:
    return all(abs(int(a) - b) <= by for a, b in zip(pixel, wanted, strict=True))


def rms_difference(one: Image.Image, other: Image.Image) -> float:
    return float(max(ImageStat.Stat(ImageChops.difference(one, other)).rms))


def png(width: int, height: int, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        out += struct.pack(">I", len(data)) + kind + data
        out += struct.pack(">I", zlib.crc32(kind + data))
    return out


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("AVIF", {"quality": 95}),
    ],
)
def test_every_format_is_read(kind: str, options: dict[str, Any]) -> None:
    assert kind in FORMATS
    picture, info = decode(encode(corners(), kind, **options))
    assert (info.format, info.width, info.height) == (kind, 64, 32)
    assert (picture.mode, picture.size) == ("RGB", (64, 32))
    assert near(picture.getpixel((8, 8)), RED, 6)
    assert near(picture.getpixel((56, 8)), GREEN, 6)
    assert near(picture.getpixel((32, 28)), BLUE, 6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(kind: str, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = corners().transpose(turns[orientation]) if orientation > 1 else corners()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    picture, info = decode(encode(stored, kind, exif=exif, **lossless))
    assert (info.width, info.height) == picture.size == (64, 32)
    assert near(picture.getpixel((4, 4)), RED, 6)
    assert near(picture.getpixel((60, 4)), GREEN, 6)


def test_a_large_jpeg_shrunk_while_decoding_tells_its_true_upright_size() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encode(photo(1600, 1200), "JPEG", exif=exif)
    picture, info = decode(data, shorter_side=100)
    assert (info.width, info.height) == (1200, 1600)
    assert picture.size == (300, 400)


def test_damaged_exif_does_not_spoil_the_picture() -> None:
    data = encode(corners(), "JPEG", exif=b"Exif\0\0garbage that is not TIFF")
    assert decode(data)[0].size == (64, 32)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_on_white(kind: str, mode: str) -> None:
    # Black is what lies under transparency in most files: dropping alpha would show it.
    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (16, 0, 32, 32))
    decoded, _ = decode(encode(picture.convert(mode), kind))
    assert near(decoded.getpixel((4, 16)), WHITE)
    assert near(decoded.getpixel((28, 16)), (0, 0, 0))


def test_half_transparency_is_mixed_with_white() -> None:
    decoded, _ = decode(encode(Image.new("RGBA", (8, 8), (255, 0, 0, 128)), "PNG"))
    assert near(decoded.getpixel((4, 4)), (255, 127, 127))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_with_a_transparent_colour_lies_on_white(kind: str) -> None:
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.paste(1, (8, 0, 16, 16))
    decoded, _ = decode(encode(picture, kind, transparency=0))
    assert decoded.getpixel((2, 8)) == WHITE
    assert decoded.getpixel((12, 8)) == RED


def test_a_palette_with_graded_transparency_lies_on_white() -> None:
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([0, 0, 255, 255, 0, 0])
    picture.paste(1, (8, 0, 16, 16))
    decoded, _ = decode(encode(picture, "PNG", transparency=bytes([0, 255])))
    assert decoded.getpixel((2, 8)) == WHITE
    assert decoded.getpixel((12, 8)) == RED


def test_a_colour_named_transparent_lies_on_white() -> None:
    decoded, _ = decode(encode(corners(), "PNG", transparency=RED))
    assert decoded.getpixel((2, 2)) == WHITE
    assert decoded.getpixel((62, 2)) == GREEN


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    picture = Image.new("I;16", (4, 1))
    for x, level in enumerate((0, 257, 32896, 65535)):
        picture.putpixel((x, 0), level)
    decoded, _ = decode(encode(picture, kind))
    assert [decoded.getpixel((x, 0)) for x in range(4)] == [
        (0, 0, 0),
        (1, 1, 1),
        (128, 128, 128),
        WHITE,
    ]


def test_a_transparent_level_of_sixteen_bits_lies_on_white() -> None:
    rows = zlib.compress(b"\0" + struct.pack(">2H", 1000, 1001))
    data = png(2, 1, 16, 0, (b"tRNS", struct.pack(">H", 1000)), (b"IDAT", rows))
    decoded, _ = decode(data)
    assert [decoded.getpixel((x, 0)) for x in range(2)] == [WHITE, (4, 4, 4)]


def test_sixteen_bit_colours_are_scaled() -> None:
    rows = zlib.compress(b"\0" + struct.pack(">6H", 65535, 0, 0, 0, 32768, 65535))
    decoded, _ = decode(png(2, 1, 16, 2, (b"IDAT", rows)))
    assert decoded.getpixel((0, 0)) == RED
    assert decoded.getpixel((1, 0)) == (0, 128, 255)


@pytest.mark.parametrize(
    ("mode", "levels", "wanted"),
    [
        ("F", (0.0, 0.5, 1.0), (0, 128, 255)),
        ("F", (0.0, 128.0, 255.0), (0, 128, 255)),
        ("F", (-1.0, 0.0, 1.0), (0, 128, 255)),
        ("I", (0, 128, 255), (0, 128, 255)),
        ("I", (0, 32896, 65535), (0, 128, 255)),
        ("I", (0, 1_000_000, 2_000_000), (0, 128, 255)),
    ],
)
def test_wide_grey_levels_are_scaled_by_the_range_that_holds_them(
    mode: str, levels: tuple[float, ...], wanted: tuple[int, ...]
) -> None:
    picture = Image.new(mode, (3, 1))
    for x, level in enumerate(levels):
        picture.putpixel((x, 0), level)
    decoded, _ = decode(encode(picture, "TIFF"))
    assert [decoded.getpixel((x, 0)) for x in range(3)] == [(level,) * 3 for level in wanted]


def test_levels_that_are_no_numbers_are_refused() -> None:
    picture = Image.new("F", (2, 1), float("inf"))
    assert refused(encode(picture, "TIFF")).code == "image.unreadable"


def test_cmyk_jpeg_keeps_its_colours() -> None:
    decoded, _ = decode(encode(corners().convert("CMYK"), "JPEG", quality=95))
    assert near(decoded.getpixel((8, 8)), RED, 6)
    assert near(decoded.getpixel((56, 8)), GREEN, 6)


def test_ycck_jpeg_of_adobe_keeps_its_colours() -> None:
    # Pillow writes CMYK with Adobe's transform 0; 2 says that the same planes are YCC and K.
    data = bytearray(encode(Image.new("CMYK", (16, 16), (128, 128, 128, 0)), "JPEG", quality=95))
    adobe = data.index(b"Adobe")
    assert data[adobe + 11] == 0
    data[adobe + 11] = 2
    # Stored inverted: planes of 127 are Y = Cb = Cr = 127, a middle grey; K of 255 is no black.
    decoded, _ = decode(bytes(data))
    assert near(decoded.getpixel((8, 8)), (127, 127, 127), 6)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_the_picture(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(decode(data)[0].getpixel((8, 8)), RED, 6)


def test_a_phones_jpeg_with_a_second_picture_behind_is_a_jpeg() -> None:
    data = encode(corners(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 32))])
    picture, info = decode(data)
    assert info.format == "JPEG"
    assert near(picture.getpixel((8, 8)), RED, 6)


def refused(data: bytes, limits: Limits | None = None) -> ImageError:
    with pytest.raises(ImageError) as raised:
        decode(data, limits or Limits())
    assert raised.value.code in CODES
    assert raised.value.message
    with pytest.raises(ImageError):
        prepare(data, Preprocessing(shorter_side=64), limits or Limits())
    return raised.value


def test_an_empty_file_is_refused() -> None:
    assert refused(b"").code == "image.empty"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "HTML"),
        (b"%PDF-1.7 and so on", "PDF"),
        (b"PK\x03\x04 and so on", "zip"),
        (b"just some words in a file", "not those of a picture"),
        (bytes(1000), "not those of a picture"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "damaged"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "damaged"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "damaged"),
    ],
)
def test_what_is_no_picture_is_refused_by_what_it_is(data: bytes, word: str) -> None:
    error = refused(data)
    assert error.code == "image.unreadable"
    assert word in error.message


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"8BPS\x00\x01", "Photoshop"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    ],
)
def test_a_picture_of_another_format_is_refused_by_its_name(data: bytes, word: str) -> None:
    error = refused(data)
    assert error.code == "image.unsupported_format"
    assert word in error.message
    assert "JPEG" in error.message


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("BMP", {}),
        ("AVIF", {}),
    ],
)
def test_half_a_picture_is_refused_not_shown_grey(
    kind: str, options: dict[str, Any], share: float
) -> None:
    data = encode(photo(), kind, **options)
    assert refused(data[: int(len(data) * share)]).code == "image.unreadable"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_was_cut_and_closed_again_is_refused_not_shown_grey(mode: str) -> None:
    data = encode(photo().convert(mode), "JPEG")
    error = refused(data[: len(data) // 2] + b"\xff\xd9")
    assert error.code == "image.unreadable"
    assert "ends early" in error.message


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20}])
def test_a_picture_that_really_is_grey_below_is_kept(options: dict[str, Any]) -> None:
    picture = photo()
    picture.paste((128, 128, 128), (0, 120, 320, 240))
    assert decode(encode(picture, "JPEG", **options))[0].size == (320, 240)
    assert decode(encode(picture, "JPEG", **options), shorter_side=30)[0].size == (80, 60)
    assert decode(encode(Image.new("L", (64, 64), 128), "JPEG", **options))[0].size == (64, 64)


def test_a_file_above_the_limit_is_refused() -> None:
    error = refused(encode(photo(), "PNG"), Limits(max_bytes=1000))
    assert error.code == "image.too_large"
    assert "1,000" in error.message


def test_a_bomb_is_refused_by_its_header() -> None:
    # 400 megapixels declared; decoding the two bytes of data would fail in another way.
    error = refused(png(20_000, 20_000, 8, 2, (b"IDAT", b"no")))
    assert error.code == "image.too_many_pixels"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pixels_between_pillows_warning_and_our_limit_are_counted_by_ours() -> None:
    error = refused(png(10_001, 10_000, 8, 0, (b"IDAT", b"no")))
    assert error.code == "image.too_many_pixels"
    assert "10,001x10,000" in error.message


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_what_takes_twice_the_memory_may_have_half_as_many_pixels(kind: str) -> None:
    data = encode(photo(), kind)
    error = refused(data, Limits(max_pixels=320 * 240))
    assert error.code == "image.too_many_pixels"
    assert "320x240" in error.message
    assert "38,400" in error.message
    assert decode(data, Limits(max_pixels=2 * 320 * 240))[0].size == (320, 240)


def test_a_bomb_is_refused_where_warnings_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = refused(png(12_000, 12_000, 8, 2, (b"IDAT", b"no")))
    assert error.code == "image.too_many_pixels"


def test_the_limit_holds_where_pillows_own_is_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert refused(png(40_000, 40_000, 8, 2, (b"IDAT", b"no"))).code == "image.too_many_pixels"


def test_a_jpeg_that_is_painted_over_and_over_is_refused() -> None:
    data = encode(Image.new("RGB", (3000, 3000)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert refused(data[:-2] + 300 * scan + data[-2:]).code == "image.too_many_pixels"
    assert decode(data[:-2] + 3 * scan + data[-2:])[0].size == (3000, 3000)


@pytest.mark.parametrize("size", [(2000, 3), (3, 2000)])
def test_a_strip_is_refused(size: tuple[int, int]) -> None:
    error = refused(encode(Image.new("RGB", size), "PNG"))
    assert error.code == "image.too_narrow"
    assert f"{size[0]:,}x{size[1]:,}" in error.message


def test_a_panorama_within_the_limit_is_kept() -> None:
    assert decode(encode(Image.new("RGB", (2000, 100)), "PNG"))[0].size == (2000, 100)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((400, 300), (128, 96)),
        ((300, 400), (96, 128)),
        ((48, 48), (96, 96)),
        ((1000, 96), (1000, 96)),
    ],
)
def test_the_shorter_side_is_exact(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    jpeg, info = prepare(encode(photo(*size), "PNG"), Preprocessing(shorter_side=96))
    with Image.open(BytesIO(jpeg)) as prepared:
        assert (prepared.format, prepared.size) == ("JPEG", wanted)
        assert "progressive" not in prepared.info
        assert "exif" not in prepared.info
    assert (info.width, info.height) == size


def test_what_was_prepared_passes_through_byte_for_byte() -> None:
    preprocessing = Preprocessing(shorter_side=96)
    once, _ = prepare(encode(photo(), "PNG"), preprocessing)
    twice, info = prepare(once, preprocessing)
    assert twice == once
    assert (info.format, info.height) == ("JPEG", 96)


def test_a_prepared_picture_that_was_cut_off_is_refused() -> None:
    preprocessing = Preprocessing(shorter_side=96)
    once, _ = prepare(encode(photo(), "PNG"), preprocessing)
    with pytest.raises(ImageError, match="damaged"):
        prepare(once[: len(once) // 2], preprocessing)


@pytest.mark.parametrize(
    "stored",
    [
        {"progressive": True},
        {
            "exif": bytes.fromhex(
                "457869660000 49492a0008000000 0100 1201 0300 01000000 06000000 00000000"
            )
        },
    ],
)
def test_a_jpeg_of_the_right_size_that_is_not_plain_is_encoded_anew(stored: dict[str, Any]) -> None:
    data = encode(photo(96, 96), "JPEG", **stored)
    jpeg, _ = prepare(data, Preprocessing(shorter_side=96))
    assert jpeg != data
    with Image.open(BytesIO(jpeg)) as prepared:
        assert "progressive" not in prepared.info
        assert prepared.getexif().get(ORIENTATION) is None


def test_a_comment_in_a_picture_does_not_reach_the_record() -> None:
    jpeg, _ = prepare(
        encode(photo(), "JPEG", comment=b"taken at home"), Preprocessing(shorter_side=96)
    )
    assert b"taken at home" not in jpeg


def test_the_crop_is_the_middle_after_the_resize() -> None:
    picture = Image.new("RGB", (300, 100), BLUE)
    picture.paste(RED, (100, 0, 200, 100))
    jpeg, _ = prepare(encode(picture, "PNG"), Preprocessing(shorter_side=64, crop=48))
    with Image.open(BytesIO(jpeg)) as cropped:
        assert cropped.size == (48, 48)
        assert all(near(cropped.getpixel(at), RED, 6) for at in ((2, 2), (45, 45)))


def test_a_record_is_cropped_with_the_pixels_that_its_picture_would_have() -> None:
    source = encode(photo(640, 480), "PNG")
    record, _ = prepare(source, Preprocessing(shorter_side=96))
    from_record, _ = prepare(record, Preprocessing(shorter_side=96, crop=64))
    from_source, _ = prepare(source, Preprocessing(shorter_side=96, crop=64))
    with Image.open(BytesIO(from_record)) as one, Image.open(BytesIO(from_source)) as other:
        assert one.size == other.size == (64, 64)
        assert rms_difference(one, other) < 4  # one JPEG generation


def test_shrinking_while_decoding_keeps_the_picture() -> None:
    data = encode(photo(1600, 1200), "JPEG", quality=95)
    jpeg, _ = prepare(data, Preprocessing(shorter_side=128))
    whole = decode(data)[0].resize((171, 128), Image.Resampling.LANCZOS)
    with Image.open(BytesIO(jpeg)) as prepared:
        assert prepared.size == whole.size
        assert rms_difference(prepared, whole) < 6


def test_many_threads_get_what_one_gets() -> None:
    pictures = [encode(photo(200 + n, 150), "JPEG") for n in range(12)]
    alone = [prepare(data, Preprocessing(shorter_side=64)) for data in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda data: prepare(data, Preprocessing(shorter_side=64)), pictures)
        )
    assert together == alone


def test_preprocessing_is_stored_and_found_again() -> None:
    for stored in (Preprocessing(shorter_side=256), Preprocessing(256, crop=224, quality=90)):
        assert Preprocessing.from_dict(stored.to_dict()) == stored


@pytest.mark.parametrize(
    "wrong",
    [
        {"shorter_side": 0},
        {"shorter_side": 5000},
        {"shorter_side": 64, "crop": 65},
        {"shorter_side": 64, "crop": 0},
        {"shorter_side": 64, "quality": 100},
    ],
)
def test_preprocessing_that_cannot_be_done_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 to"):
        Preprocessing(**wrong)


# --- HEIC


def test_heic_is_read() -> None:
    picture, info = decode(heic("corners"))
    assert (info.format, info.width, info.height) == ("HEIF", *picture.size)
    assert picture.size == (64, 32)
    assert near(picture.getpixel((8, 8)), RED, 12)
    assert near(picture.getpixel((56, 8)), GREEN, 12)
    assert near(picture.getpixel((32, 28)), BLUE, 12)


def test_transparency_of_heic_lies_on_white() -> None:
    picture, _ = decode(heic("transparent"))
    assert near(picture.getpixel((4, 16)), WHITE, 6)
    assert near(picture.getpixel((28, 16)), (0, 0, 0), 6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_half_a_heic_is_refused(share: float) -> None:
    data = heic("corners")
    assert refused(data[: int(len(data) * share)]).code == "image.unreadable"


def test_heic_is_held_to_the_limits_too() -> None:
    assert refused(heic("corners"), Limits(max_pixels=2000)).code == "image.too_many_pixels"


# --- colour profiles


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("AVIF", {"quality": 95}),
    ],
)
def test_colours_are_read_by_their_profile(kind: str, options: dict[str, Any]) -> None:
    picture, _ = decode(encode(corners(), kind, icc_profile=SWAPPED, **options))
    assert near(picture.getpixel((8, 8)), BLUE, 8)
    assert near(picture.getpixel((56, 8)), GREEN, 8)
    assert near(picture.getpixel((32, 28)), RED, 8)


def test_transparent_colours_are_read_by_their_profile_and_white_stays_white() -> None:
    picture = Image.new("RGBA", (16, 16), (255, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 8, 16))
    decoded, _ = decode(encode(picture, "PNG", icc_profile=SWAPPED))
    assert near(decoded.getpixel((2, 8)), WHITE)
    assert near(decoded.getpixel((12, 8)), BLUE)


def test_grey_levels_are_read_by_their_profile() -> None:
    # With the curve of a gamma of 1: half the light is 188 in sRGB.
    linear = profile((b"RGB ", b"GRAY"), (b"rTRC", b"kTRC"))
    start = int.from_bytes(linear[linear.index(b"kTRC") + 4 :][:4], "big")
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + (256).to_bytes(2, "big")
    linear = linear[:start] + curve + linear[start + len(curve) :]
    decoded, _ = decode(encode(Image.new("L", (8, 8), 128), "PNG", icc_profile=linear))
    assert near(decoded.getpixel((4, 4)), (188, 188, 188))


@pytest.mark.parametrize(
    "useless",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        profile()[:200],
        b"no profile",
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_profile_that_says_nothing_of_these_colours_changes_nothing(
    mode: str, useless: bytes
) -> None:
    picture = photo().convert(mode)
    plain, _ = decode(encode(picture, "TIFF"))
    told, _ = decode(encode(picture, "TIFF", icc_profile=useless))
    assert told.tobytes() == plain.tobytes()


def test_a_jpeg_of_the_right_size_with_its_own_colours_is_encoded_in_srgb() -> None:
    data = encode(corners(192, 96), "JPEG", icc_profile=SWAPPED)
    jpeg, _ = prepare(data, Preprocessing(shorter_side=96))
    with Image.open(BytesIO(jpeg)) as prepared:
        assert "icc_profile" not in prepared.info
        assert near(prepared.getpixel((8, 8)), BLUE, 12)


# --- admission, memory


def test_an_image_is_admitted_by_its_number_of_pixels() -> None:
    requested: list[int] = []

    @contextmanager
    def admit(pixels: int) -> Iterator[None]:
        requested.append(pixels)
        yield

    preprocessing = Preprocessing(shorter_side=96)
    once, _ = prepare(encode(photo(320, 240), "PNG"), preprocessing, admit=admit)
    prepare(once, preprocessing, admit=admit)
    with pytest.raises(ImageError):
        prepare(b"no picture", preprocessing, admit=admit)
    assert requested == [320 * 240, 128 * 96]


PEAK = """
import re, sys
from pathlib import Path
from droplens.imaging.prepare import Preprocessing, prepare

def peak():  # of this process alone, unlike getrusage's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

data = Path(sys.argv[1]).read_bytes()
before = peak()
_, info = prepare(data, Preprocessing(shorter_side=256))
print(info.width * info.height, peak() - before, peak())
"""


@needs.only_with("linux", sys.platform == "linux", "/proc tells the peak")
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_of_50_megapixels_takes_less_than_250_megabytes(
    options: dict[str, Any], repo_root: Path, tmp_path: Path
) -> None:
    # A progressive one keeps its coefficients: three bytes for each pixel.
    large = tmp_path / "large.jpg"
    large.write_bytes(encode(photo(8660, 5774), "JPEG", **options))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(large)],
        env={**os.environ, "PYTHONPATH": str(repo_root / "layers/droplens")},
        capture_output=True,
        text=True,
        check=True,
    )
    pixels, grown, peak = map(int, done.stdout.split())
    assert pixels > 50_000_000
    assert peak < 250_000  # kB
    assert grown < (160_000 if options else 20_000)


@pytest.mark.parametrize(("size", "refused"), [(25 * 2**20, False), (25 * 2**20 + 1, True)])
def test_a_file_of_25_mib_is_taken_and_a_larger_one_is_not(size: int, refused: bool) -> None:
    data = encode(photo(64, 48), "JPEG")
    data += bytes(size - len(data))
    if refused:
        with pytest.raises(ImageError) as told:
            prepare(data, Preprocessing(shorter_side=32))
        assert told.value.code == "image.too_large"
    else:
        assert prepare(data, Preprocessing(shorter_side=32))[1].width == 64
