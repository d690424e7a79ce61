"""The bench's own arithmetic, on answers of a model whose faults are known."""

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.trust.__main__ import Found, _repeat, debiased, split_by_class
from benchmarks.trust.maps import MAPS
from benchmarks.trust.pictures import Pictures
from droplens.statistics.calibration import expected_error, reliability
from trainer.recipes.ridge_head import softmax


def overconfident(pictures: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Answers whose logits are three times too large, and the truths."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (pictures, 6)).astype(np.float32)
    truths = np.array([rng.choice(6, p=row / row.sum()) for row in softmax(logits).astype(float)])
    return softmax(3 * logits).astype(np.float64), truths


@pytest.mark.parametrize("name", [name for name in MAPS if name != "none"])
def test_every_map_undoes_most_of_a_plain_overconfidence(name: str) -> None:
    fitted, judged = overconfident(600, 1), overconfident(600, 2)
    right = (judged[0].argmax(axis=1) == judged[1]).tolist()

    def error(chosen: str) -> float:
        best = MAPS[chosen](*fitted)(judged[0]).tolist()
        return expected_error(reliability(list(zip(best, right, strict=True))))

    assert error("none") > 0.2
    assert error(name) < 0.07


@pytest.mark.parametrize("seed", [0, 1])
def test_exam_validation_and_training_share_no_picture(seed: int) -> None:
    labels = np.repeat([0, 1, 2], [50, 20, 5])
    split = split_by_class(labels, seed)
    parts = [split.train, split.validation, split.exam]
    assert sorted(np.concatenate(parts).tolist()) == list(range(75))
    counts = [np.bincount(labels[part], minlength=3).tolist() for part in parts]
    assert counts == [[32, 13, 3], [8, 3, 1], [10, 4, 1]]


def test_a_repeat_learns_nothing_of_its_exam() -> None:
    # Labels that are chance: whoever has seen a picture knows its label, and nobody else can.
    rng = np.random.default_rng(3)
    features = rng.standard_normal((600, 900)).astype(np.float32)
    pictures = Pictures("noise", 8, ("a", "b", "c"), features, rng.integers(0, 3, 600))
    found = Found()
    _repeat(pictures, 0, found)
    # One in three of 120 is correct, with a standard deviation of 4.3 points.
    assert 0.33 - 0.13 < found.accuracy[0] < 0.33 + 0.13
    assert len(found.judged["ours"][0]) == 120


def test_the_debiased_error_forgives_chance_and_nothing_else() -> None:
    chance = random.Random(1)
    probabilities = [chance.uniform(0.3, 1) for _ in range(3000)]
    honest = [(p, chance.random() < p) for p in probabilities]
    shifted = [(p, chance.random() < p - 0.1) for p in probabilities]
    assert debiased(honest) < 0.02
    assert debiased(shifted) == pytest.approx(0.1, abs=0.02)
