"""Copies are found, and pictures that are only alike are left alone."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from batch_prep import likeness
from batch_prep.fingerprint import FINGERPRINT_BYTES, fingerprint
from batch_prep.likeness import near_groups

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


def stored(directions: np.ndarray) -> np.ndarray:
    """Fingerprints that point so."""
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    return np.rint(300 * directions / lengths).clip(-127, 127).astype(np.int8)


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 less the cosine, of each row with the same row of the other."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    products = (one * other).sum(axis=1)
    return 1 - products / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def turned(directions: np.ndarray, distance: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Directions at these distances from the given ones, in float64."""
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    aside = random.normal(size=unit.shape)
    aside -= (aside * unit).sum(axis=1, keepdims=True) * unit
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    cosine = 1 - distance[:, None]
    return cosine * unit + np.sqrt(1 - cosine**2) * aside


def pairs_at(least: float, most: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints of `count` pictures that are like no other, and of one copy of each."""
    random = np.random.default_rng(3)
    originals = random.normal(size=(count, FINGERPRINT_BYTES))
    copies = turned(originals, random.uniform(least, most, count), random)
    return stored(originals), stored(copies)


def test_copies_are_within_a_distance_of_0_025() -> None:
    originals, copies = pairs_at(0.023, 0.027, 1500)
    apart = distances(originals, copies)
    found = {tuple(group) for group in near_groups(np.concatenate([originals, copies]))}
    near = {(row, 1500 + row) for row in np.flatnonzero(apart <= 0.025).tolist()}
    assert not found - near
    assert len(found) >= 0.96 * len(near)


def test_of_copies_at_the_limit_98_in_100_are_found_and_of_nearer_ones_all_but_a_few() -> None:
    """16 tables of 20 signs: two directions have one sign in 1 - angle / pi of all projections."""
    count = 5000
    originals, copies = pairs_at(0.0222, 0.0232, count)
    apart = distances(originals, copies)
    assert apart.max() < 0.025
    same_sign = 1 - np.arccos(1 - apart) / np.pi
    expected = (1 - (1 - same_sign**20) ** 16).mean()
    assert expected == pytest.approx(0.989, abs=0.002)
    groups = near_groups(np.concatenate([originals, copies]))
    # Of 5,000 draws the standard deviation is 0.0015.
    assert len(groups) / count == pytest.approx(expected, abs=0.0022)
    nearer = near_groups(np.concatenate(pairs_at(0.009, 0.010, 1000)))
    assert len(nearer) >= 999


def alike_by_definition(rows: np.ndarray) -> set[tuple[int, int]]:
    """Pairs that are 14 times nearer than the 16th nearest other picture of either, or the farthest
    where there are fewer; always within 0.002 and never beyond 0.025. All are compared with all."""
    unit = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    apart = 1 - unit @ unit.T
    rank = min(16, len(rows) - 1)
    reach = (np.sort(apart, axis=1)[:, rank] / 14).clip(0.002, 0.025)
    near = apart <= np.minimum.outer(reach, reach)
    return {(one, other) for one, other in np.argwhere(near).tolist() if one < other}


@pytest.mark.parametrize(
    ("similar", "least", "most"),
    # How alike all pictures are, and how far their copies are from them.
    [(0.6, 0.014, 0.020), (0.85, 0.003, 0.012), (0.97, 0.0015, 0.003)],
)
def test_where_all_pictures_are_alike_a_copy_has_to_be_nearer(
    similar: float, least: float, most: float
) -> None:
    random = np.random.default_rng(11)
    subject, count = random.normal(size=FINGERPRINT_BYTES), 700
    others = random.normal(size=(count, FINGERPRINT_BYTES))
    originals = similar**0.5 * subject + (1 - similar) ** 0.5 * others
    copies = turned(originals, random.uniform(least, most, count), random)
    found = stored(np.concatenate([originals, copies]))
    groups = {tuple(group) for group in near_groups(found)}
    defined = alike_by_definition(found)
    assert len(defined) > 190
    assert not groups - defined
    assert len(defined - groups) <= len(defined) / 200  # not every pair is ever compared


def test_the_work_is_bounded_where_all_pictures_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    measure = likeness._distances

    def counted(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(first)
        return measure(rows, first, second)

    monkeypatch.setattr(likeness, "_distances", counted)
    count = 500
    assert near_groups(np.ones((count, FINGERPRINT_BYTES), np.int8)) == [list(range(count))]
    # In each of 16 orders with the next 32 rows, as far as there are so many.
    assert compared == 16 * sum(count - ahead for ahead in range(1, 33))


def test_in_blocks_of_any_size_the_groups_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.concatenate(pairs_at(0.001, 0.004, 90))
    expected = [[row, 90 + row] for row in range(90)]
    assert near_groups(found) == expected
    for rows_at_once in (1, 7, 179, 180, 181):
        monkeypatch.setattr(likeness, "_AT_ONCE", rows_at_once)
        monkeypatch.setattr(likeness, "_REACHED_AT_ONCE", rows_at_once)
        assert near_groups(found) == expected


def test_rows_that_are_left_out_are_in_no_group_and_the_others_as_without_them() -> None:
    originals, copies = pairs_at(0.001, 0.004, 60)
    found = np.concatenate([originals, np.zeros((1, FINGERPRINT_BYTES), np.int8), copies])
    among = np.ones(len(found), np.bool_)
    among[[0, 3, 64, 80]] = False  # two first ones, and two copies
    kept = np.flatnonzero(among)
    expected = [kept[group].tolist() for group in near_groups(found[among])]
    assert near_groups(found, among) == expected
    assert len(expected) == 57
    assert near_groups(found, np.zeros(len(found), np.bool_)) == []


@pytest.mark.parametrize("others", [1, 2, 14, 15, 16, 20])
def test_among_few_pictures_a_copy_is_one_by_the_farthest_or_sixteenth_other(others: int) -> None:
    originals, copies = pairs_at(0.010, 0.011, others)
    found = np.concatenate([originals, copies[:1]])
    # Random directions are 1 apart: a copy may be as far away as any.
    assert near_groups(found) == ([[0, others]] if others > 1 else [])
    assert alike_by_definition(found) == ({(0, others)} if others > 1 else set())
