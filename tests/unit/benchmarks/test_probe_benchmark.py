"""What bench-probe makes of answers."""

import numpy as np
import pytest

from benchmarks.training.logistic import fit
from benchmarks.training.probe import judge
from trainer.recipes.ridge_head import softmax


def test_answers_are_judged() -> None:
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((2000, 8), np.float32)
    answers = softmax(logits)
    labels = np.array([rng.choice(8, p=row / row.sum()) for row in answers.astype(float)])
    honest, bold = judge(answers, labels), judge(softmax(4 * logits), labels)

    assert honest["top1"] == (answers.argmax(axis=1) == labels).mean() == bold["top1"]
    assert honest["top1"] < honest["top5"] <= 1
    assert honest["ece"] < 0.05 < 0.15 < bold["ece"]
    assert bold["ece_calibrated"] < 0.04
    assert honest["nll"] == pytest.approx(
        -np.log(answers[np.arange(2000), labels]).mean(), rel=1e-4
    )
    assert honest["nll"] < bold["nll"]


def test_the_peer_finds_the_minimum_of_the_stated_loss() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 30)
    x = (rng.standard_normal((3, 5))[labels] + rng.standard_normal((90, 5))).astype(np.float32)
    weight, bias = fit(x, labels, 3)
    residual = softmax(x @ weight + bias) - np.eye(3)[labels]
    np.testing.assert_allclose(x.T @ residual + weight, 0, atol=0.05)
    np.testing.assert_allclose(residual.sum(axis=0), 0, atol=0.05)
