"""Copies are found, and pictures that are only alike are left alone."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from batch_prep.image.fingerprint import FINGERPRINT_BYTES, fingerprint
from batch_prep.image.near_duplicates import near_groups

Change = Callable[[Image.Image], Image.Image]


def scene(seed: int) -> Image.Image:
    """Shapes and a texture, another for every seed."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (12, 16, 3), np.uint8)
    picture = Image.fromarray(noise).resize((384, 256), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y, size = random.integers((0, 0, 20), (384, 256, 90)).tolist()
        draw.ellipse((x, y, x + size, y + size), tuple(random.integers(0, 256, 3).tolist()))
    return picture


def recoded(quality: int) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        data = BytesIO()
        picture.save(data, "JPEG", quality=quality)
        return Image.open(data).convert("RGB")

    return change


def cropped(picture: Image.Image) -> Image.Image:
    across, down = picture.width // 100, picture.height // 100
    return picture.crop((across, down, picture.width - across, picture.height - down))


CHANGES: dict[str, Change] = {
    "quality 30": recoded(30),
    "quality 95": recoded(95),
    "half the size": lambda picture: picture.reduce(2),
    "cropped by 2 %": cropped,
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.85),
    "grey": lambda picture: picture.convert("L"),
}


def rows(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.frombuffer(fingerprint(picture), np.int8) for picture in pictures])


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_nothing_else(change: str) -> None:
    originals = [scene(seed) for seed in range(60)]
    groups = near_groups(rows([*originals, *(CHANGES[change](one) for one in originals)]))
    assert groups == [[one, 60 + one] for one in range(60)]


def test_many_copies_are_one_group() -> None:
    copies = [change(scene(1)) for change in CHANGES.values()]
    others = [scene(seed) for seed in range(2, 40)]
    assert near_groups(rows([*copies, *others])) == [list(range(len(copies)))]


def test_flat_pictures_are_like_nothing() -> None:
    flat = [Image.new("RGB", (64, 64), (level, 0, 0)) for level in range(0, 256, 16)] * 3
    assert not rows(flat).any()
    assert near_groups(rows(flat)) == []


def test_groups_are_named_by_their_rows_where_flat_pictures_stand_before_them() -> None:
    flat = Image.new("RGB", (64, 64), (90, 0, 0))
    found = rows([flat, scene(1), flat, scene(2), recoded(40)(scene(1)), scene(3)])
    assert near_groups(found) == [[1, 4]]


def test_pictures_that_are_all_alike_are_not_copies() -> None:
    """One stroke each on an empty page, as scanned digits are."""
    random = np.random.default_rng(5)
    pages = []
    for _ in range(600):
        page = Image.new("L", (28, 28))
        points = random.normal([[14, 5], [14, 14], [14, 23]], 2.5)
        ImageDraw.Draw(page).line([tuple(point) for point in points], 255, 3)
        pages.append(page.filter(ImageFilter.GaussianBlur(0.7)).resize((256, 256)))
    alike = sum(len(group) for group in near_groups(rows(pages)))
    assert alike <= 12


def test_the_order_and_the_form_of_the_rows_do_not_matter() -> None:
    found = rows(
        [scene(seed) for seed in (1, 2, 3)] + [recoded(40)(scene(seed)) for seed in (3, 1)]
    )
    assert near_groups(found) == near_groups(found.view(np.uint8)) == [[0, 4], [2, 3]]
    assert near_groups(found[::-1]) == [[0, 4], [1, 2]]


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_hardly_any_pictures(pictures: int) -> None:
    assert near_groups(np.ones((pictures, FINGERPRINT_BYTES), np.int8)) == [[0, 1]][: pictures // 2]


def test_cars_that_are_alike_are_told_apart_and_their_copies_found(cars24: Path) -> None:
    originals = []
    for path in sorted(cars24.glob("*/*.jpg"))[::4]:
        with Image.open(path) as picture:
            originals.append(picture.convert("RGB"))
    alone = near_groups(rows(originals))
    assert sum(len(group) for group in alone) <= 2
    copies = [recoded(50)(cropped(picture)) for picture in originals]
    pairs = near_groups(rows([*originals, *copies]))
    found = {tuple(pair) for pair in pairs}
    wanted = {(one, len(originals) + one) for one in range(len(originals))}
    assert len(wanted - found) <= 4
