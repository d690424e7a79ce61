"""Conformal label sets: the classes that an image may be of, with a stated coverage.

V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world" (2005); by the least
probability that a class needs: M. Sadinle, J. Lei, L. Wasserman, "Least ambiguous set-valued
classifiers with bounded error levels" (2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

THRESHOLD = "threshold"


@dataclass(frozen=True, slots=True)
class LabelSets:
    """The rule that makes a label set of calibrated probabilities.

    precision: the share of images whose set contains the true class; method, parameters: as fitted.
    """

    precision: float
    method: str
    parameters: Mapping[str, float]

    def apply(self, probabilities: Sequence[float]) -> list[int]:
        """The set of class indices, best first: at least the most probable class.

        probabilities: calibrated, in class order.
        """
        least = self.parameters["probability"]
        ranked = sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i))
        return ranked[:1] + [index for index in ranked[1:] if probabilities[index] >= least]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of model cards."""
        return {
            "precision": self.precision,
            "method": self.method,
            "parameters": dict(self.parameters),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises KeyError, TypeError, ValueError."""
        if document["method"] != THRESHOLD:
            raise ValueError(f"label sets by {document['method']!r}")
        parameters = {name: float(value) for name, value in document["parameters"].items()}
        return cls(float(document["precision"]), THRESHOLD, parameters)
