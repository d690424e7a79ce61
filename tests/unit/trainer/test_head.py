"""The linear head: a real optimum, honest folds, a temperature that is found again."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer import head
from trainer.head import NO_FOLD, Head, deal_folds, fit_head, fit_temperature, row_basis, softmax


def blobs(
    per_class: int, classes: int = 4, features: int = 60, spread: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Records around one centre per class, the same on every call."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((classes, features))
    labels = np.repeat(np.arange(classes), per_class)
    x = centres[labels] + spread * rng.standard_normal((len(labels), features))
    return x.astype(np.float32), labels


def test_classes_that_can_be_told_apart_are() -> None:
    x, labels = blobs(30)
    fit = fit_head(x[::2].copy(), labels[::2], 4, seed=0)
    answers = fit.head.probabilities(x[1::2])
    assert (answers.argmax(axis=1) == labels[1::2]).mean() > 0.95
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert fit.folds == 4
    assert fit.held_out_accuracy is not None
    assert fit.held_out_accuracy > 0.9
    assert fit.training_accuracy > 0.95


def test_the_solution_is_a_stationary_point_of_the_stated_loss() -> None:
    x, labels = blobs(20, spread=3.0)
    l2 = 1e-2
    solution = head._fit_softmax(x, labels, 4, l2)
    weight, bias = solution[:-1], solution[-1]
    residual = softmax(x.astype(np.float64) @ weight + bias) - np.eye(4)[labels]
    gradient = x.T @ residual / len(x) + l2 * weight
    start = x.T @ (np.full((len(x), 4), 0.25) - np.eye(4)[labels]) / len(x)
    assert np.linalg.norm(gradient) < 0.01 * np.linalg.norm(start)
    assert abs(residual.mean(axis=0)).max() < 1e-2


def test_the_same_seed_gives_the_same_head() -> None:
    x, labels = blobs(12)
    first, second = (fit_head(x.copy(), labels, 4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.head.weight, second.head.weight)
    assert first.path == second.path
    assert first.head.temperature == second.head.temperature


def test_more_records_than_the_rank_kept_are_sketched_and_still_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head, "MAX_RANK", 20)
    monkeypatch.setattr(head, "SKETCH_OVERSAMPLING", 10)
    x, labels = blobs(50)
    assert row_basis(x, np.random.default_rng(0)).shape == (60, 30)
    fit = fit_head(x.copy(), labels, 4, seed=0)
    assert (fit.head.probabilities(x).argmax(axis=1) == labels).mean() > 0.95


@pytest.mark.parametrize("records", [10, 200])
def test_the_basis_is_orthonormal_and_spans_the_records(records: int) -> None:
    x = np.random.default_rng(1).standard_normal((records, 60)).astype(np.float32)
    basis = row_basis(x, np.random.default_rng(0))
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)
    np.testing.assert_allclose(x @ basis @ basis.T, x, atol=1e-4)


def test_every_class_is_spread_over_the_folds_and_a_single_picture_never_held_out() -> None:
    labels = np.repeat([0, 1, 2, 3], [9, 4, 2, 1])
    folds = deal_folds(labels, np.random.default_rng(0))
    assert sorted(np.bincount(folds[labels == 0], minlength=4)) == [2, 2, 2, 3]
    assert sorted(folds[labels == 1]) == [0, 1, 2, 3]
    assert len(set(folds[labels == 2])) == 2
    assert folds[labels == 3].tolist() == [NO_FOLD]
    for fold in range(4):
        assert set(labels[folds != fold]) == {0, 1, 2, 3}


def test_classes_of_a_single_picture_each_are_fitted_without_cross_validation() -> None:
    x, labels = blobs(1, classes=5)
    fit = fit_head(x.copy(), labels, 5, seed=0)
    assert fit.path == ()
    assert fit.folds == 0
    assert fit.held_out_accuracy is None
    assert fit.head.temperature == 1.0
    assert fit.head.probabilities(x).argmax(axis=1).tolist() == labels.tolist()


@pytest.mark.parametrize("counts", [(1, 2), (1, 30), (2, 2), (3, 1, 7)])
def test_classes_of_few_pictures_are_fitted(counts: tuple[int, ...]) -> None:
    x, _ = blobs(sum(counts), classes=1)
    labels = np.repeat(np.arange(len(counts)), counts)
    x[:, 0] += 20 * labels
    fit = fit_head(x.copy(), labels, len(counts), seed=0)
    assert fit.head.probabilities(x).argmax(axis=1).tolist() == labels.tolist()
    assert np.isfinite(fit.head.temperature)


def test_features_that_never_vary_do_no_harm() -> None:
    x, labels = blobs(10)
    x[:, :30] = 7.0
    fit = fit_head(x.copy(), labels, 4, seed=0)
    assert np.isfinite(fit.head.weight).all()


def test_the_temperature_of_overconfident_logits_is_found() -> None:
    rng = np.random.default_rng(2)
    logits = 2 * rng.standard_normal((4000, 5), np.float32)
    labels = np.array([rng.choice(5, p=p / p.sum()) for p in softmax(logits).astype(float)])
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)
    assert fit_temperature(0.5 * logits, labels) == pytest.approx(0.5, rel=0.1)


def test_a_temperature_changes_the_probability_but_not_the_answer() -> None:
    x, _ = blobs(5)
    weight = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    bias = np.zeros(3, np.float32)
    sharp, soft = (Head(weight, bias, t).probabilities(x) for t in (1.0, 4.0))
    assert sharp.argmax(axis=1).tolist() == soft.argmax(axis=1).tolist()
    assert (sharp.max(axis=1) > soft.max(axis=1)).all()


def test_a_best_penalty_at_the_edge_of_the_grid_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = blobs(20, spread=3.0)
    monkeypatch.setattr(head, "L2_GRID", (1e-5,))
    assert fit_head(x.copy(), labels, 4, seed=0).at_grid_edge
