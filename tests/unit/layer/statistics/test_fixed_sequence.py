"""A threshold is chosen by tests in a fixed order, and the first that fails ends them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.statistics.fixed_sequence import THRESHOLDS, Counts, fewest_to_tell, lowest
from droplens.statistics.intervals import binomial_cdf

PREDICTIONS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=50)


def test_thresholds_go_from_strict_to_loose() -> None:
    assert list(THRESHOLDS) == sorted(set(THRESHOLDS), reverse=True)
    assert (THRESHOLDS[0], THRESHOLDS[-1]) == (0.999955, 0.5)


@given(PREDICTIONS, PREDICTIONS)
def test_counts_are_of_predictions_at_or_above(
    some: list[tuple[float, bool]], others: list[tuple[float, bool]]
) -> None:
    found = Counts.of(some)
    for place, threshold in enumerate(THRESHOLDS):
        above = [right for probability, right in some if probability >= threshold]
        assert (found.total[place], found.right[place]) == (len(above), sum(above))
    assert found + Counts.of(others) == Counts.of([*some, *others])


def chosen(steps: list[tuple[int, int]], available: int = 10_000) -> int | None:
    """By 95 %, of (total, right) at each of the thresholds but the last, at which all are wrong."""
    steps = [*steps, (available, 0)]
    return lowest(Counts(*map(tuple, zip(*steps, strict=True))), 0.95, 0.05)


def test_the_first_test_that_fails_ends_the_sequence() -> None:
    # Of 200, 4 errors show 95 % and 5 do not (26.4 and 6.2 %... of the binomial's lower tail).
    assert binomial_cdf(4, 200, 0.05) < 0.05 < binomial_cdf(5, 200, 0.05)
    assert chosen([(200, 196), (200, 195), (400, 399)]) == 0
    assert chosen([(200, 195), (400, 399)]) is None
    assert chosen([(200, 196), (300, 296), (400, 394)]) == 2


def test_a_sequence_starts_where_some_errors_may_be_among_the_predictions() -> None:
    # The first 60 have an error, which only 93 may have; 181 may have four.
    assert binomial_cdf(4, 181, 0.05) <= 0.05 < binomial_cdf(4, 180, 0.05)
    assert chosen([(60, 59), (180, 175), (181, 177), (300, 296)]) == 3
    assert chosen([(60, 59), (181, 176), (300, 300)]) is None


def test_with_few_predictions_it_starts_at_three_quarters_of_them() -> None:
    assert chosen([(60, 59), (93, 92), (123, 122)], available=124) == 2
    assert chosen([(59, 59), (60, 59)], available=60) == 0
    assert chosen([(58, 58)], available=58) is None


def test_own_predictions_must_not_contradict_the_precision() -> None:
    everything = Counts((1000, 2000, 3000), (995, 1990, 2985))

    def by(own: Counts) -> int | None:
        return lowest(everything, 0.95, 0.05, own)

    # Of 20, two errors or more come by a chance of 26 %, three or more by 8 %; of 60, five or more
    # by 18 %, four or more by 35 %.
    assert by(Counts((20, 40, 60), (20, 40, 56))) == 2
    assert by(Counts((20, 40, 60), (20, 40, 55))) == 1
    assert by(Counts((20, 40, 60), (18, 30, 50))) == 0
    # They end no sequence: all of its thresholds are shown.
    assert by(Counts((20, 40, 60), (17, 36, 60))) == 2
    assert by(Counts((20, 40, 60), (17, 36, 54))) is None
    # With fewer than 20 no error is expected: the sequence starts later, or never.
    assert by(Counts((10, 19, 60), (9, 19, 60))) == 2
    assert by(Counts((10, 15, 19), (10, 15, 19))) is None


@pytest.mark.parametrize(("precision", "fewest"), [(0.95, 20), (0.9, 10), (0.5, 2), (0.999, 1000)])
def test_an_error_is_expected_in(precision: float, fewest: int) -> None:
    assert fewest_to_tell(precision) == fewest
