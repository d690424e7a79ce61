"""The candidates section of an evaluation: conformal label sets, with their sizes and coverage."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from droplens.domain.figures import exact_percent
from droplens.evaluation.figures import share, six_decimals
from droplens.statistics.conformal import (
    LabelSets,
    Scored,
    fewest_pictures,
    label_sets,
    size,
    threshold,
)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The label sets of a model, or the reason why there are none.

    sizes, covered: of each image, the size of its set, and whether it contains the true class, by
    the images of the other folds.
    """

    sets: LabelSets | None
    precision: float
    sizes: tuple[int, ...] = ()
    covered: tuple[bool, ...] = ()
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of evaluation.json."""
        rule = self.sets.to_dict() if self.sets else {"method": None, "parameters": {}}
        total = len(self.sizes)
        return {
            **rule,
            "precision": self.precision,
            "coverage": share(sum(self.covered), total) if total else None,
            "mean_size": six_decimals(sum(self.sizes) / total) if total else None,
            "sizes": sorted(Counter(self.sizes).items()),
            "reason": self.reason,
        }


def candidates(
    rows: Sequence[Sequence[float]],
    truths: Sequence[int],
    fold_of: Sequence[int],
    precision: float,
) -> Candidates:
    """Fit the label sets on all images, and measure them by cross-fitting.

    rows: calibrated probabilities, of each image by a map that it was not fitted on.
    """
    scored = [Scored.of(row, truth) for row, truth in zip(rows, truths, strict=True)]
    least = threshold(scored, precision)
    of_fold = [
        threshold(
            [each for each, other in zip(scored, fold_of, strict=True) if other != fold], precision
        )
        for fold in range(max(fold_of) + 1)
    ]
    if least is None or any(other is None for other in of_fold):
        return Candidates(None, precision, reason=_too_few(len(rows), precision))
    sizes = tuple(
        size(each, of_fold[fold] or 0.0) for each, fold in zip(scored, fold_of, strict=True)
    )
    covered = tuple(each.rank < count for each, count in zip(scored, sizes, strict=True))
    return Candidates(label_sets(least, precision), precision, sizes, covered)


def _too_few(pictures: int, precision: float) -> str:
    return (
        f"too few validation pictures: {pictures}, and it takes more than "
        f"{fewest_pictures(precision)} to choose label sets that contain the right class in "
        f"{exact_percent(precision)} of pictures"
    )
