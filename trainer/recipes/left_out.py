"""The leave-one-out predictions of training as promotion takes them for evidence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from droplens.statistics.left_out import LeftOut

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


def left_out_confidence(probabilities: Matrix, labels: Labels) -> dict[str, Any]:
    """The object `left_out_confidence` of training.json.

    probabilities: float32 [records, classes], each record's by a head fitted to all others, as the
    graph calibrates them; labels: int64 [records].
    """
    predicted = probabilities.argmax(axis=1)
    return LeftOut.of(
        probabilities.max(axis=1).astype(np.float64).tolist(),
        predicted.tolist(),
        (predicted == labels).tolist(),
        probabilities.shape[1],
    ).to_dict()
