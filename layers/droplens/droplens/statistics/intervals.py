"""Confidence intervals and tests of proportions."""

import math

# Standard normal quantiles.
Z95_TWO_SIDED = 1.959964
Z95_ONE_SIDED = 1.644854

_BISECTIONS = 50
_NEGLIGIBLE = 1e-17


def wilson(right: int, total: int, z: float = Z95_TWO_SIDED) -> tuple[float, float]:
    """The Wilson score interval of `right` of `total` (> 0) independent predictions.

    z: 1.96 gives the two-sided 95 % interval; at 1.64 each end alone is a one-sided 95 % bound.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    return wilson_of_share(right / total, total, z)


def wilson_of_share(share: float, total: float, z: float) -> tuple[float, float]:
    """As `wilson`, of a share in [0, 1] of `total` (> 0) predictions, which need be no integer."""
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


def binomial_cdf(most: int, trials: int, rate: float) -> float:
    """The probability of `most` or fewer successes of `trials`, each with the probability `rate`.

    rate: in (0, 1). Exact but for the rounding of sums of floats.
    """
    if most >= trials:
        return 1.0
    odds = (1 - rate) / rate
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(most + 1)
        - math.lgamma(trials - most + 1)
        + most * math.log(rate)
        + (trials - most) * math.log1p(-rate)
    )
    total = term
    for successes in range(most, 0, -1):
        term *= odds * successes / (trials - successes + 1)
        total += term
        if term < total * _NEGLIGIBLE and successes < rate * trials:
            break
    return min(1.0, total)


def clopper_pearson_low(right: int, total: int, level: float) -> float:
    """The one-sided lower bound of a share of which `right` of `total` (> 0) were observed.

    It is above the true share with a probability of `level` at most, whatever the share.

    C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case
    of the binomial" (1934).
    """
    low, high = 0.0, right / total
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        # The probability of as few wrong ones, if the share were `middle`.
        if middle == 0 or binomial_cdf(total - right, total, 1 - middle) <= level:
            low = middle
        else:
            high = middle
    return low


def fewest_exact(share: float, level: float) -> int:
    """The fewest predictions that, all correct, bring the exact lower bound of `level` to `share`.

    share: in (0, 1). The bound of n correct ones is level^(1/n).
    """
    return math.ceil(math.log(level) / math.log(share))


def mcnemar(lost: int, won: int) -> float:
    """The one-sided mid-p value of McNemar's exact test that the second of two models is no worse.

    lost, won: pairs that only the first, or only the second, model predicted correctly.

    M. W. Fagerland, S. Lydersen, P. Laake, "The McNemar test for binary matched-pairs data" (2013).
    """
    differ = lost + won
    as_bad = 2 * sum(math.comb(differ, k) for k in range(lost + 1, differ + 1))
    return float((as_bad + math.comb(differ, lost)) / (1 << (differ + 1)))
