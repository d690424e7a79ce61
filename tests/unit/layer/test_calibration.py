"""A temperature keeps every answer and changes only how sure it calls itself."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.calibration import (
    IDENTITY,
    Calibration,
    expected_error,
    fit,
    halves,
    log_loss,
    noise_floor,
    reliability,
)

TEMPERATURES = st.floats(0.2, 10)
LOGITS = st.lists(st.floats(-20, 20), min_size=2, max_size=8)


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / sum(powers) for power in powers]


@given(LOGITS, TEMPERATURES)
def test_it_is_the_softmax_of_the_scaled_logits(logits: list[float], temperature: float) -> None:
    found = Calibration(temperature).apply(softmax(logits))
    wanted = softmax([logit / temperature for logit in logits])
    assert found == pytest.approx(wanted, abs=1e-9)


@given(LOGITS, TEMPERATURES)
def test_the_order_of_classes_stays(logits: list[float], temperature: float) -> None:
    before = softmax(logits)
    after = Calibration(temperature).apply(before)
    for i in range(len(logits)):
        for j in range(len(logits)):
            assert before[i] > before[j] or after[i] <= after[j]


def test_nothing_is_changed_where_nothing_was_fitted() -> None:
    assert IDENTITY.apply([0.2, 0.7]) == [0.2, 0.7]
    assert IDENTITY.to_dict() == {"method": "none", "parameters": {}}


def test_certainty_and_impossibility_stay_what_they_are() -> None:
    assert Calibration(3.0).apply([1.0, 0.0]) == [1.0, 0.0]


@pytest.mark.parametrize("calibration", [IDENTITY, Calibration(1.7)])
def test_it_is_read_as_it_was_written(calibration: Calibration) -> None:
    assert Calibration.from_dict(calibration.to_dict()) == calibration


def drawn(temperature: float, pictures: int = 4000) -> tuple[list[list[float]], list[int]]:
    """Answers of a model whose logits are `temperature` times too large, and the truths."""
    chance = random.Random(7)
    answers, truths = [], []
    for _ in range(pictures):
        logits = [chance.gauss(0, 2) for _ in range(5)]
        truths.append(chance.choices(range(5), softmax(logits))[0])
        answers.append(softmax([temperature * logit for logit in logits]))
    return answers, truths


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    answers, truths = drawn(temperature)
    assert fit(answers, truths).temperature == pytest.approx(temperature, rel=0.06)


def test_no_other_temperature_makes_the_truths_more_probable() -> None:
    answers, truths = drawn(2.0, 300)
    best = fit(answers, truths)

    def loss(temperature: float) -> float:
        return log_loss([Calibration(temperature).apply(row) for row in answers], truths)

    assert loss(best.temperature) <= min(loss(best.temperature * f) for f in (0.9, 0.99, 1.01, 1.1))


def test_answers_that_are_all_right_do_not_become_certain() -> None:
    assert fit([[0.6, 0.4]] * 60, [0] * 60).temperature == pytest.approx(0.2, rel=0.01)


def test_a_truth_called_impossible_is_only_very_improbable() -> None:
    found = fit([[1.0, 0.0]] * 9 + [[0.0, 1.0]], [0] * 10)
    assert found.temperature == pytest.approx(10, rel=0.1)


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


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_every_class_is_cut_in_half(truths: list[int]) -> None:
    digests = [f"{number * 7919 % 101:03}" for number in range(len(truths))]
    chosen = halves(truths, digests)
    for label in set(truths):
        members = [fits for truth, fits in zip(truths, chosen, strict=True) if truth == label]
        assert abs(2 * sum(members) - len(members)) <= 1
    # The order in which pictures come does not matter.
    back = halves(truths[::-1], digests[::-1])
    assert back[::-1] == chosen
