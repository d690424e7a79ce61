"""The linear head: a real optimum, honest left-out answers, a temperature that is found again."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.recipes import ridge_head as head
from trainer.recipes.ridge_head import (
    Head,
    can_be_left_out,
    decompose,
    fit_head,
    softmax,
)
from trainer.recipes.temperature import Temperature, fit_by_highest_score


def blobs(
    per_class: int, classes: int = 4, features: int = 60, spread: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Records around one centre per class, the same on every call."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((classes, features))
    labels = np.repeat(np.arange(classes), per_class)
    x = centres[labels] + spread * rng.standard_normal((len(labels), features))
    return x.astype(np.float32), labels


def centred(
    x: NDArray[np.float32], labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Records and one-hot targets, without their means."""
    targets = np.eye(classes, dtype=np.float32)[labels]
    return x - x.mean(axis=0), targets - targets.mean(axis=0)


def test_classes_that_can_be_told_apart_are() -> None:
    x, labels = blobs(30)
    fit = fit_head(x[::2].copy(), labels[::2], 4, seed=0)
    answers = fit.head.probabilities(x[1::2])
    assert (answers.argmax(axis=1) == labels[1::2]).mean() > 0.95
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert fit.leave_one_out_records == 60
    assert fit.leave_one_out_accuracy is not None
    assert fit.leave_one_out_accuracy > 0.9
    assert fit.training_accuracy > 0.95


@pytest.mark.parametrize("per_class", [8, 50])  # fewer records than features, and more
def test_the_solution_is_that_of_the_normal_equations(per_class: int) -> None:
    x, labels = blobs(per_class, spread=3.0)
    records, targets = centred(x, labels, 4)
    weight = records.T @ decompose(records, np.random.default_rng(0)).solve(targets, 10.0)
    wide = records.astype(np.float64)
    expected = np.linalg.solve(wide.T @ wide + 10 * np.eye(60), wide.T @ targets)
    np.testing.assert_allclose(weight, expected, atol=1e-4)


@pytest.mark.parametrize("per_class", [8, 50])
@pytest.mark.parametrize("l2", [1.0, 100.0])
def test_left_out_answers_are_those_of_heads_that_never_saw_the_record(
    per_class: int, l2: float
) -> None:
    x, labels = blobs(per_class, spread=3.0)
    records, targets = centred(x, labels, 4)
    told = decompose(records, np.random.default_rng(0)).leave_one_out(targets, l2)
    for number in range(0, len(x), 7):
        others = np.delete(records, number, axis=0).astype(np.float64)
        truths = np.delete(targets, number, axis=0).astype(np.float64)
        middle = others.mean(axis=0)
        others -= middle
        weight = np.linalg.solve(
            others.T @ others + l2 * np.eye(60), others.T @ (truths - truths.mean(axis=0))
        )
        expected = (records[number] - middle) @ weight + truths.mean(axis=0)
        np.testing.assert_allclose(told[number], expected, atol=2e-3)


def test_the_same_records_give_the_same_head() -> None:
    x, labels = blobs(12)
    first, second = (fit_head(x.copy(), labels, 4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.head.weight, second.head.weight)
    assert first.path == second.path
    assert first.head.temperature == second.head.temperature


def test_records_in_several_products_are_solved_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = blobs(20)
    whole = fit_head(x.copy(), labels, 4, seed=0)
    monkeypatch.setattr(head, "RECORDS_PER_PRODUCT", 7)
    parts = fit_head(x.copy(), labels, 4, seed=0)
    np.testing.assert_allclose(parts.head.weight, whole.head.weight, atol=1e-5)


def test_more_records_than_are_solved_exactly_are_sketched_and_still_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, labels = blobs(50)
    exact = fit_head(x.copy(), labels, 4, seed=0)
    monkeypatch.setattr(head, "MAX_RECORDS", 100)
    whole = fit_head(x.copy(), labels, 4, seed=0)
    np.testing.assert_allclose(whole.head.weight, exact.head.weight, atol=1e-4)
    monkeypatch.setattr(head, "MAX_RANK", 20)
    part = fit_head(x.copy(), labels, 4, seed=0)
    assert (part.head.probabilities(x).argmax(axis=1) == labels).mean() > 0.95


def test_a_rare_class_is_found_beside_frequent_ones() -> None:
    x, labels = blobs(60, spread=1.5)
    seen = np.concatenate([np.flatnonzero(labels == 0)[:4], np.flatnonzero(labels > 0)[::2]])
    answers = fit_head(x[seen], labels[seen], 4, seed=0).head.probabilities(x).argmax(axis=1)
    assert (answers[labels == 0] == 0).mean() > 0.8
    assert (answers[labels > 0] == labels[labels > 0]).mean() > 0.9


def test_a_single_picture_of_a_class_is_never_left_out() -> None:
    labels = np.repeat([0, 1, 2, 3], [9, 4, 2, 1])
    assert can_be_left_out(labels).tolist() == [True] * 15 + [False]
    assert not can_be_left_out(np.repeat([0, 1], [9, 1])).any()


def test_classes_of_a_single_picture_each_are_fitted_without_cross_validation() -> None:
    x, labels = blobs(1, classes=5)
    fit = fit_head(x.copy(), labels, 5, seed=0)
    assert fit.path == ()
    assert fit.leave_one_out_records == 0
    assert fit.leave_one_out_accuracy is None
    assert fit.head.probabilities(x).argmax(axis=1).tolist() == labels.tolist()
    assert fit.head.probabilities(x).max(axis=1).min() > 0.5


@pytest.mark.parametrize("counts", [(1, 2), (1, 30), (2, 2), (3, 1, 7)])
def test_classes_of_few_pictures_are_fitted(counts: tuple[int, ...]) -> None:
    x, _ = blobs(sum(counts), classes=1)
    labels = np.repeat(np.arange(len(counts)), counts)
    x[np.arange(len(labels)), labels] += 20
    fit = fit_head(x.copy(), labels, len(counts), seed=0)
    assert fit.head.probabilities(x).argmax(axis=1).tolist() == labels.tolist()
    assert np.isfinite([fit.head.temperature.at_low, fit.head.temperature.at_high]).all()


def test_a_single_picture_of_one_class_does_not_end_the_leaving_out_of_others() -> None:
    x, _ = blobs(31, classes=1)
    labels = np.repeat([0, 1, 2], [1, 15, 15])
    x[np.arange(31), labels] += 20
    fit = fit_head(x.copy(), labels, 3, seed=0)
    assert fit.leave_one_out_records == 30
    assert len(fit.path) == len(head.L2_GRID)
    assert fit.leave_one_out_accuracy == 1.0


def test_features_that_never_vary_do_no_harm() -> None:
    x, labels = blobs(10)
    x[:, :30] = 7.0
    fit = fit_head(x.copy(), labels, 4, seed=0)
    assert np.isfinite(fit.head.weight).all()


def test_records_that_are_all_the_same_are_answered_evenly() -> None:
    x, labels = np.ones((8, 5), np.float32), np.repeat([0, 1], 4)
    answers = fit_head(x.copy(), labels, 2, seed=0).head.probabilities(x)
    np.testing.assert_allclose(answers, 0.5)


def test_a_temperature_changes_the_probability_but_not_the_answer() -> None:
    x, _ = blobs(5)
    weight = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    bias = np.zeros(3, np.float32)
    sharp, soft = (Head(weight, bias, Temperature.constant(t)).probabilities(x) for t in (1.0, 4.0))
    assert sharp.argmax(axis=1).tolist() == soft.argmax(axis=1).tolist()
    assert (sharp.max(axis=1) > soft.max(axis=1)).all()


def test_a_head_is_the_softmax_of_its_logits_over_the_temperature() -> None:
    weight = np.array([[1, 0], [0, 1]], np.float32)
    head = Head(weight, np.array([0.5, -0.5], np.float32), Temperature.constant(2))
    # Logits 1.5 and 1.5; 4.5 and 0.5, whose difference of 4 the temperature halves.
    answers = head.probabilities(np.array([[1, 2], [4, 1]], np.float32))
    np.testing.assert_allclose(answers, [[0.5, 0.5], [0.880797, 0.119203]], atol=1e-6)


def test_softmax_of_known_odds_and_of_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.log(np.array([1, 3], np.float32))), [0.25, 0.75])
    large = np.array([[1000, 0, 1000], [-1000, 0, -1000]], np.float32)
    np.testing.assert_allclose(softmax(large), np.array([[0.5, 0, 0.5], [0, 1, 0]]))


def test_the_penalties_tried_go_from_ten_to_a_thousandth_in_equal_steps() -> None:
    x, labels = blobs(12)
    fit = fit_head(x.copy(), labels, 4, seed=0)
    np.testing.assert_allclose([step[0] for step in fit.path], np.logspace(1, -3, 17))
    assert {len(step) for step in fit.path} == {3}


def test_the_chosen_penalty_has_the_smallest_loss_and_its_accuracy_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    x, labels = blobs(12, spread=4.0)
    fit = fit_head(x.copy(), labels, 4, seed=0)
    l2, loss, accuracy = min(fit.path, key=lambda step: step[1])
    assert len({step[2] for step in fit.path}) > 1
    assert (fit.l2, fit.leave_one_out_accuracy) == (l2, accuracy)
    answers = fit.head.probabilities(x).argmax(axis=1)
    assert fit.training_accuracy == pytest.approx((answers == labels).mean())
    assert f"leave-one-out loss={loss:.4f} accuracy={accuracy:.4f}" in caplog.text


def smallest_loss(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Over a fine grid of temperatures."""
    losses = []
    for temperature in np.geomspace(1e-3, 20, 4000):
        logits = scores / temperature
        logits -= logits.max(axis=1, keepdims=True)
        truth = logits[np.arange(len(labels)), labels]
        losses.append(float((np.log(np.exp(logits).sum(axis=1)) - truth).mean()))
    return min(losses)


def test_penalty_and_temperature_are_judged_by_heads_fitted_without_each_record() -> None:
    x, labels = blobs(6, classes=3, features=8, spread=2.0)
    fit = fit_head(x.copy(), labels, 3, seed=0)
    wide = x.astype(np.float64)
    size = ((wide - wide.mean(axis=0)) ** 2).sum(axis=1).mean()
    targets = np.eye(3)[labels] - np.eye(3)[labels].mean(axis=0)
    for l2, loss, accuracy in (fit.path[0], fit.path[8], fit.path[-1]):
        scores = np.empty((18, 3))
        for number in range(18):
            others = np.delete(wide, number, axis=0)
            truths = np.delete(targets, number, axis=0)
            middle = others.mean(axis=0)
            weight = np.linalg.solve(
                (others - middle).T @ (others - middle) + l2 * size * np.eye(8),
                (others - middle).T @ (truths - truths.mean(axis=0)),
            )
            scores[number] = (wide[number] - middle) @ weight + truths.mean(axis=0)
        expected = smallest_loss(scores, labels)
        assert loss == pytest.approx(expected, rel=1e-3)
        assert accuracy == pytest.approx((scores.argmax(axis=1) == labels).mean())
        if l2 == fit.l2:
            np.testing.assert_allclose(fit.left_out.scores, scores, atol=1e-4)
            assert fit.head.temperature == fit_by_highest_score(fit.left_out.scores, labels)


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_the_head_is_the_ridge_regression_of_the_chosen_penalty(spread: float) -> None:
    x, labels = blobs(9, features=20, spread=spread)
    fit = fit_head(x.copy(), labels, 4, seed=0)
    wide = x.astype(np.float64)
    mean = wide.mean(axis=0)
    size = ((wide - mean) ** 2).sum(axis=1).mean()
    weight = np.linalg.solve(
        (wide - mean).T @ (wide - mean) + fit.l2 * size * np.eye(20),
        (wide - mean).T @ np.eye(4)[labels],
    )
    np.testing.assert_allclose(fit.head.weight, weight, atol=2e-4)
    # The bias is that of the mean record, without how frequent the classes are.
    np.testing.assert_allclose(fit.head.bias, -mean @ weight, atol=2e-4)


def test_where_nothing_can_be_left_out_penalty_and_temperature_are_a_tenth() -> None:
    x, labels = blobs(1, classes=5)
    fit = fit_head(x.copy(), labels, 5, seed=0)
    assert (fit.l2, fit.head.temperature) == (0.1, Temperature.constant(0.1))


@pytest.mark.parametrize(
    ("counts", "left_out"),
    [((9, 4, 1), 13), ((2, 2), 4), ((9, 1, 1), 0), ((1, 1), 0), ((3, 2, 2, 1), 7)],
)
def test_records_are_left_out_where_two_classes_keep_another(
    counts: tuple[int, ...], left_out: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    assert int(can_be_left_out(labels).sum()) == left_out


def test_the_exact_solution_ends_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "MAX_RECORDS", 40)
    monkeypatch.setattr(head, "MAX_RANK", 5)
    x, _ = blobs(41, classes=1, features=60)
    ranks = [
        len(decompose(x[:count], np.random.default_rng(0)).variances) for count in (39, 40, 41)
    ]
    assert ranks == [39, 40, 5]
    monkeypatch.setattr(head, "MAX_RANK", 31)
    assert len(decompose(x, np.random.default_rng(0)).variances) == 31


def test_a_sketch_holds_nearly_all_of_the_variance_of_as_many_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    # Variances that fall slowly, by the square of 0.93 from one direction to the next.
    x = rng.standard_normal((400, 120), np.float32) * np.float32(0.93) ** np.arange(120)
    exact = decompose(x, np.random.default_rng(0)).variances[-20:].sum()
    monkeypatch.setattr(head, "MAX_RECORDS", 100)
    monkeypatch.setattr(head, "MAX_RANK", 20)
    sketched = decompose(x, np.random.default_rng(0))
    assert len(sketched.variances) == 20
    assert 0.995 < sketched.variances.sum() / exact <= 1.000001
    products = sketched.directions.T @ sketched.directions
    np.testing.assert_allclose(products, np.eye(20), atol=1e-4)


def test_directions_of_less_than_a_millionth_of_the_variance_are_dropped() -> None:
    sides = np.sqrt(np.array([1, 1.1e-6, 0.9e-6])).astype(np.float32)
    spectrum = decompose(np.diag(sides), np.random.default_rng(0))
    np.testing.assert_allclose(spectrum.variances, [1.1e-6, 1], rtol=1e-3)
    np.testing.assert_allclose(np.abs(spectrum.directions), [[0, 1], [1, 0], [0, 0]], atol=1e-3)
