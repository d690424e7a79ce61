"""Figures as people read them, and the bounds behind them, from tables and by hand."""

import pytest

from droplens.domain.figures import counted, exact_percent, percent
from droplens.statistics.intervals import Z95_ONE_SIDED, Z95_TWO_SIDED, fewest, two_sided


def test_a_share_stands_with_its_counts_and_its_interval() -> None:
    # Newcombe 1998, method 3: 25.53 to 36.62, and 0 to 16.11.
    assert counted(81, 263) == "30.8 % (81 of 263; 25.5 to 36.6)"
    assert counted(0, 20) == "0.0 % (0 of 20; 0.0 to 16.1)"
    # 3 / (3 + 1.96^2).
    assert counted(3, 3) == "100.0 % (3 of 3; 43.9 to 100.0)"
    assert "(1,500 of 3,000; " in counted(1500, 3000)


def test_percentages_have_a_space_and_the_digits_that_are_asked_for() -> None:
    assert (percent(0.9224), percent(0.9, 0)) == ("92.2 %", "90 %")
    assert [exact_percent(share) for share in (0.95, 0.999, 0.5, 1, 0.07)] == [
        "95 %",
        "99.9 %",
        "50 %",
        "100 %",
        "7 %",
    ]


def test_the_quantiles_are_those_of_the_normal_table() -> None:
    assert two_sided(0.95) == pytest.approx(Z95_TWO_SIDED, abs=1e-6)
    assert two_sided(0.9) == pytest.approx(Z95_ONE_SIDED, abs=1e-6)
    assert two_sided(0.99) == pytest.approx(2.575829, abs=1e-6)
    assert two_sided(0) == 0


@pytest.mark.parametrize(
    ("share", "z", "pictures"),
    [
        # z^2 p / (1 - p): 3.84, 34.6 and 51.4.
        (0.5, Z95_TWO_SIDED, 4),
        (0.9, Z95_TWO_SIDED, 35),
        (0.95, Z95_ONE_SIDED, 52),
        (0.0, Z95_TWO_SIDED, 1),
        (0.9, 0.0, 1),
        (1.0, Z95_TWO_SIDED, None),
    ],
)
def test_so_many_pictures_show_a_share(share: float, z: float, pictures: int | None) -> None:
    assert fewest(share, z) == pictures
