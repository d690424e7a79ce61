"""How familiar an image is: its novelty among that of the dataset's own images."""

from bisect import bisect_left
from collections.abc import Sequence


def familiarity(novelty: float, quantiles: Sequence[float]) -> float:
    """The share of the dataset's own images that are at least as novel, in [0, 1].

    quantiles: of their novelty, ascending, at equally spaced levels from 0 to 1 (at least two).
    Between two quantiles the share is interpolated; it is 0 from the last one on.
    """
    steps = len(quantiles) - 1
    at = bisect_left(quantiles, novelty)
    if at == 0:
        return 1.0
    if at > steps:
        return 0.0
    low, high = quantiles[at - 1], quantiles[at]
    level = (at - 1 + (novelty - low) / (high - low)) / steps
    return 1.0 - level
