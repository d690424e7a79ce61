"""Leave-one-out predictions of the training records, as evidence on the confidence of predictions.

A class that is often mistaken with a high probability needs a higher threshold than the others. Its
factor is the share of its predictions that are correct, in relation to their probabilities; a
prediction's credit is its probability times the factor of its class, or none where it is less
probable than one half, and thresholds are of the credit. In the counts a record's own prediction
has no influence on its factor.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from droplens.statistics.fixed_sequence import LEAST, THRESHOLDS, Counts

# Predictions, as probable as they are correct, that are added to those of each class: without them
# the factors of classes with few records would be their noise.
_PRIOR = 10


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The evidence that training.json contains.

    records: left out; factors: of the classes; counts: of the records by credit, at THRESHOLDS.
    """

    records: int
    factors: tuple[float, ...]
    counts: Counts

    @classmethod
    def of(
        cls,
        probabilities: Sequence[float],
        predicted: Sequence[int],
        right: Sequence[bool],
        classes: int,
    ) -> Self:
        """Of the left-out records: the calibrated probability of the predicted class, this class,
        and whether it is correct."""
        expected, correct = [0.0] * classes, [0] * classes
        for probability, label, is_right in zip(probabilities, predicted, right, strict=True):
            expected[label] += probability
            correct[label] += is_right
        worth = [
            (
                credit(
                    probability,
                    _factor(correct[label] - is_right, expected[label] - probability),
                ),
                bool(is_right),
            )
            for probability, label, is_right in zip(probabilities, predicted, right, strict=True)
        ]
        factors = tuple(round(_factor(*sums), 4) for sums in zip(correct, expected, strict=True))
        return cls(len(worth), factors, Counts.of(worth))

    def without_counts(self) -> Self:
        """The factors alone, without evidence."""
        nothing = (0,) * len(THRESHOLDS)
        return replace(self, records=0, counts=Counts(nothing, nothing))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of training.json."""
        return {
            "left_out": self.records,
            "factors": list(self.factors),
            "thresholds": list(THRESHOLDS),
            "total": list(self.counts.total),
            "right": list(self.counts.right),
        }

    @classmethod
    def from_training(cls, training: Mapping[str, Any] | None, classes: int) -> Self | None:
        """Read `left_out_confidence` of training.json; None where it is missing or malformed.

        Another version's thresholds are not ours, so its counts are of no use.
        """
        try:
            found = (training or {})["left_out_confidence"]
            if tuple(found["thresholds"]) != THRESHOLDS:
                return None
            counts = Counts(*(tuple(map(int, found[name])) for name in ("total", "right")))
            read = cls(int(found["left_out"]), tuple(map(float, found["factors"])), counts)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return read if read._is_consistent(classes) else None

    def _is_consistent(self, classes: int) -> bool:
        total, right = self.counts.total, self.counts.right
        return (
            self.records > 0
            and len(self.factors) == classes
            and all(math.isfinite(factor) and factor > 0 for factor in self.factors)
            and len(total) == len(right) == len(THRESHOLDS)
            and all(0 <= a <= b <= self.records for a, b in zip(right, total, strict=True))
            and list(total) == sorted(total)
            and list(right) == sorted(right)
        )


def credit(probability: float, factor: float) -> float:
    """What a prediction is ordered by, of a class of this factor."""
    return probability * factor if probability >= LEAST else 0.0


def _factor(correct: float, expected: float) -> float:
    return (correct + _PRIOR) / (expected + _PRIOR)
