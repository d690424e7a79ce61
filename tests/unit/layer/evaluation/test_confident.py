"""Confident predictions have the precision that was asked for, though chosen on the same images."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.evaluation.confident import TopPrediction, confident, coverage, thresholds
from droplens.statistics.fixed_sequence import ERROR_LEVEL, THRESHOLDS
from droplens.statistics.left_out import LeftOut

CLASSES = ("audi", "bmw", "fiat")
JUDGED = st.lists(
    st.builds(TopPrediction, st.booleans(), st.sampled_from([0.1 * n for n in range(11)])),
    min_size=1,
    max_size=60,
)


def test_the_lowest_threshold_that_is_shown_is_chosen() -> None:
    right = [TopPrediction(True, 0.9)] * 80 + [TopPrediction(True, 0.8)] * 40
    found = confident([*right, *[TopPrediction(False, 0.7)] * 9], 0.95, CLASSES)
    # Of 0.1 in the log of the odds, the last threshold above 0.7.
    assert found["threshold"] == min(t for t in THRESHOLDS if t > 0.7)
    assert (found["share"], found["precision_measured"]) == (round(120 / 129, 6), 1.0)
    # By hand: the bound of 120 of 120 is 0.05^(1/120).
    assert found["low"] == pytest.approx(0.05 ** (1 / 120), abs=1e-6)
    assert (found["reason"], found["left_out"], found["by_class"]) == (None, 0, None)


@pytest.mark.parametrize(("pictures", "is_shown"), [(58, False), (59, True)])
def test_on_too_few_pictures_no_answer_is_called_confident(pictures: int, is_shown: bool) -> None:
    # 0.95^59 is 4.85 %, 0.95^58 is 5.10 %.
    found = confident([TopPrediction(True, 0.9)] * pictures, 0.95, CLASSES)
    assert (found["threshold"] is not None) is is_shown
    if not is_shown:
        assert found["reason"] == (
            "too few validation pictures: 58, and it takes 59 to show that 95 % of the confident "
            "predictions are correct"
        )


@pytest.mark.parametrize(
    ("pictures", "precision", "reason"),
    [
        # The fewest by hand, ln 0.05 / ln p: 58.4 for 95 %, 28.4 for 90 %, 5.9 for 60 %.
        (9, 0.95, "too few validation pictures: 9, and it takes 59 to show that 95 % of the"),
        (28, 0.9, "too few validation pictures: 28, and it takes 29 to show that 90 % of the"),
        (5, 0.6, "too few validation pictures: 5, and it takes 6 to show that 60 % of the"),
    ],
)
def test_certain_predictions_that_are_not_confident_have_their_reason(
    pictures: int, precision: float, reason: str
) -> None:
    found = confident([TopPrediction(True, 1.0)] * pictures, precision, CLASSES)
    assert found["threshold"] is None
    assert found["reason"].startswith(reason)


def test_enough_pictures_and_too_many_errors_are_another_reason() -> None:
    found = confident([TopPrediction(n % 2 == 0, 1.0) for n in range(60)], 0.95, CLASSES)
    assert (found["threshold"], found["share"], found["low"]) == (None, 0, None)
    assert found["precision_measured"] is None
    assert found["reason"] == (
        "at no probability from 50 % up are 95 % of the predictions shown to be correct"
    )


def test_a_lower_precision_is_reached_by_more_answers() -> None:
    answers = [TopPrediction(n % 10 > 0 or n < 200, 0.99 - n / 700) for n in range(300)]
    strict, lax = (confident(answers, precision, CLASSES) for precision in (0.95, 0.8))
    assert strict["threshold"] > lax["threshold"]
    assert strict["share"] < lax["share"] == 1.0
    assert strict["low"] >= 0.95
    assert strict["precision_measured"] > strict["low"]


def test_a_wrong_label_among_the_most_probable_does_not_end_the_sequence() -> None:
    answers = [TopPrediction(n > 0, 0.99 - n / 1000) for n in range(400)]
    assert confident(answers, 0.95, CLASSES)["share"] == 1.0


def test_equal_probabilities_are_confident_together_or_not_at_all() -> None:
    answers = [TopPrediction(n % 9 > 0, 0.9) for n in range(500)]
    assert confident(answers, 0.95, CLASSES)["threshold"] is None


def test_unfamiliar_images_are_neither_confident_nor_evidence() -> None:
    known = [TopPrediction(True, 0.9)] * 100
    foreign = [TopPrediction(False, 0.99, familiar=False)] * 50
    found = confident([*known, *foreign], 0.95, CLASSES)
    assert found["threshold"] is not None
    assert (found["share"], found["precision_measured"]) == (round(100 / 150, 6), 1.0)


def left_out(mistaken: float = 0.0, records: int = 600, seed: int = 2) -> LeftOut:
    """Of three classes, of which the last is mistaken so often; the others once in a hundred."""
    chance = random.Random(seed)
    labels = [n % 3 for n in range(records)]
    right = [chance.random() >= (mistaken if label == 2 else 0.01) for label in labels]
    return LeftOut.of([0.9] * records, labels, right, 3)


def test_a_class_that_is_often_mistaken_needs_a_higher_probability() -> None:
    answers = [TopPrediction(True, 0.9, n % 2) for n in range(120)]
    wrong = [TopPrediction(n % 2 == 0, 0.9, 2) for n in range(20)]
    alone = confident([*answers, *wrong], 0.95, CLASSES)
    assert alone["threshold"] is None
    found = confident([*answers, *wrong], 0.95, CLASSES, left_out(0.4))
    assert found["by_class"]["fiat"] > 0.9 > found["by_class"]["audi"]
    assert found["share"] == round(120 / 140, 6)
    assert found["precision_measured"] == 1.0
    assert found["left_out"] == 600


def test_a_prediction_below_one_half_is_never_confident_though_the_model_never_errs() -> None:
    answers = [TopPrediction(True, 0.2 + n / 250, n % 3) for n in range(200)]
    alone = confident(answers, 0.95, CLASSES)
    assert (alone["threshold"], alone["share"]) == (0.5, round(125 / 200, 6))
    # Their probabilities are too low: factors above one would put thresholds below one half.
    evidence = LeftOut.of([0.3] * 600 + [0.7] * 600, [n % 3 for n in range(1200)], [True] * 1200, 3)
    assert min(evidence.factors) > 1.5
    found = confident(answers, 0.95, CLASSES, evidence)
    assert (found["threshold"], found["share"]) == (0.5, round(125 / 200, 6))
    assert found["by_class"] is None
    # The evidence is of predictions that can be confident: 125 of these and 600 of those.
    assert found["low"] == pytest.approx(0.05 ** (1 / 725), abs=1e-6)


def test_only_predictions_that_can_be_confident_count_for_the_first_test() -> None:
    """Three quarters of all 200 are not above one half, and 80 are enough to show 95 %."""
    answers = [TopPrediction(True, 0.9)] * 80 + [TopPrediction(False, 0.4)] * 120
    found = confident(answers, 0.95, CLASSES)
    assert (found["share"], found["precision_measured"]) == (0.4, 1.0)


def test_training_alone_shows_nothing() -> None:
    """The endpoint's own predictions must not contradict it, and be enough to tell."""
    evidence = left_out()
    bad = [TopPrediction(n % 8 > 0, 0.9, n % 3) for n in range(40)]
    assert confident(bad, 0.95, CLASSES, evidence)["threshold"] is None
    few = [TopPrediction(True, 0.9, n % 3) for n in range(19)]
    found = confident(few, 0.95, CLASSES, evidence)
    assert found["threshold"] is None
    assert found["reason"].startswith("too few validation pictures: 19, and it takes 20 to show")
    good = [TopPrediction(n > 0, 0.9, n % 3) for n in range(20)]
    assert confident(good, 0.95, CLASSES, evidence)["share"] == 1.0


def test_the_promise_is_kept_though_the_threshold_is_chosen_on_the_same_images() -> None:
    """A prediction is correct with its probability to the power of 0.35, so the precision
    grows with the threshold; the chosen one must reach 90 % nineteen times in twenty."""
    chance = random.Random(11)
    broken = chosen = 0
    for _ in range(400):
        answers = []
        for _ in range(400):
            probability = chance.random()
            right = chance.random() < probability**0.35
            answers.append(TopPrediction(right, probability))
        threshold = thresholds(answers, 0.9, None).common
        if threshold is not None:
            chosen += 1
            # The mean of p^0.35 on [t, 1].
            precision = (1 - threshold**1.35) / 1.35 / (1 - threshold)
            broken += precision < 0.9
    assert chosen > 200
    assert broken <= 1.6 * ERROR_LEVEL * 400


@given(JUDGED)
def test_coverage_grows_to_all_answers(answers: list[TopPrediction]) -> None:
    steps = coverage(answers)
    shares = [share for _, share, _ in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert steps[-1][2] == pytest.approx(sum(a.right for a in answers) / len(answers), abs=1e-6)


def test_the_curve_has_six_decimals() -> None:
    assert coverage([TopPrediction(True, 0.12345678)]) == [[0.123457, 1.0, 1.0]]
