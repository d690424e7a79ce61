"""The novelty above which an image is unfamiliar, from the novelties of a dataset's own images.

None of them may have been fitted to: they are training records by leave-one-out, known by their
quantiles, and validation images through the endpoint. The limit is their conformal quantile, so
that a new image of the same kind is above it with a probability of the stated share at most
(S. Bates, E. Candes, L. Lei, Y. Romano, M. Sesia, "Testing for outliers with conformal p-values",
2023, arXiv:2104.08279). The two kinds are taken together only where a two-sample
Kolmogorov-Smirnov test finds no difference (N. V. Smirnov, 1948).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self

# Of sums of weights and shares in floating point.
_ROUNDING = 1e-6
# The asymptotic critical value of the Kolmogorov-Smirnov statistic at an error level of 1 %.
_CRITICAL = 1.6276


@dataclass(frozen=True, slots=True)
class Novelties:
    """Novelties, ascending, each standing for `weight` images."""

    values: Sequence[float]
    weight: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of single images."""
        return cls(sorted(values), 1.0)

    @classmethod
    def of_quantiles(cls, quantiles: Sequence[float], images: int) -> Self:
        """Of `images` images, known by ascending quantiles at equidistant levels from 0 to 1."""
        steps = [(low + high) / 2 for low, high in pairwise(quantiles)]
        return cls(steps, images / len(steps))

    @property
    def images(self) -> float:
        """The number of images."""
        return self.weight * len(self.values)


def differ(first: Novelties, second: Novelties) -> bool:
    """Whether two samples are not from one distribution, by an error level of 1 %."""
    distance = max(
        abs(
            find(first.values, value) / len(first.values)
            - find(second.values, value) / len(second.values)
        )
        for value in (*first.values, *second.values)
        for find in (bisect_left, bisect_right)
    )
    return distance > _CRITICAL * math.sqrt(1 / first.images + 1 / second.images)


def quantiles(count: int, samples: Sequence[Novelties]) -> list[float]:
    """The quantiles of all images at `count` equidistant levels from 0 to 1, ascending."""
    images = sum(sample.images for sample in samples)
    return _reached([images * step / (count - 1) for step in range(count)], samples)


def limit(share: float, samples: Sequence[Novelties]) -> float | None:
    """The limit that at most `share` of images like these exceed; None where there are too few.

    Of n images, the ceil((n + 1) * (1 - share)) least novel ones are within it.
    """
    images = sum(sample.images for sample in samples)
    within = math.ceil((images + 1) * (1 - share) - _ROUNDING)
    return _reached([within], samples)[0] if within <= images + _ROUNDING else None


def _reached(counts: Sequence[float], samples: Sequence[Novelties]) -> list[float]:
    """For each of some ascending numbers of images, the novelty of the last of the least novel."""
    weighted = sorted((value, sample.weight) for sample in samples for value in sample.values)
    below = list(accumulate(weight for _, weight in weighted))
    last = len(weighted) - 1
    return [weighted[min(bisect_left(below, count - _ROUNDING), last)][0] for count in counts]
