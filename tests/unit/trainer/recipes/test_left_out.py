"""What training tells of its leave-one-out predictions is what promotion reads."""

import json

import numpy as np

from droplens.statistics.left_out import LeftOut
from trainer.recipes.left_out import left_out_confidence


def test_promotion_reads_what_training_tells() -> None:
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1]], np.float32)
    document = left_out_confidence(probabilities, np.array([0, 1, 1]))
    found = LeftOut.from_training(json.loads(json.dumps({"left_out_confidence": document})), 2)
    best = [float(value) for value in probabilities.max(axis=1)]
    assert found == LeftOut.of(best, [0, 1, 0], [True, True, False], 2)
