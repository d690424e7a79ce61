"""The probability from which predictions are shown to be as precise as required.

Thresholds are tested in a fixed order, from strict to loose, each by the exact binomial test that
predictions at or above it are less precise than required. The first test that is not significant
ends the sequence, and the threshold before it is chosen. Since the order does not depend on the
predictions, the whole sequence errs with the probability of one test: P. Bauer, "Multiple testing
in clinical trials" (1991); A. N. Angelopoulos, S. Bates, E. J. Candes, M. I. Jordan, L. Lei, "Learn
then test" (2021), arXiv:2110.01052, section 2.3.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from droplens.statistics.intervals import binomial_cdf, fewest_exact

# The probability with which the chosen threshold may be less precise than required.
ERROR_LEVEL = 0.05
# Below one half, all other classes together are more probable than the predicted one. Such a
# prediction is never confident, however rarely the model errs.
LEAST = 0.5
# Equidistant in the logarithm of the odds, from 0.999955 to LEAST, strict to loose.
THRESHOLDS = tuple(round(1 / (1 + math.exp(-step / 10)), 6) for step in range(100, -1, -1))

# Where a sequence starts: as many errors may be among its predictions, unless that would take more
# than this share of them.
_ERRORS_AT_START = 4
_MOST_AT_START = 0.75
# One set of predictions contradicts a precision where it has so many errors by this chance only.
_SELDOM = 0.2
# Of quotients of shares in floating point.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Counts:
    """For each of some thresholds the predictions at or above it, and those of them that are
    correct."""

    total: tuple[int, ...]
    right: tuple[int, ...]

    @classmethod
    def of(
        cls, predictions: Sequence[tuple[float, bool]], thresholds: Sequence[float] = THRESHOLDS
    ) -> Self:
        """Count predictions, each its probability and whether it is correct."""
        ordered = sorted(predictions, key=lambda each: -each[0])
        negative = [-probability for probability, _ in ordered]
        right_before = [0]
        for _, right in ordered:
            right_before.append(right_before[-1] + right)
        total = tuple(bisect_right(negative, -threshold) for threshold in thresholds)
        return cls(total, tuple(right_before[count] for count in total))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            tuple(a + b for a, b in zip(self.total, other.total, strict=True)),
            tuple(a + b for a, b in zip(self.right, other.right, strict=True)),
        )


def lowest(counts: Counts, precision: float, level: float, own: Counts | None = None) -> int | None:
    """The place of the last threshold that is shown to have the precision, or None.

    counts: of all predictions that are evidence. own: those of them that must not contradict it at
    this threshold, and of which there must be enough for an error to be expected; by default there
    is no such condition.
    """
    first = max(
        _place(counts, _at_start(counts.total[-1], precision, level)),
        _place(own, fewest_to_tell(precision)) if own else 0,
    )
    chosen = None
    for place in range(first, len(counts.total)):
        total, right = counts.total[place], counts.right[place]
        if binomial_cdf(total - right, total, 1 - precision) > level:
            break
        if own is None or not _contradicts(own, place, precision):
            chosen = place
    return chosen


def fewest_to_tell(precision: float) -> int:
    """The fewest predictions of this precision among which an error is expected."""
    return math.ceil(1 / (1 - precision) - _ROUNDING)


def _contradicts(own: Counts, place: int, precision: float) -> bool:
    """Whether predictions of this precision would seldom have as many errors."""
    total, right = own.total[place], own.right[place]
    fewer = total - right - 1
    return fewer >= 0 and 1 - binomial_cdf(fewer, total, 1 - precision) < _SELDOM


def _place(counts: Counts, fewest: int) -> int:
    """The place of the first threshold with so many predictions, or the end."""
    return bisect_left(counts.total, fewest)


def _at_start(available: int, precision: float, level: float) -> int:
    """How many predictions the first test takes, of those at or above the last threshold.

    The most probable predictions are few, and one wrong label among them would end the sequence.
    """
    robust = min(_several(precision, level), math.ceil(available * _MOST_AT_START))
    return max(fewest_exact(precision, level), robust)


def _several(precision: float, level: float) -> int:
    """The fewest predictions that show the precision with _ERRORS_AT_START errors among them."""
    low, high = _ERRORS_AT_START, 1
    while binomial_cdf(_ERRORS_AT_START, high, 1 - precision) > level:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_cdf(_ERRORS_AT_START, middle, 1 - precision) > level:
            low = middle
        else:
            high = middle
    return high
