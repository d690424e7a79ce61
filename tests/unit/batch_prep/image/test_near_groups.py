"""Groups of near-duplicates against their definition, on fingerprints at known distances."""

import numpy as np
import pytest

from batch_prep.image import near_duplicates
from batch_prep.image.fingerprint import FINGERPRINT_BYTES
from batch_prep.image.near_duplicates import near_groups


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


def pairs_at(least: float, most: float, count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints of `count` pictures that are like no other, and of one copy of each."""
    random = np.random.default_rng(seed)
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
    originals, copies = pairs_at(0.0222, 0.0232, count, seed=4)
    apart = distances(originals, copies)
    assert apart.max() < 0.025
    same_sign = 1 - np.arccos(1 - apart) / np.pi
    expected = (1 - (1 - same_sign**20) ** 16).mean()
    assert expected == pytest.approx(0.989, abs=0.002)
    groups = near_groups(np.concatenate([originals, copies]))
    # Of 5,000 draws the standard deviation is 0.0015.
    assert len(groups) / count == pytest.approx(expected, abs=0.002)
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
    measure = near_duplicates._distances

    def counted(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(first)
        return measure(rows, first, second)

    monkeypatch.setattr(near_duplicates, "_distances", counted)
    count = 500
    assert near_groups(np.ones((count, FINGERPRINT_BYTES), np.int8)) == [list(range(count))]
    # In each of 16 orders with the next 32 rows, as far as there are so many.
    assert compared == 16 * sum(count - ahead for ahead in range(1, 33))


def test_in_blocks_of_any_size_the_groups_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.concatenate(pairs_at(0.001, 0.004, 90))
    expected = [[row, 90 + row] for row in range(90)]
    assert near_groups(found) == expected
    for rows_at_once in (1, 7, 179, 180, 181):
        monkeypatch.setattr(near_duplicates, "_AT_ONCE", rows_at_once)
        monkeypatch.setattr(near_duplicates, "_REACHED_AT_ONCE", rows_at_once)
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


@pytest.mark.parametrize("pictures", [0, 1])
def test_fewer_than_two_pictures_are_in_no_group(pictures: int) -> None:
    assert near_groups(np.ones((pictures, FINGERPRINT_BYTES), np.int8)) == []


def test_only_the_direction_of_a_fingerprint_counts_not_its_length() -> None:
    random = np.random.default_rng(8)
    faint = np.zeros((40, FINGERPRINT_BYTES), np.int8)
    for row in faint:
        row[random.choice(FINGERPRINT_BYTES, 4, replace=False)] = random.choice([-1, 1], 4)
    groups = near_groups(np.concatenate([faint, 100 * faint]))
    assert groups == [[row, 40 + row] for row in range(40)]


def test_two_pictures_that_are_one_are_a_group() -> None:
    original, _ = pairs_at(0.01, 0.02, 1)
    assert near_groups(np.concatenate([original, original])) == [[0, 1]]


def test_many_copies_are_one_group_however_they_are_found() -> None:
    random = np.random.default_rng(6)
    others = random.normal(size=(40, FINGERPRINT_BYTES))
    copies = turned(np.repeat(others[:1], 9, axis=0), random.uniform(0.001, 0.004, 9), random)
    found = stored(np.concatenate([others, copies]))
    assert near_groups(found) == [[0, *range(40, 49)]]
    assert near_groups(found[::-1]) == [[*range(9), 48]]
