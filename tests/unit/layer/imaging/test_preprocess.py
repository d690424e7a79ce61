"""How a decoded picture becomes a JPEG of the wanted size: every limit, and the middle's place."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from droplens.imaging.limits import Limits
from droplens.imaging.preprocess import (
    DRAFT_MARGIN,
    Preprocessing,
    encode,
    is_only_resized,
    is_prepared,
    jpeg_reduction,
    lanczos,
)


def not_resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    pytest.fail(f"{picture.size} resized to {size}")


def numbered(width: int, height: int) -> Image.Image:
    """Each pixel holds its column in red and its row in green."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([columns, rows, columns], axis=2).astype(np.uint8))


@pytest.mark.parametrize("size", [(64, 48), (255, 640), (256, 256), (511, 900), (1024, 512)])
def test_a_jpeg_is_reduced_as_pillow_reduces_it(size: tuple[int, int]) -> None:
    data = BytesIO()
    Image.new("RGB", size).save(data, "JPEG")
    for shorter_side in (16, 32, 64):
        image = Image.open(data)
        image.draft(None, (shorter_side * DRAFT_MARGIN,) * 2)
        divisor = jpeg_reduction(*size, shorter_side)
        assert image.size == tuple(-(-side // divisor) for side in size)
    assert jpeg_reduction(*size, None) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"shorter_side": 1},
        {"shorter_side": 4096},
        {"shorter_side": 4096, "crop": 4096, "quality": 95},
        {"shorter_side": 8, "crop": 1, "quality": 1},
    ],
)
def test_the_ends_of_every_range_can_be_had(settings: dict[str, int]) -> None:
    stored = Preprocessing(**settings).to_dict()
    assert stored == {"crop": None, "quality": 95} | settings
    assert Preprocessing.from_dict(stored) == Preprocessing(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shorter_side": 0}, "shorter_side is 0, expected 1 to 4096 pixels"),
        ({"shorter_side": 4097}, "shorter_side is 4097, expected 1 to 4096 pixels"),
        ({"shorter_side": 64, "crop": 0}, "crop is 0, expected 1 to 64 pixels"),
        ({"shorter_side": 64, "crop": 65}, "crop is 65, expected 1 to 64 pixels"),
        ({"shorter_side": 64, "quality": 0}, "quality is 0, expected 1 to 95"),
        ({"shorter_side": 64, "quality": 96}, "quality is 96, expected 1 to 95"),
    ],
)
def test_beyond_the_ends_it_is_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        Preprocessing(**settings)


LIMITS = Limits(max_pixels=20_000, max_aspect=4)


@pytest.mark.parametrize(
    ("size", "only_resized"),
    [
        ((100, 100), True),
        ((100, 200), True),  # the most pixels
        ((201, 100), False),
        ((65, 260), True),  # the longest
        ((65, 261), False),
        ((64, 100), False),  # prepared already, or to be encoded anew
        ((100, 64), False),
        ((65, 100), True),
        ((63, 100), True),  # enlarged
        ((100, 30), True),
    ],
)
def test_a_jpeg_is_only_resized_where_nothing_else_is_to_be_done(
    size: tuple[int, int], only_resized: bool
) -> None:
    assert is_only_resized(size, Preprocessing(shorter_side=64), LIMITS) is only_resized


@pytest.mark.parametrize(("shorter", "only_resized"), [(255, True), (256, False), (300, False)])
def test_a_jpeg_of_four_times_the_side_is_shrunk_while_it_is_decoded(
    shorter: int, only_resized: bool
) -> None:
    preprocessing = Preprocessing(shorter_side=64)
    assert is_only_resized((shorter, 320), preprocessing, Limits()) is only_resized
    assert is_only_resized((320, shorter), preprocessing, Limits()) is only_resized


def opened(size: tuple[int, int], mode: str = "RGB", kind: str = "JPEG", **options: Any) -> Any:
    data = BytesIO()
    Image.new(mode, size).save(data, kind, **options)
    return Image.open(BytesIO(data.getvalue()))


@pytest.mark.parametrize(
    ("picture", "prepared"),
    [
        (opened((64, 80)), True),
        (opened((80, 64)), True),
        (opened((64, 64), "L"), True),
        (opened((64, 80), "CMYK"), False),
        (opened((64, 80), kind="PNG"), False),
        (opened((63, 80)), False),
        (opened((65, 80)), False),
        (opened((80, 80)), False),
        (opened((64, 80), progressive=True), False),
        (opened((64, 80), icc_profile=b"any"), False),
    ],
)
def test_what_prepare_writes_is_known_by_its_header(picture: Image.Image, prepared: bool) -> None:
    assert is_prepared(picture, Preprocessing(shorter_side=64)) is prepared


@pytest.mark.parametrize(
    ("size", "prepared"),
    [((64, 64), True), ((64, 80), False), ((80, 64), False), ((48, 48), False)],
)
def test_where_a_crop_is_wanted_only_its_square_is_prepared(
    size: tuple[int, int], prepared: bool
) -> None:
    assert is_prepared(opened(size), Preprocessing(shorter_side=64, crop=64)) is prepared


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((200, 100), (96, 48)),
        ((100, 200), (48, 96)),
        ((31, 20), (74, 48)),  # 74.4
        ((33, 20), (79, 48)),  # 79.2
        ((101, 100), (48, 48)),  # 48.48
        ((103, 100), (49, 48)),  # 49.44
        ((2, 1), (96, 48)),
    ],
)
def test_the_longer_side_follows_the_shorter_one(
    size: tuple[int, int], resized: tuple[int, int]
) -> None:
    jpeg, pixels = encode(Image.new("RGB", size), Preprocessing(shorter_side=48), lanczos)
    assert pixels.size == resized
    with Image.open(BytesIO(jpeg)) as stored:
        assert stored.size == resized


def test_a_picture_of_the_wanted_size_is_not_resized() -> None:
    picture = numbered(48, 64)
    _, pixels = encode(picture, Preprocessing(shorter_side=48), not_resized)
    assert pixels is picture


@pytest.mark.parametrize(
    ("size", "first"),
    # An odd number of rows or columns too many: the one more is cut at the end.
    [((40, 100), (4, 34)), ((100, 40), (34, 4)), ((40, 101), (4, 34)), ((41, 40), (4, 4))],
)
def test_the_square_is_cut_from_the_middle_both_ways(
    size: tuple[int, int], first: tuple[int, int]
) -> None:
    _, pixels = encode(numbered(*size), Preprocessing(shorter_side=40, crop=32), not_resized)
    assert pixels.size == (32, 32)
    left, top = first
    assert pixels.getpixel((0, 0)) == (left, top, left)
    assert pixels.getpixel((31, 31)) == (left + 31, top + 31, left + 31)


def test_the_jpeg_has_the_quality_and_half_the_chroma_both_ways() -> None:
    picture = Image.merge("RGB", [Image.effect_noise((64, 64), 60) for _ in range(3)])
    for quality in (20, 95):
        jpeg, pixels = encode(picture, Preprocessing(64, quality=quality), not_resized)
        same = BytesIO()
        picture.save(same, "JPEG", quality=quality, subsampling=2)  # Pillow's number of 4:2:0
        assert jpeg == same.getvalue()
        assert pixels is picture


def test_lanczos_is_pillows() -> None:
    picture = numbered(90, 60)
    made = lanczos(picture, (45, 30))
    assert made.tobytes() == picture.resize((45, 30), Image.Resampling.LANCZOS).tobytes()
    assert made.tobytes() != picture.resize((45, 30), Image.Resampling.BICUBIC).tobytes()
