"""Worse, or only unluckier: the tests agree with the textbooks' numbers."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.comparison import agresti_min, compare, newcombe
from droplens.confidence import Z95_TWO_SIDED, mcnemar
from tests.unit.layer.made import card


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_counts_coin_tosses(lost: int, won: int) -> None:
    tosses = list(itertools.product((0, 1), repeat=lost + won)) if lost + won < 11 else []
    if tosses:
        worse = sum(sum(toss) > lost for toss in tosses)
        equal = sum(sum(toss) == lost for toss in tosses)
        assert mcnemar(lost, won) == pytest.approx((worse + equal / 2) / len(tosses))
    assert mcnemar(lost, won) + mcnemar(won, lost) == pytest.approx(1)


def test_mcnemar_on_thousands_of_pairs_is_that_of_the_normal() -> None:
    expected = 0.5 * math.erfc((2100 - 1900) / math.sqrt(4000) / math.sqrt(2))
    assert mcnemar(2100, 1900) == pytest.approx(expected, rel=0.02)


def test_newcombe_s_own_example() -> None:
    # Table II of the paper, 56/70 - 48/80 by method 10.
    low, high = newcombe(56 / 70, 70, 48 / 80, 80, Z95_TWO_SIDED)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_interval_of_pairs_holds_their_difference(lost: int, won: int, same: int) -> None:
    pairs = lost + won + same + 1
    low, high = agresti_min(lost, won, pairs)
    assert -1 <= low <= high <= 1
    turned = agresti_min(won, lost, pairs)
    assert turned == pytest.approx((-high, -low))


def evaluation(names: tuple[str, ...], right: list[bool], pictures: str = "p") -> dict[str, object]:
    return {
        "pictures": len(right),
        "accuracy": {"value": sum(right) / len(right)},
        "classes": [{"name": name} for name in names],
        "answers": [
            {"sha256": f"{pictures}{n}", "truth": 0, "top": [[0 if is_right else 1, 0.9]]}
            for n, is_right in enumerate(right)
        ],
    }


LIVE = card()
NAMES = LIVE.classes


def test_pairs_are_the_same_bytes_under_the_same_label() -> None:
    before = evaluation(NAMES, [True] * 20)
    found = compare(evaluation(NAMES, [True] * 10 + [False] * 10), LIVE, before)
    assert (found.method, found.pictures, found.only_before, found.only_after) == (
        "paired",
        20,
        10,
        0,
    )
    assert found.worse
    assert found.difference["value"] == -0.5
    renamed = compare(evaluation(NAMES[::-1], [True] * 20), LIVE, before)
    assert renamed.method == "unpaired"
    assert not renamed.same_task


@pytest.mark.parametrize(("lost", "worse"), [(3, False), (4, True)])
def test_three_lost_pictures_may_be_chance_and_four_are_not(lost: int, worse: bool) -> None:
    # Half of 1/2 to the power of `lost`: 0.06 and 0.03.
    right = [False] * lost + [True] * (40 - lost)
    assert compare(evaluation(NAMES, right), LIVE, evaluation(NAMES, [True] * 40)).worse is worse


def test_without_the_live_model_s_own_evaluation_its_card_stands_for_it() -> None:
    found = compare(evaluation(NAMES, [True] * 10), LIVE, None)
    assert (found.method, found.p_value, found.worse) == ("unpaired", None, False)
    assert found.difference["value"] == pytest.approx(0.1)
    assert found.difference["low"] < 0.1 < found.difference["high"]


def test_few_shared_pictures_do_not_decide() -> None:
    candidate = evaluation(NAMES, [False] * 9 + [True] * 11)
    live = evaluation(NAMES, [True] * 9)
    assert compare(candidate, LIVE, live).method == "unpaired"
