"""Ridge regression from accumulated moments: that of float64, whatever the blocks and groups."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.recipes import feature_gram
from trainer.recipes.feature_gram import Gram, Moments


def records(count: int = 90, features: int = 40) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Records far from the origin, of three classes."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, count)
    x = rng.standard_normal((count, features)) * np.linspace(0.1, 3, features) + 20
    x[:, :3] += 2 * np.eye(3)[labels]
    return x.astype(np.float32), labels


def accumulated(x: NDArray[np.float32], labels: NDArray[np.int64], group: int = 90) -> Gram:
    moments = Moments(x.shape[1], 3)
    for first in range(0, len(x), group):
        moments.add(x[first : first + group], labels[first : first + group])
    assert moments.records == len(x)
    return moments.centred()


def by_float64(
    x: NDArray[np.float32], labels: NDArray[np.int64], penalty: float
) -> NDArray[np.float64]:
    wide, targets = x.astype(np.float64), np.eye(3)[labels]
    wide -= wide.mean(axis=0)
    gram = wide.T @ wide + penalty * np.eye(x.shape[1])
    result: NDArray[np.float64] = np.linalg.solve(gram, wide.T @ (targets - targets.mean(axis=0)))
    return result


@pytest.mark.parametrize("block", [7, 40, 512])
@pytest.mark.parametrize("group", [1, 16, 90])
def test_the_weights_are_those_of_the_normal_equations(
    block: int, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_gram, "BLOCK", block)
    x, labels = records()
    gram = accumulated(x, labels, group)
    np.testing.assert_allclose(gram.mean, x.astype(np.float64).mean(axis=0), rtol=1e-6)
    assert gram.size == pytest.approx(np.square(x - x.mean(axis=0)).sum() / len(x), rel=1e-4)
    for penalty in (1.0, 100.0):
        weight = gram.solve(penalty).weight
        np.testing.assert_allclose(weight, by_float64(x, labels, penalty), atol=1e-4)


@pytest.mark.parametrize("block", [7, 512])
def test_left_out_scores_are_those_of_fits_without_the_record(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_gram, "BLOCK", block)
    x, labels = records()
    gram = accumulated(x, labels, 16)
    targets = (np.eye(3)[labels] - np.eye(3)[labels].mean(axis=0)).astype(np.float32)
    chosen = np.array([2, 30, 31, 89])
    scores = gram.solve(5.0).leave_one_out(x[chosen] - gram.mean, targets[chosen])
    for number, score in zip(chosen, scores, strict=True):
        others, truths = np.delete(x, number, axis=0), np.delete(labels, number)
        middle = others.astype(np.float64).mean(axis=0)
        frequencies = np.eye(3)[truths].mean(axis=0) - np.eye(3)[labels].mean(axis=0)
        expected = (x[number] - middle) @ by_float64(others, truths, 5.0) + frequencies
        np.testing.assert_allclose(score, expected, atol=2e-3)


def test_the_digits_do_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_gram, "BLOCK", 8)
    x, labels = records()
    weights = []
    for count in (1, 5):
        monkeypatch.setattr(feature_gram, "cores", lambda count=count: count)
        weights.append(accumulated(x, labels, 16).solve(2.0).weight)
    np.testing.assert_array_equal(weights[0], weights[1])


def test_the_least_penalty_is_a_millionth_of_the_largest_variance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feature_gram, "BLOCK", 16)
    x, labels = records()
    x[:, 5] += 50 * labels
    wide = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    largest = np.linalg.eigvalsh(wide.T @ wide)[-1]
    assert accumulated(x, labels).least_penalty() == pytest.approx(1e-6 * largest, rel=1e-3)
