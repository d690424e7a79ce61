"""Familiarity is the share of the own images that are at least as novel."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.statistics.familiarity import familiarity

UNIFORM = [n / 100 for n in range(101)]


@pytest.mark.parametrize(
    ("novelty", "share"),
    [(-5, 1), (0, 1), (0.25, 0.75), (0.5, 0.5), (0.995, 0.005), (1, 0), (7, 0)],
)
def test_between_the_quantiles_it_is_interpolated(novelty: float, share: float) -> None:
    assert familiarity(novelty, UNIFORM) == pytest.approx(share)


def test_images_of_equal_novelty_are_all_at_least_as_novel() -> None:
    # A third of the images have novelty 1, of three different values.
    quantiles = [0.0, 1.0, 1.0, 1.0, 2.0]
    assert familiarity(1.0, quantiles) == 0.75
    assert familiarity(1.0 + 1e-9, quantiles) == pytest.approx(0.25)
    assert familiarity(3.0, [3.0, 3.0]) == 1.0


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=101).map(sorted),
    st.lists(st.floats(-2e6, 2e6), min_size=2, max_size=9).map(sorted),
)
def test_the_more_novel_the_less_familiar(quantiles: list[float], novelties: list[float]) -> None:
    shares = [familiarity(novelty, quantiles) for novelty in novelties]
    assert all(0 <= share <= 1 for share in shares)
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(shares))
