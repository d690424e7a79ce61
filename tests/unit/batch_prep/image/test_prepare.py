"""The fast resize: what it makes and what it refuses is what droplens.imaging.prepare does."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from batch_prep.image.fingerprint import FINGERPRINT_BYTES
from batch_prep.image.prepare import Prepared, prepare
from droplens.imaging import prepare as pictures
from droplens.imaging.prepare import ImageError, Limits, Preprocessing
from tests.support.photographs import some
from tests.support.photos import ORIENTATION, encode, photo, with_flipped_bytes

TO_64 = Preprocessing(shorter_side=64)
LIMITS = Limits()


def fast(data: bytes, preprocessing: Preprocessing = TO_64, limits: Limits = LIMITS) -> Prepared:
    return prepare(data, preprocessing, limits)


def pixels(jpeg: bytes) -> np.ndarray:
    with Image.open(BytesIO(jpeg)) as picture:
        return np.asarray(picture.convert("RGB"), np.int16)


def refusal(prepare: Callable[[], object]) -> tuple[str, str] | None:
    try:
        prepare()
    except ImageError as error:
        return error.code, error.message
    return None


def check_same(
    data: bytes, preprocessing: Preprocessing = TO_64, limits: Limits = LIMITS
) -> Prepared | str:
    """Both ways refuse `data` by one code, which is returned, or make nearly one picture of it."""
    refused = refusal(lambda: fast(data, preprocessing, limits))
    assert refused == refusal(lambda: pictures.prepare(data, preprocessing, limits))
    if refused:
        return refused[0]
    jpeg, info = pictures.prepare(data, preprocessing, limits)
    made = fast(data, preprocessing, limits)
    assert (made.format, made.width, made.height) == (info.format, info.width, info.height)
    difference = np.abs(pixels(made.jpeg) - pixels(jpeg))
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) <= 10
    return made


@pytest.mark.parametrize("size", [(320, 240), (1601, 1199), (63, 641), (640, 33), (64, 64), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_jpegs_of_every_build_and_size(size: tuple[int, int], options: dict[str, Any]) -> None:
    made = check_same(encode(photo(*size), **options))
    assert isinstance(made, Prepared)
    assert min(pixels(made.jpeg).shape[:2]) == 64
    assert made.upscaled == (min(size) < 64)
    assert len(made.fingerprint) == FINGERPRINT_BYTES


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpegs_of_every_colour(mode: str, subsampling: str) -> None:
    assert isinstance(check_same(encode(photo().convert(mode), subsampling=subsampling)), Prepared)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP", "MPO"])
def test_other_formats_whatever_their_name(kind: str) -> None:
    assert isinstance(check_same(encode(photo(), kind)), Prepared)


@pytest.mark.parametrize("orientation", range(10))
def test_a_picture_is_turned_upright_and_its_exif_is_gone(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    made = check_same(encode(photo(), exif=exif))
    assert isinstance(made, Prepared)
    assert (made.width, made.height) == ((240, 320) if orientation in range(5, 9) else (320, 240))
    with Image.open(BytesIO(made.jpeg)) as picture:
        assert not picture.getexif()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_refused_or_taken_as_there(progressive: bool) -> None:
    whole = encode(photo(), progressive=progressive)
    codes = set()
    for end in range(0, len(whole), len(whole) // 40):
        codes.add(str(check_same(whole[:end])))
        codes.add(str(check_same(whole[:end] + b"\xff\xd9")))
    assert {"image.empty", "image.unreadable"} <= codes


def test_hostile_pictures_are_refused_by_the_same_words() -> None:
    whole = encode(photo())
    assert check_same(whole, limits=Limits(max_bytes=100)) == "image.too_large"
    assert check_same(whole, limits=Limits(max_pixels=100)) == "image.too_many_pixels"
    assert check_same(encode(photo(2000, 3))) == "image.too_narrow"
    assert check_same(b"<!doctype html><p>404") == "image.unreadable"
    empty_scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    scans = whole[: whole.rfind(b"\xff\xd9")] + empty_scan * 30_000 + b"\xff\xd9"
    assert check_same(scans) == "image.too_many_pixels"


@given(with_flipped_bytes())
@settings(max_examples=60, deadline=None)
def test_flipped_bytes_are_judged_alike(damaged: bytes) -> None:
    judged = [
        refusal(lambda: fast(damaged)),
        refusal(lambda: pictures.prepare(damaged, TO_64)),
    ]
    assert judged[0] == judged[1]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_is_prepared_already_passes_through(mode: str) -> None:
    data = encode(photo(80, 64).convert(mode), quality=70)
    made = fast(data)
    assert made.jpeg == data
    assert any(made.fingerprint)
    assert fast(encode(photo(80, 64), progressive=True)).jpeg != data


def test_the_middle_square_is_cropped() -> None:
    made = check_same(encode(photo()), Preprocessing(shorter_side=64, crop=48))
    assert isinstance(made, Prepared)
    assert pixels(made.jpeg).shape == (48, 48, 3)


def test_threads_share_nothing() -> None:
    data = [encode(photo(300 + 7 * i, 200 + 5 * i)) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fast, data * 2)) == [fast(picture) for picture in data] * 2


def test_photographs_come_out_alike(photographs: Path) -> None:
    for path in some(photographs, 18):
        check_same(path.read_bytes(), Preprocessing(shorter_side=256))
