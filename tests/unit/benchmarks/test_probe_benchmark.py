"""What bench-probe makes of answers."""

import numpy as np
import pytest

from benchmarks.training.logistic import fit
from benchmarks.training.probe import judge
from benchmarks.training.table import growth
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


def test_growth_is_a_row_for_each_fit() -> None:
    one = {
        "records": 6509,
        "cpu_seconds": 43.2,
        "peak_memory_mb": 1173,
        "cached_features_mb": 291,
        "l2": 0.56234,
        "leave_one_out_accuracy": 0.8393,
        "leave_one_out_records": 6509,
    }
    many = {**one, "records": 200_000, "cpu_seconds": 371.8, "leave_one_out_records": 4096}
    lines = growth({"exact": one, "fits": [many]}).splitlines()
    assert lines[2:4] == [
        "| 6,509 | the records | 43 | 1,173 MB |",
        "| 200,000 | the features | 372 | 1,173 MB |",
    ]
    assert "0.56 and 0.56" in lines[5]
    assert "83.9% of 6,509 and 83.9% of 4,096 records" in lines[5]
