"""Training records whose label may be wrong, by the leave-one-out probability of that label.

The head was fitted to all other records, so that a wrong label does not confirm itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The most that are written.
MAX_SUSPECTS = 10_000

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A line of suspects.jsonl.

    record: index in the record file; label: its class; probability: of that class, leave-one-out;
    likely, likely_probability: the most probable class, which is another.
    """

    record: int
    label: int
    likely: int
    probability: float
    likely_probability: float


def find_suspects(records: Labels, labels: Labels, probabilities: Matrix) -> list[Suspect]:
    """The suspicious ones of `records`, the least probable label first; MAX_SUSPECTS at most.

    records, labels: int64 [N]; probabilities: float32 [N, classes], leave-one-out.
    """
    likely = probabilities.argmax(axis=1)
    rows = np.arange(len(labels))
    given, highest = probabilities[rows, labels], probabilities[rows, likely]
    order = np.argsort(given, kind="stable")
    return [
        Suspect(
            record=int(records[row]),
            label=int(labels[row]),
            likely=int(likely[row]),
            probability=float(given[row]),
            likely_probability=float(highest[row]),
        )
        for row in order[(likely != labels)[order]][:MAX_SUSPECTS]
    ]
