"""Class maps of different resolutions in one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droplens.inference.class_map import combined


def test_one_map_stays_as_it_is() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(combined([values]), values)


def test_a_coarse_cell_is_spread_evenly_over_the_fine_cells_that_it_covers() -> None:
    fine = np.zeros((4, 2), np.float32)
    coarse = np.array([[8], [4]], np.float32)
    assert combined([fine, coarse]).tolist() == [[2, 2], [2, 2], [1, 1], [1, 1]]


def test_a_coarse_cell_that_covers_a_part_of_a_fine_one_gives_it_that_part() -> None:
    fine = np.zeros((3, 1), np.float32)
    coarse = np.array([[3], [6]], np.float32)
    assert combined([fine, coarse])[:, 0] == pytest.approx([2, 3, 4])


@settings(max_examples=50)
@given(st.tuples(*[st.integers(1, 20)] * 4), st.integers(0, 99))
def test_the_sum_over_all_positions_stays_the_same(sides: tuple[int, ...], seed: int) -> None:
    chance = np.random.default_rng(seed)
    maps = [chance.normal(size=size).astype(np.float32) for size in (sides[:2], sides[2:])]
    assert combined(maps).sum() == pytest.approx(sum(each.sum() for each in maps), abs=1e-3)
