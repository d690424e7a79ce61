"""Conformal label sets: the classes that an image may be of, with a stated coverage.

A set contains the classes whose probability, less a penalty for their rank, reaches a threshold:
the least probable true class of a share of images that the model was not fitted to. The sets of new
images then contain the true class with at least that probability, over both draws (V. Vovk,
A. Gammerman, G. Shafer, "Algorithmic learning in a random world", 2005). Without the penalty these
are the smallest sets (M. Sadinle, J. Lei, L. Wasserman, "Least ambiguous set-valued classifiers
with bounded error levels", 2019); the penalty, of A. N. Angelopoulos, S. Bates, J. Malik,
M. I. Jordan, "Uncertainty sets for image classifiers using conformal prediction" (2021),
arXiv:2009.14193, keeps the sets of difficult images short where there are many similar classes.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

THRESHOLD = "threshold"

RANK_PENALTY = 0.001
# The first ranks have no penalty: as many as a result shows.
FREE_RANKS = 5
# Of products with shares in floating point.
_ROUNDING = 1e-9


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
        ranked = sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i))
        worth = _credits(
            [probabilities[index] for index in ranked], self.parameters.get("rank_penalty", 0.0)
        )
        return ranked[: _size(worth, self.parameters["probability"])]

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


@dataclass(frozen=True, slots=True)
class Scored:
    """What the sets of one image depend on.

    credits: of its classes, descending: probability less penalty; rank: of the true class, from 0.
    """

    credits: Sequence[float]
    rank: int

    @classmethod
    def of(cls, probabilities: Sequence[float], truth: int) -> Self:
        """Of calibrated probabilities in class order."""
        worth = _credits(sorted(probabilities, reverse=True), RANK_PENALTY)
        mine = probabilities[truth]
        rank = sum(
            other > mine or (other == mine and index < truth)
            for index, other in enumerate(probabilities)
        )
        return cls(worth, rank)


def threshold(scored: Sequence[Scored], precision: float) -> float | None:
    """The credit that a class needs to be in a set; None where there are too few images.

    The exact quantile: of n images, the ceil((n + 1) * precision) best true classes have it.
    """
    needed = math.ceil((len(scored) + 1) * precision - _ROUNDING)
    if needed > len(scored):
        return None
    return sorted((each.credits[each.rank] for each in scored), reverse=True)[needed - 1]


def label_sets(least: float, precision: float) -> LabelSets:
    """The rule with the threshold `least`, as `threshold` returned it."""
    return LabelSets(precision, THRESHOLD, {"probability": least, "rank_penalty": RANK_PENALTY})


def size(scored: Scored, least: float) -> int:
    """The number of classes in the image's set; it contains those of a lower rank than that."""
    return _size(scored.credits, least)


def fewest_pictures(precision: float) -> int:
    """The fewest images for which `threshold` finds one."""
    return math.ceil(precision / (1 - precision) - _ROUNDING)


def _credits(descending: Sequence[float], penalty: float) -> list[float]:
    return [
        probability - penalty * max(0, rank - FREE_RANKS)
        for rank, probability in enumerate(descending, start=1)
    ]


def _size(descending: Sequence[float], least: float) -> int:
    return max(1, bisect_right(descending, -least, key=lambda credit: -credit))
