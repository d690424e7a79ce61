"""The limit of novelty is an exact quantile of the own images."""

import random

import pytest

from droplens.statistics.novelty import Novelties, differ, limit, quantiles


def normal(count: int, seed: int, shift: float = 0.0, spread: float = 1.0) -> Novelties:
    chance = random.Random(seed)
    return Novelties.of([chance.gauss(shift, spread) for _ in range(count)])


def test_the_limit_counts_the_next_image() -> None:
    hundred = Novelties.of([float(n) for n in range(1, 100)])
    # ceil(100 * 0.99) = 99 of 99 images, ceil(100 * 0.9) = 90.
    assert limit(0.01, [hundred]) == 99
    assert limit(0.1, [hundred]) == 90
    assert limit(0.009, [hundred]) is None


def test_quantiles_stand_for_as_many_images_as_they_are_of() -> None:
    left_out = Novelties.of_quantiles([float(n) for n in range(1001)], 5000)
    assert left_out.images == pytest.approx(5000)
    assert limit(0.01, [left_out]) == pytest.approx(990, abs=1)
    # 5,000 from 0 to 1,000 and 5,000 that are all 2,000: a half is above, the limit is theirs.
    high = Novelties.of([2000.0] * 5000)
    assert limit(0.01, [left_out, high]) == 2000
    assert quantiles(3, [left_out, high]) == pytest.approx([0.5, 999.5, 2000], abs=1)


def test_the_share_above_the_limit_is_that_of_the_theory() -> None:
    chance = random.Random(1)
    above = 0
    for _ in range(500):
        found = limit(0.05, [Novelties.of([chance.random() for _ in range(59)])])
        assert found is not None
        above += sum(chance.random() > found for _ in range(20))
    # Of 59 and the next one, 57 are within it: 3 of 60 are above.
    assert above / 10_000 == pytest.approx(3 / 60, abs=0.008)


def test_samples_of_one_distribution_seldom_differ() -> None:
    found = sum(differ(normal(200, n), normal(3000, 1000 + n)) for n in range(100))
    assert found <= 4


@pytest.mark.parametrize(("shift", "spread"), [(0.5, 1.0), (0.0, 1.6), (-0.5, 1.0)])
def test_samples_of_different_distributions_differ(shift: float, spread: float) -> None:
    assert differ(normal(300, 1, shift, spread), normal(3000, 2))
    assert differ(normal(3000, 1), normal(300, 2, shift, spread))
