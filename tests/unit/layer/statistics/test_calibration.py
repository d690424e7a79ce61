"""The map keeps every answer and changes only how sure it calls itself."""

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.statistics.calibration import (
    IDENTITY,
    Calibration,
    _least,
    cross_fit,
    expected_error,
    fit,
    folds,
    log_loss,
    noise_floor,
    noise_limit,
    reliability,
)

TEMPERATURES = st.floats(0.2, 10)
SHARES = st.floats(0, 0.5)
LOGITS = st.lists(st.floats(-20, 20), min_size=2, max_size=8)


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / sum(powers) for power in powers]


@given(LOGITS, TEMPERATURES)
def test_it_is_the_softmax_of_the_scaled_logits(logits: list[float], temperature: float) -> None:
    found = Calibration(temperature).apply(softmax(logits))
    wanted = softmax([logit / temperature for logit in logits])
    assert found == pytest.approx(wanted, abs=1e-9)


@given(LOGITS, TEMPERATURES, SHARES)
def test_the_order_of_classes_stays(
    logits: list[float], temperature: float, uniform: float
) -> None:
    before = softmax(logits)
    after = Calibration(temperature, uniform).apply(before)
    assert sum(after) == pytest.approx(1)
    for i in range(len(logits)):
        for j in range(len(logits)):
            assert before[i] > before[j] or after[i] <= after[j]


def test_nothing_is_changed_where_nothing_was_fitted() -> None:
    assert IDENTITY.apply([0.2, 0.7]) == [0.2, 0.7]
    assert IDENTITY.to_dict() == {"method": "none", "parameters": {}}


def test_the_map_that_changes_nothing_is_of_temperature_one_and_mixes_nothing_in() -> None:
    assert Calibration() == Calibration(1.0, 0.0) == IDENTITY
    assert Calibration(1.0, 0.1).apply([0.6, 0.4]) == pytest.approx([0.59, 0.41])
    assert Calibration(1.25).to_dict()["method"] == "temperature and uniform"


def test_small_probabilities_of_many_classes_do_not_vanish() -> None:
    # A thousandth to the power of 200 is 0 as a float, for each of the thousand.
    assert Calibration(0.005).apply([0.001] * 1000) == pytest.approx([0.001] * 1000)


def test_certainty_and_impossibility_stay_what_they_are_unless_a_guess_is_mixed_in() -> None:
    assert Calibration(3.0).apply([1.0, 0.0]) == [1.0, 0.0]
    assert Calibration(3.0, 0.1).apply([1.0, 0.0]) == pytest.approx([0.95, 0.05])


@pytest.mark.parametrize("calibration", [IDENTITY, Calibration(1.7), Calibration(0.8, 0.03)])
def test_it_is_read_as_it_was_written(calibration: Calibration) -> None:
    assert Calibration.from_dict(calibration.to_dict()) == calibration


def drawn(
    temperature: float, pictures: int = 2000, guessed: float = 0.0
) -> tuple[list[list[float]], list[int]]:
    """Answers of a model whose logits are `temperature` times too large, and the truths, a share
    of which are anything at all."""
    chance = random.Random(7)
    answers, truths = [], []
    for _ in range(pictures):
        logits = [chance.gauss(0, 2) for _ in range(5)]
        weights = [1.0] * 5 if chance.random() < guessed else softmax(logits)
        truths.append(chance.choices(range(5), weights)[0])
        answers.append(softmax([temperature * logit for logit in logits]))
    return answers, truths


@pytest.mark.parametrize("guessed", [0.0, 0.1])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_distortion_that_was_put_in_is_found(temperature: float, guessed: float) -> None:
    found = fit(*drawn(temperature, guessed=guessed))
    assert found.temperature == pytest.approx(temperature, rel=0.15)
    assert found.uniform == pytest.approx(guessed, abs=0.04)


def test_no_map_near_it_makes_it_more_probable_that_right_answers_were_right() -> None:
    answers, truths = drawn(2.0, 300, guessed=0.05)
    best = fit(answers, truths)

    def loss(calibration: Calibration) -> float:
        total = (math.log(calibration.temperature) / 0.5) ** 2 / 2
        for row, truth in zip(answers, truths, strict=True):
            probability = max(calibration.apply(row))
            total -= math.log(probability if row[truth] == max(row) else 1 - probability)
        return total

    around = [
        Calibration(best.temperature * factor, max(0.0, best.uniform + step))
        for factor in (0.9, 1.0, 1.1)
        for step in (-0.02, 0.0, 0.02)
    ]
    assert loss(best) <= min(map(loss, around)) + 0.01


def test_a_few_lucky_pictures_move_it_little_and_many_move_it_far() -> None:
    answers, truths = drawn(3.0)
    few, many = fit(answers[:50], truths[:50]), fit(answers, truths)
    assert 1 < few.temperature < many.temperature


@pytest.mark.parametrize(
    ("pictures", "temperature"), [(1, 0.959), (5, 0.7858), (10, 0.5511), (20, 0.2586)]
)
def test_the_prior_weighs_as_much_as_its_deviation_says(pictures: int, temperature: float) -> None:
    # Answers [0.6, 0.4], all right. At the least loss its slopes are level: with h the logarithm of
    # the temperature T, l = ln 1.5 and p = 1 / (1 + exp(-l / T)), n (1 - p) l / T = -4 h, which
    # these solve. A thirteenth of the search's range is searched to an 800th.
    found = fit([[0.6, 0.4]] * pictures, [0] * pictures)
    assert found.temperature == pytest.approx(temperature, rel=0.001)
    assert found.uniform == pytest.approx(0, abs=0.004)


def test_a_temperature_is_looked_for_between_a_fifth_and_ten() -> None:
    timid = fit([[0.55, 0.45]] * 2000, [0] * 2000)
    assert timid.temperature == pytest.approx(0.2, abs=0.001)
    wrong = fit([[0.99, 0.01]] * 2000, [1] * 2000)
    assert wrong.temperature == pytest.approx(10, abs=0.05)
    # And at most half of it is a guess.
    assert wrong.uniform == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("place", range(301))
def test_the_least_of_a_parabola_is_found_to_an_800th_of_the_interval(place: int) -> None:
    # Twelve steps leave 0.618^12 = 1/322 of it, of which both points are 0.382 from an end.
    least = 2 + 3 * place / 300
    found, value = _least(lambda x: (x - least) ** 2, 2, 5)
    assert abs(found - least) <= 3 / 800
    assert value == pytest.approx((found - least) ** 2)


def test_a_map_is_told_by_four_decimals() -> None:
    answers, truths = drawn(2.0, 300, guessed=0.1)
    found = fit(answers, truths)
    for value in (found.temperature, found.uniform):
        assert value == round(value, 4) != round(value, 3)


@pytest.mark.parametrize("function", [fit, log_loss])
def test_every_answer_needs_its_truth(function: Any) -> None:
    with pytest.raises(ValueError, match="zip"):
        function([[0.6, 0.4], [0.7, 0.3]], [0])


def test_answers_that_are_all_right_do_not_become_certain() -> None:
    found = fit([[0.6, 0.4]] * 60, [0] * 60)
    assert found.temperature >= 0.2
    assert found.apply([0.6, 0.4])[0] < 1


def test_a_truth_called_impossible_is_only_improbable() -> None:
    found = fit([[1.0, 0.0]] * 9 + [[0.0, 1.0]], [0] * 10)
    assert found.apply([0.0, 1.0])[0] == pytest.approx(0.1, abs=0.02)


def test_bins_tell_probability_and_accuracy() -> None:
    answers = [(0.05, False), (0.95, True), (0.97, False), (1.0, True)]
    first, last = reliability(answers, bins=10)
    assert (first.low, first.high, first.count, first.accuracy) == (0.0, 0.1, 1, 0.0)
    assert (last.low, last.high, last.count) == (0.9, 1.0, 3)
    assert last.probability == pytest.approx(0.9733, abs=1e-4)
    assert last.accuracy == pytest.approx(2 / 3)


def test_the_expected_error_weighs_bins_by_their_answers() -> None:
    answers = [(0.05, False)] + [(0.9, True)] * 3
    assert expected_error(reliability(answers)) == pytest.approx((0.05 + 3 * 0.1) / 4)


def test_honest_probabilities_err_by_the_noise_floor() -> None:
    chance = random.Random(3)
    errors, floors = [], []
    for _ in range(200):
        probabilities = [chance.uniform(0.3, 1) for _ in range(150)]
        bins = reliability([(p, chance.random() < p) for p in probabilities])
        errors.append(expected_error(bins))
        floors.append(noise_floor(bins))
    assert sum(errors) / 200 == pytest.approx(sum(floors) / 200, rel=0.05)


def test_honest_probabilities_rarely_err_beyond_the_noise_limit() -> None:
    # One bin of 100 at 80 %: 4 pictures are its deviation. Half-normal: mean 0.7979 * 4 = 3.19 and
    # deviation 0.6028 * 4 = 2.41, so 3.19 + 2 * 2.41 = 8.01 pictures of 100.
    assert noise_limit(reliability([(0.8, n < 80) for n in range(100)])) == pytest.approx(
        0.0801, abs=1e-4
    )
    # Two of them, of 200: means add up, and so do variances: (6.38 + 2 * 2.41 * 1.414) / 200.
    two = [(0.8, n < 80) for n in range(100)] + [(0.2, n < 20) for n in range(100)]
    assert noise_limit(reliability(two)) == pytest.approx(0.0660, abs=1e-4)
    chance = random.Random(4)
    beyond = 0
    for _ in range(400):
        probabilities = [chance.uniform(0.3, 1) for _ in range(150)]
        bins = reliability([(p, chance.random() < p) for p in probabilities])
        beyond += expected_error(bins) > noise_limit(bins)
    assert 2 <= beyond <= 20  # at most 1 in 20, and not never


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(2, 5))
def test_every_class_is_cut_into_folds(truths: list[int], count: int) -> None:
    digests = [f"{number * 7919 % 101:03}" for number in range(len(truths))]
    fold_of = folds(truths, digests, count)
    for label in set(truths):
        members = [fold for truth, fold in zip(truths, fold_of, strict=True) if truth == label]
        sizes = [members.count(fold) for fold in range(count)]
        assert max(sizes) - min(sizes) <= 1
    sizes = [fold_of.count(fold) for fold in range(count)]
    assert max(sizes) - min(sizes) <= 1
    # The order in which pictures come does not matter.
    assert folds(truths[::-1], digests[::-1], count)[::-1] == fold_of


def test_a_fold_s_map_is_the_fit_to_the_other_folds() -> None:
    chance = random.Random(9)
    rows = [[p, 1 - p] for p in (chance.uniform(0.5, 1) for _ in range(90))]
    truths = [int(chance.random() < 0.3) for _ in rows]
    fold_of = folds(truths, [f"{n:02}" for n in range(90)], 3)
    found = cross_fit(rows, truths, fold_of)
    assert found.calibration == fit(rows, truths)
    for fold in range(3):
        others = [n for n in range(90) if fold_of[n] != fold]
        assert found.of_fold[fold] == fit([rows[n] for n in others], [truths[n] for n in others])


def test_the_gain_is_in_standard_errors() -> None:
    rows, truths = [[0.99, 0.01]] * 100, [n % 2 for n in range(100)]
    fold_of = folds(truths, [f"{n:02}" for n in range(100)], 2)
    found = cross_fit(rows, truths, fold_of)
    losses = [
        math.log(max(row)) if truth == 0 else math.log(1 - max(row))
        for row, truth in zip(rows, truths, strict=True)
    ]
    after = [max(found.of_fold[fold].apply(row)) for row, fold in zip(rows, fold_of, strict=True)]
    gains = [
        math.log(p if truth == 0 else 1 - p) - loss
        for p, truth, loss in zip(after, truths, losses, strict=True)
    ]
    error = statistics.stdev(gains) / 10
    assert found.gain == pytest.approx(statistics.fmean(gains) / error)
    assert found.gain > 3


def test_the_log_loss_is_the_mean_over_pictures() -> None:
    # ln 2 and ln 4.
    found = log_loss([[0.5, 0.5], [0.25, 0.75]], [0, 0])
    assert found == pytest.approx(1.5 * math.log(2))
    # What was rounded to nothing counts as 1e-12, not as infinity.
    assert log_loss([[0.0, 1.0]], [0]) == pytest.approx(12 * math.log(10))


def test_the_error_is_taken_over_fifteen_bins_of_equal_width() -> None:
    # 0.60 and 0.65 share the bin [9/15, 10/15), 0.67 is in the next: |0.625 - 0.5| * 2/3 + 0.33/3.
    bins = reliability([(0.60, True), (0.65, False), (0.67, True)])
    assert [(entry.low, entry.count) for entry in bins] == [(9 / 15, 2), (10 / 15, 1)]
    assert expected_error(bins) == pytest.approx((0.125 * 2 + 0.33) / 3)
    assert [entry.low for entry in reliability([(1.0, True)])] == [14 / 15]
