"""How far a share that was counted on a sample can be trusted, alone or beside another."""

import math
from statistics import NormalDist

# Standard normal quantiles.
Z95_TWO_SIDED = 1.959964
Z95_ONE_SIDED = 1.644854


def wilson(right: int, asked: int, z: float = Z95_TWO_SIDED) -> tuple[float, float]:
    """The Wilson score interval of a share of `asked` (> 0) independent answers.

    z: 1.96 gives an interval that holds the true share 95 times in 100; of its ends alone, each
    at 1.64 is a bound that holds as often.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    share = right / asked
    scale = 1 + z**2 / asked
    centre = share + z**2 / (2 * asked)
    reach = z * math.sqrt(share * (1 - share) / asked + z**2 / (4 * asked**2))
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def two_sided(confidence: float) -> float:
    """The z of an interval that holds the true share with a probability of `confidence` < 1.

    0.95 gives 1.96; 0 gives 0, for which `wilson` is the counted share itself.
    """
    return NormalDist().inv_cdf((1 + confidence) / 2)


def fewest(share: float, z: float) -> int | None:
    """On how many answers, all of them right, `wilson`'s lower end reaches `share`; None for 1.

    Its lower end is n / (n + z²) there.
    """
    return max(1, math.ceil(z**2 * share / (1 - share))) if share < 1 else None


def mcnemar(lost: int, won: int) -> float:
    """How probable it is to lose so many or more of the pairs that differ, if both are equal.

    The exact test counts the observed number by half (mid-p): M. W. Fagerland, S. Lydersen,
    P. Laake, "The McNemar test for binary matched-pairs data" (2013).
    """
    differ = lost + won
    as_bad = 2 * sum(math.comb(differ, k) for k in range(lost + 1, differ + 1))
    return float((as_bad + math.comb(differ, lost)) / (1 << (differ + 1)))
