"""Label sets are exact quantiles: by hand, and by simulation."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.statistics.conformal import (
    RANK_PENALTY,
    THRESHOLD,
    LabelSets,
    Scored,
    fewest_pictures,
    label_sets,
    size,
    threshold,
)

ROWS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def scored(*of_truth: float) -> list[Scored]:
    """Of two classes, the true one with these probabilities."""
    return [Scored.of([p, 1 - p], 0) for p in of_truth]


def test_the_quantile_counts_the_next_image() -> None:
    found = scored(*(n / 100 for n in range(1, 20)))
    # Of 19 and the next one, 95 % are 19: all of them.
    assert threshold(found, 0.95) == 0.01
    # ceil(20 * 0.9) = 18 of them: all but the least.
    assert threshold(found, 0.9) == 0.02
    assert threshold(found[1:], 0.95) is None
    assert fewest_pictures(0.95) == 19
    assert fewest_pictures(0.9) == 9


def test_classes_beyond_the_fifth_pay_for_their_rank() -> None:
    row = [0.3, 0.2, 0.15, 0.12, 0.1, 0.06, 0.05, 0.02]
    assert Scored.of(row, 4).credits[4] == 0.1
    assert Scored.of(row, 6).credits[6] == pytest.approx(0.05 - 2 * RANK_PENALTY)
    found = label_sets(0.05, 0.9)
    assert found.apply(row) == [0, 1, 2, 3, 4, 5]
    assert LabelSets(0.9, THRESHOLD, {"probability": 0.05}).apply(row) == [0, 1, 2, 3, 4, 5, 6]


@given(ROWS, st.floats(-1, 1.5))
def test_a_set_is_never_empty_and_has_the_best_first(row: list[float], least: float) -> None:
    found = label_sets(least, 0.9).apply(row)
    assert len(found) >= 1
    assert len(set(found)) == len(found)
    assert row[found[0]] == max(row)
    assert [row[index] for index in found] == sorted((row[i] for i in found), reverse=True)


@given(ROWS, st.data(), st.floats(-1, 1.5))
def test_what_is_measured_is_what_is_applied(
    row: list[float], data: st.DataObject, least: float
) -> None:
    truth = data.draw(st.integers(0, len(row) - 1))
    found, applied = Scored.of(row, truth), label_sets(least, 0.9).apply(row)
    assert size(found, least) == len(applied)
    assert (found.rank < size(found, least)) == (truth in applied)


def test_the_coverage_is_that_of_the_theory() -> None:
    """Over both draws it is between 0.9 and 0.9 + 1 / 51, for 50 images."""
    chance = random.Random(7)

    def draw(count: int) -> list[Scored]:
        found = []
        for _ in range(count):
            row = [chance.expovariate(1) for _ in range(20)]
            row = [value / sum(row) for value in row]
            found.append(Scored.of(row, chance.choices(range(20), row)[0]))
        return found

    covered = 0
    for _ in range(400):
        least = threshold(draw(50), 0.9)
        assert least is not None
        covered += sum(each.rank < size(each, least) for each in draw(25))
    assert 0.9 - 0.01 <= covered / 10_000 <= 0.9 + 1 / 51 + 0.01


def test_a_rule_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="by 'other'"):
        LabelSets.from_dict({"precision": 0.9, "method": "other", "parameters": {}})
