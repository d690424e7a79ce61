"""Confidence intervals and tests of proportions."""

import math

# Standard normal quantiles.
Z95_TWO_SIDED = 1.959964
Z95_ONE_SIDED = 1.644854


def wilson(right: int, total: int, z: float = Z95_TWO_SIDED) -> tuple[float, float]:
    """The Wilson score interval of `right` of `total` (> 0) independent predictions.

    z: 1.96 gives the two-sided 95 % interval; at 1.64 each end alone is a one-sided 95 % bound.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    share = right / total
    scale = 1 + z**2 / total
    centre = share + z**2 / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def two_sided(confidence: float) -> float:
    """The z of a two-sided interval with the given confidence (< 1).

    0.95 gives 1.96; 0 gives 0, for which `wilson` returns the observed proportion.
    """
    # Not at the top: it takes 20 ms of a cold start of classify_image, which does not call this.
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + confidence) / 2)


def fewest(share: float, z: float) -> int | None:
    """The fewest predictions that, all correct, bring `wilson`'s lower end to `share`; None for 1.

    The lower end is then n / (n + z²).
    """
    return max(1, math.ceil(z**2 * share / (1 - share))) if share < 1 else None


def mcnemar(lost: int, won: int) -> float:
    """The one-sided mid-p value of McNemar's exact test that the second of two models is no worse.

    lost, won: pairs that only the first, or only the second, model predicted correctly.

    M. W. Fagerland, S. Lydersen, P. Laake, "The McNemar test for binary matched-pairs data" (2013).
    """
    differ = lost + won
    as_bad = 2 * sum(math.comb(differ, k) for k in range(lost + 1, differ + 1))
    return float((as_bad + math.comb(differ, lost)) / (1 << (differ + 1)))
