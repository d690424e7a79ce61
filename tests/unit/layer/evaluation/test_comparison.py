"""Worse, or only unluckier: the tests agree with the textbooks' numbers."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.evaluation.comparison import agresti_min, compare, newcombe
from droplens.statistics.intervals import Z95_TWO_SIDED, mcnemar, wilson
from tests.support.builders import card


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


def test_fagerland_s_own_example_of_mcnemar() -> None:
    # Airway hyper-responsiveness before and after a transplantation: of the pairs that differ 7
    # and 1; the paper's two-sided mid-p value is 0.0391.
    assert 2 * mcnemar(7, 1) == pytest.approx(0.0391, abs=5e-5)


@pytest.mark.parametrize(
    ("right", "asked", "interval"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_newcombe_s_examples_of_wilson(
    right: int, asked: int, interval: tuple[float, float]
) -> None:
    # R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), method 3.
    assert wilson(right, asked) == pytest.approx(interval, abs=5e-5)


def test_agresti_s_example_of_pairs() -> None:
    # A. Agresti, "Categorical Data Analysis", ratings of a prime minister by 1,600 persons twice:
    # 150 approved only at first, 86 only later. The book's interval is -0.06 to -0.02; with half a
    # person added to each kind of pair it is -64/1602 -+ 1.96 * sqrt(237 - 64^2/1602) / 1602.
    low, high = agresti_min(150, 86, 1600)
    assert (round(low, 4), round(high, 4)) == (-0.0587, -0.0212)


def test_few_pairs_that_all_went_one_way_leave_much_open() -> None:
    # Ten won of ten: (10.5 - 0.5) / 12 -+ 1.96 * sqrt(11 - 100/12) / 12, cut off at 1.
    low, high = agresti_min(0, 10, 10)
    assert low == pytest.approx(10 / 12 - 1.959964 * math.sqrt(8 / 3) / 12)
    assert high == 1.0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_interval_of_pairs_turns_with_the_pairs(lost: int, won: int, same: int) -> None:
    pairs = lost + won + same + 1
    low, high = agresti_min(lost, won, pairs)
    # It is drawn to 0 by the two pairs that are added, and ends at -1 and 1.
    assert -1 <= low <= (won - lost) / (pairs + 2) <= high <= 1
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
    assert found.difference is not None
    assert found.difference["value"] == -0.5
    # The same bytes as another class are another picture.
    relabelled = compare(evaluation(NAMES[::-1], [True] * 20), LIVE, before)
    assert (relabelled.method, relabelled.pictures) == ("unpaired", 0)


def test_pairs_are_counted_by_which_of_the_two_was_correct() -> None:
    kinds = [(True, True)] * 30 + [(False, False)] * 5 + [(True, False)] * 6 + [(False, True)] * 4
    before = evaluation(NAMES, [live for live, _ in kinds])
    found = compare(evaluation(NAMES, [candidate for _, candidate in kinds]), LIVE, before)
    assert (found.pictures, found.right_before, found.right_after) == (45, 36, 34)
    assert (found.only_before, found.only_after) == (6, 4)
    # Of ten tosses more than six, and half of six: (176 + 210/2) / 1024.
    assert found.p_value == round(281 / 1024, 6)
    assert not found.worse
    # By hand: -2 / 47, and on either side 1.96 times the root of 11 - 4 / 47, over 47.
    assert found.difference == {
        "value": -0.044444,
        "low": pytest.approx(-0.180325, abs=2e-6),
        "high": pytest.approx(0.095218, abs=2e-6),
    }


@pytest.mark.parametrize(("candidate", "worse"), [(85, True), (88, False)])
def test_without_pairs_a_one_sided_interval_of_95_percent_decides(
    candidate: int, worse: bool
) -> None:
    # Live: 93 of 100. At 85 the two-sided interval still holds 0, to 0.008; the one-sided does not.
    live = replace(LIVE, measured=replace(LIVE.measured, pictures=100, accuracy=0.93))
    right = [n < candidate for n in range(100)]
    assert compare(evaluation(NAMES, right), live, None).worse is worse


@pytest.mark.parametrize(("lost", "worse"), [(3, False), (4, True)])
def test_three_lost_pictures_may_be_chance_and_four_are_not(lost: int, worse: bool) -> None:
    # Half of 1/2 to the power of `lost`: 0.06 and 0.03.
    right = [False] * lost + [True] * (40 - lost)
    assert compare(evaluation(NAMES, right), LIVE, evaluation(NAMES, [True] * 40)).worse is worse


def test_without_the_live_model_s_own_evaluation_its_card_stands_for_it() -> None:
    found = compare(evaluation(NAMES, [True] * 10), LIVE, None)
    assert (found.method, found.p_value, found.worse) == ("unpaired", None, False)
    assert found.difference is not None
    assert found.difference["value"] == pytest.approx(0.1)
    assert found.difference["low"] < 0.1 < found.difference["high"]


# --- another class list


def of_classes(names: str, counts: dict[str, tuple[int, int]], pictures: str = "p") -> Any:
    """An evaluation of classes of one letter: (correct, pictures) by class."""
    answers = [
        {
            "sha256": f"{pictures} {name} {n}",
            "truth": names.index(name),
            "top": [[names.index(name) if n < right else (names.index(name) + 1) % len(names), 1]],
        }
        for name, (right, asked) in counts.items()
        for n in range(asked)
    ]
    right, asked = (sum(each) for each in zip(*counts.values(), strict=True))
    return {
        "pictures": asked,
        "accuracy": {"value": right / asked},
        "classes": [{"name": name} for name in names],
        "answers": answers,
    }


# Of the classes a, b and c; the first two have 90 of 100.
LIVE_ABC = replace(LIVE, classes=("a", "b", "c"))
EVALUATION_ABC = of_classes("abc", {"a": (45, 50), "b": (45, 50), "c": (0, 100)})


@pytest.mark.parametrize(("right", "worse"), [(75, True), (86, False)])
def test_of_another_class_list_the_classes_that_both_know_are_compared(
    right: int, worse: bool
) -> None:
    candidate = of_classes(
        "abx", {"a": (right - 40, 50), "b": (40, 50), "x": (300, 300)}, pictures="others"
    )
    found = compare(candidate, LIVE_ABC, EVALUATION_ABC)
    assert (found.same_task, found.method, found.worse) == (False, "unpaired", worse)
    assert (found.classes, found.classes_added, found.classes_removed) == (2, 1, 1)
    assert (found.right_before, found.pictures_before) == (90, 100)
    assert (found.right_after, found.pictures_after) == (right, 100)
    assert found.difference is not None
    assert found.difference["value"] == pytest.approx(right / 100 - 0.9)


def test_shared_pictures_of_the_common_classes_are_compared_in_pairs() -> None:
    candidate = of_classes("abx", {"a": (40, 50), "b": (45, 50), "x": (0, 400)})
    found = compare(candidate, LIVE_ABC, EVALUATION_ABC)
    assert (found.method, found.pictures, found.only_before, found.only_after) == (
        "paired",
        100,
        5,
        0,
    )
    # Half of 1/2 to the power of 5.
    assert (found.p_value, found.worse) == (0.015625, True)
    better = of_classes("abx", {"a": (47, 50), "b": (45, 50), "x": (0, 400)})
    assert not compare(better, LIVE_ABC, EVALUATION_ABC).worse


def test_a_candidate_is_not_blamed_for_classes_that_the_live_model_does_not_know() -> None:
    candidate = of_classes("abx", {"a": (45, 50), "b": (45, 50), "x": (0, 900)}, pictures="others")
    assert not compare(candidate, LIVE_ABC, EVALUATION_ABC).worse


@pytest.mark.parametrize(
    ("names", "before", "known"),
    [("xyz", EVALUATION_ABC, 0), ("abx", None, 2)],
    ids=["no common class", "no evaluation of the live model"],
)
def test_where_there_is_nothing_to_compare_nothing_is_decided(
    names: str, before: Any, known: int
) -> None:
    candidate = of_classes(names, dict.fromkeys(names, (0, 50)))
    found = compare(candidate, LIVE_ABC, before)
    assert (found.method, found.classes, found.worse) == ("none", known, False)
    assert found.to_dict()["difference"] is None


@pytest.mark.parametrize(("shared", "method"), [(9, "unpaired"), (10, "paired")])
def test_pairs_decide_from_half_of_the_candidate_s_pictures_on(shared: int, method: str) -> None:
    candidate = evaluation(NAMES, [False] * 9 + [True] * 11)
    live = evaluation(NAMES, [True] * shared)
    assert compare(candidate, LIVE, live).method == method


def test_what_chance_does_once_in_nineteen_times_is_not_worse() -> None:
    # Seven lost and two won, by hand: (10 + 36 / 2) / 512 = 0.0547.
    kinds = [(True, False)] * 7 + [(False, True)] * 2 + [(True, True)] * 31
    found = compare(
        evaluation(NAMES, [candidate for _, candidate in kinds]),
        LIVE,
        evaluation(NAMES, [live for live, _ in kinds]),
    )
    assert (found.p_value, found.worse) == (round(28 / 512, 6), False)


def test_unpaired_counts_have_newcombe_s_interval() -> None:
    # Table II of the paper, as above: 56/70 - 48/80 by method 10.
    candidate = evaluation(NAMES, [n < 56 for n in range(70)], pictures="q")
    found = compare(candidate, LIVE, evaluation(NAMES, [n < 48 for n in range(80)]))
    assert found.method == "unpaired"
    assert (found.right_before, found.pictures_before) == (48, 80)
    assert (found.right_after, found.pictures_after) == (56, 70)
    assert found.difference == {
        "value": 0.2,
        "low": pytest.approx(0.0524, abs=5e-5),
        "high": pytest.approx(0.3339, abs=5e-5),
    }


@pytest.mark.parametrize(("before", "after", "worse"), [(0, 50, False), (50, 0, True)])
def test_a_model_that_is_never_correct_is_compared_too(
    before: int, after: int, worse: bool
) -> None:
    candidate = of_classes("abx", {"a": (after, 50), "x": (0, 10)}, pictures="others")
    found = compare(candidate, LIVE_ABC, of_classes("abc", {"a": (before, 50)}))
    assert (found.method, found.worse) == ("unpaired", worse)
    assert found.difference is not None
    assert found.difference["value"] == (after - before) / 50
