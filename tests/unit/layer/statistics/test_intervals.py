"""Intervals and tests against tables and worked examples that others have published."""

import math

import pytest

from droplens.evaluation.comparison import agresti_min
from droplens.statistics.intervals import (
    Z95_ONE_SIDED,
    Z95_TWO_SIDED,
    binomial_cdf,
    clopper_pearson_low,
    fewest,
    fewest_exact,
    mcnemar,
    two_sided,
    wilson,
)


def test_the_quantiles_are_those_of_the_normal_table() -> None:
    # The table of any textbook: 1.960 leaves 2.5 % above, 1.645 leaves 5 %.
    assert pytest.approx(1.959964, abs=5e-7) == Z95_TWO_SIDED
    assert pytest.approx(1.644854, abs=5e-7) == Z95_ONE_SIDED


@pytest.mark.parametrize(
    ("confidence", "z"),
    [(0.0, 0.0), (0.5, 0.674490), (0.9, 1.644854), (0.95, 1.959964), (0.99, 2.575829)],
)
def test_the_quantile_of_a_two_sided_interval(confidence: float, z: float) -> None:
    assert two_sided(confidence) == pytest.approx(z, abs=5e-7)


@pytest.mark.parametrize("pictures", range(1, 200))
def test_no_end_of_wilson_s_interval_leaves_what_a_share_can_be(pictures: int) -> None:
    # Of all or none, one end is the share itself, but for the last digit of a float.
    low, high = wilson(0, pictures)
    assert low == pytest.approx(0, abs=1e-12)
    assert 0 <= low < high < 1
    low, high = wilson(pictures, pictures)
    assert high == pytest.approx(1, abs=1e-12)
    assert 0 < low < high <= 1


@pytest.mark.parametrize(
    ("share", "z", "pictures"),
    [
        # All of 51 correct: 51 / (51 + 1.644854^2) = 0.9496; of 52: 0.9505.
        (0.95, Z95_ONE_SIDED, 52),
        # 9 / (9 + 1.959964^2) = 0.7008, 8 / (8 + 1.959964^2) = 0.6756.
        (0.7, Z95_TWO_SIDED, 9),
        (0.5, 0.0, 1),
        (0.0, Z95_TWO_SIDED, 1),
        (1.0, Z95_TWO_SIDED, None),
        (1.5, Z95_TWO_SIDED, None),
    ],
)
def test_the_fewest_answers_that_show_a_share(share: float, z: float, pictures: int | None) -> None:
    assert fewest(share, z) == pictures


@pytest.mark.parametrize(
    ("lost", "won", "one_sided"),
    [
        (0, 0, 0.5),
        (1, 0, 0.25),
        (0, 1, 0.75),
        # Of 3 tosses: 2 or more heads are (3 + 1) / 8, of which 3 / 8 count by half.
        (2, 1, 2.5 / 8),
    ],
)
def test_the_mid_p_value_of_few_tosses_by_hand(lost: int, won: int, one_sided: float) -> None:
    assert mcnemar(lost, won) == pytest.approx(one_sided)


def test_the_adjusted_wald_interval_of_the_package_propcis() -> None:
    # R's PropCIs 0.3-0, diffpropci.mp(b = 40, c = 20, n = 160, conf.level = 0.95), which is Agresti
    # and Min's "Wald+2": -0.21601726, -0.03089632 (rdrr.io/cran/PropCIs/man/diffpropci.mp.html).
    assert agresti_min(40, 20, 160) == pytest.approx((-0.21601726, -0.03089632), abs=5e-8)


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5, 0.97])
@pytest.mark.parametrize("trials", [1, 2, 7, 40])
def test_binomial_probabilities_add_up(trials: int, rate: float) -> None:
    total = 0.0
    for successes in range(trials + 1):
        total += math.comb(trials, successes) * rate**successes * (1 - rate) ** (trials - successes)
        assert binomial_cdf(successes, trials, rate) == pytest.approx(total, rel=1e-10)
    assert binomial_cdf(trials + 1, trials, rate) == 1.0


def test_a_binomial_probability_of_many_trials() -> None:
    # SciPy 1.17.1, binom.cdf: (100, 2862, 0.05) and (15200, 300000, 0.05).
    assert binomial_cdf(100, 2862, 0.05) == pytest.approx(6.20923e-05, rel=1e-4)
    assert binomial_cdf(15200, 300000, 0.05) == pytest.approx(0.953261, rel=1e-4)


def test_the_exact_bound_of_clopper_and_pearson() -> None:
    # SciPy 1.17.1, beta.ppf(0.05, right, wrong + 1).
    assert clopper_pearson_low(119, 129, 0.05) == pytest.approx(0.872058, abs=1e-6)
    assert clopper_pearson_low(59, 59, 0.05) == pytest.approx(0.05 ** (1 / 59), abs=1e-9)
    assert clopper_pearson_low(0, 10, 0.05) == 0.0


@pytest.mark.parametrize(
    ("share", "level", "predictions"),
    # 0.95^58 = 5.10 %, 0.95^59 = 4.85 %; 0.9^28 = 5.23 %, 0.9^29 = 4.71 %.
    [(0.95, 0.05, 59), (0.9, 0.05, 29), (0.5, 0.05, 5), (0.999, 0.05, 2995)],
)
def test_the_fewest_that_show_a_share_exactly(share: float, level: float, predictions: int) -> None:
    assert fewest_exact(share, level) == predictions
    assert clopper_pearson_low(predictions, predictions, level) >= share
    assert clopper_pearson_low(predictions - 1, predictions - 1, level) < share
