"""The softmax temperature: found again, within its bounds, and by the highest score."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.recipes.ridge_head import softmax
from trainer.recipes.temperature import (
    Temperature,
    _losses,
    fit_by_highest_score,
    fit_temperature,
    negative_log_likelihood,
)


def test_the_temperature_of_overconfident_logits_is_found() -> None:
    rng = np.random.default_rng(2)
    logits = 2 * rng.standard_normal((4000, 5), np.float32)
    labels = np.array([rng.choice(5, p=p / p.sum()) for p in softmax(logits).astype(float)])
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)
    assert fit_temperature(0.5 * logits, labels) == pytest.approx(0.5, rel=0.1)


def test_temperatures_end_at_a_thousandth_and_at_twenty() -> None:
    labels = np.arange(6) % 3
    right = np.eye(3, dtype=np.float32)[labels]
    assert fit_temperature(0.005 * right, labels) == pytest.approx(1e-3, rel=0.01)
    assert fit_temperature(-500 * right, labels) == pytest.approx(20, rel=0.01)


def drawn(
    records: int, temperature: Temperature, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores, and labels that are as probable as the scores over their temperature say."""
    rng = np.random.default_rng(seed)
    scores = rng.random((records, 6), np.float32)
    scores[:, 0] += rng.random(records, np.float32)
    probabilities = softmax(scores / temperature.of(scores)).astype(float)
    labels = [rng.choice(6, p=p / p.sum()) for p in probabilities]
    return scores, np.array(labels)


def test_the_temperature_goes_from_low_to_high_geometrically_and_no_further() -> None:
    temperature = Temperature(at_low=0.1, at_high=0.4, low=0.2, high=0.6)
    highest = np.array([-3, 0.2, 0.4, 0.6, 9], np.float32)
    scores = np.stack([highest - 1, highest], axis=1)
    expected = np.array([[0.1], [0.1], [0.2], [0.4], [0.4]])
    found = temperature.of(scores)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_both_temperatures_are_found_again() -> None:
    truth = Temperature(at_low=0.1, at_high=0.6, low=0.5, high=1.9)
    scores, labels = drawn(20_000, truth)
    found = fit_by_highest_score(scores, labels)
    highest = np.array([[0.7], [1.2], [1.7]], np.float32)
    np.testing.assert_allclose(found.of(highest), truth.of(highest), rtol=0.1)
    assert (found.low, found.high) == (scores.max(axis=1).min(), scores.max(axis=1).max())


def test_a_temperature_that_does_not_depend_on_the_score_is_found_as_nearly_constant() -> None:
    scores, labels = drawn(20_000, Temperature.constant(0.3))
    found = fit_by_highest_score(scores, labels)
    assert [found.at_low, found.at_high] == pytest.approx([0.3, 0.3], rel=0.1)


def test_a_few_records_leave_both_temperatures_close_to_each_other() -> None:
    scores, labels = drawn(12, Temperature(at_low=0.05, at_high=1.5, low=0.5, high=1.9))
    found = fit_by_highest_score(scores, labels)
    assert abs(np.log(found.at_high / found.at_low)) < 2


def test_the_gradient_is_that_of_the_loss() -> None:
    scores, labels = drawn(50, Temperature.constant(0.3))
    temperatures = np.linspace(0.1, 1, 50, dtype=np.float64)
    step = 1e-5
    above, below = (
        _losses(scores, labels, temperatures * np.exp(sign * step))[0] for sign in (1, -1)
    )
    losses, slopes = _losses(scores, labels, temperatures)
    np.testing.assert_allclose(slopes, (above - below) / (2 * step), atol=1e-6)
    logits = (scores / temperatures[:, None]).astype(np.float32)
    assert losses.mean() == pytest.approx(negative_log_likelihood(logits, labels), rel=1e-5)


def test_records_in_several_passes_give_the_same_temperatures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores, labels = drawn(300, Temperature.constant(0.3))
    whole = fit_by_highest_score(scores, labels)
    monkeypatch.setattr("trainer.recipes.temperature.RECORDS_PER_PASS", 7)
    parts = fit_by_highest_score(scores, labels)
    assert [parts.at_low, parts.at_high] == pytest.approx([whole.at_low, whole.at_high], rel=1e-4)


@pytest.mark.parametrize("records", [1, 2, 40])
@pytest.mark.parametrize("right", [True, False])
def test_scores_without_any_variety_give_one_temperature_within_the_bounds(
    records: int, right: bool
) -> None:
    scores = np.tile(np.array([[1.0, 0.0]], np.float32), (records, 1))
    found = fit_by_highest_score(scores, np.full(records, 0 if right else 1))
    assert found.at_low == found.at_high
    assert 1e-3 <= found.at_low <= 20
    assert found.report(records)["method"] == "temperature"


@pytest.mark.parametrize("right", [True, False])
def test_labels_that_are_all_right_or_all_wrong_keep_both_within_the_bounds(right: bool) -> None:
    scores, _ = drawn(100, Temperature.constant(0.3))
    labels = scores.argmax(axis=1) if right else scores.argmin(axis=1)
    found = fit_by_highest_score(scores, labels)
    for each in (found.at_low, found.at_high):
        assert 1e-3 * 0.999 <= each <= 20 * 1.001
    probabilities = softmax(scores / found.of(scores))
    assert np.isfinite(probabilities).all()
    assert (probabilities.argmax(axis=1) == scores.argmax(axis=1)).all()


def test_the_report_names_the_method_and_what_it_was_fitted_on() -> None:
    assert Temperature.constant(0.5).report(7) == {
        "method": "temperature",
        "parameters": {"temperature": 0.5},
        "fitted_on": 7,
    }
    assert Temperature(0.1, 0.4, 0.2, 0.6).report(9) == {
        "method": "temperature by highest score",
        "parameters": {"at_low": 0.1, "at_high": 0.4, "low": 0.2, "high": 0.6},
        "fitted_on": 9,
    }
