"""The confident section of an evaluation: from which probability predictions may be relied on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from droplens.domain.figures import exact_percent
from droplens.evaluation.figures import six_decimals
from droplens.statistics.fixed_sequence import (
    ERROR_LEVEL,
    LEAST,
    THRESHOLDS,
    Counts,
    fewest_to_tell,
    lowest,
)
from droplens.statistics.intervals import clopper_pearson_low, fewest_exact
from droplens.statistics.left_out import LeftOut, credit


@dataclass(frozen=True, slots=True)
class TopPrediction:
    """A prediction's most probable class: whether it is correct, and its probability.

    label: its index; familiar: False for an image that is unfamiliar, and never confident.
    """

    right: bool
    probability: float
    label: int = 0
    familiar: bool = True


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The probabilities from which predictions are confident, with the evidence for them.

    common: None where no prediction is confident; by_class: those that differ, by class index.
    total, right: predictions at or above them that are evidence, and the correct ones of those;
    left_out: how many predictions of training were considered.
    """

    common: float | None
    by_class: dict[int, float]
    total: int
    right: int
    left_out: int

    def include(self, prediction: TopPrediction) -> bool:
        """Whether the prediction is confident."""
        threshold = self.by_class.get(prediction.label, self.common)
        return threshold is not None and prediction.familiar and prediction.probability >= threshold


def thresholds(
    predictions: Sequence[TopPrediction], precision: float, left_out: LeftOut | None
) -> Thresholds:
    """The lowest thresholds that `fixed_sequence.lowest` shows to have the required precision.

    None is below one half, also of a class that is more reliable than its probabilities.

    left_out: its factors order the predictions, and its counts are evidence beside the validation
    predictions.
    """
    factors = left_out.factors if left_out else ()
    eligible = [each for each in predictions if each.familiar]
    own = Counts.of(
        [
            (credit(each.probability, factors[each.label] if factors else 1.0), each.right)
            for each in eligible
        ]
    )
    evidence, records = own, 0
    if left_out is not None and left_out.records:
        evidence, records = own + left_out.counts, left_out.records
    place = lowest(evidence, precision, ERROR_LEVEL, own if records else None)
    if place is None:
        return Thresholds(None, {}, 0, 0, records)
    common = THRESHOLDS[place]
    by_class = {
        label: max(LEAST, six_decimals(common / factor)) for label, factor in enumerate(factors)
    }
    differing = {label: value for label, value in by_class.items() if value != common}
    return Thresholds(common, differing, evidence.total[place], evidence.right[place], records)


def confident(
    predictions: Sequence[TopPrediction],
    precision: float,
    classes: Sequence[str],
    left_out: LeftOut | None = None,
) -> dict[str, Any]:
    """The content of the section.

    threshold, by_class: from which predictions are confident. share: of the validation images that
    are; precision_measured: of those; low: the one-sided lower bound of the precision, by all
    evidence, with a confidence of 1 - error_level. left_out: number of training's predictions among
    the evidence. reason: why there is no threshold, or None where there is one.
    """
    found = thresholds(predictions, precision, left_out)
    right = [each.right for each in predictions if found.include(each)]
    shown = found.common is not None
    return {
        "precision": precision,
        "error_level": ERROR_LEVEL,
        "threshold": found.common,
        "by_class": {classes[label]: value for label, value in found.by_class.items()} or None,
        "share": six_decimals(len(right) / len(predictions)),
        "precision_measured": six_decimals(sum(right) / len(right)) if right else None,
        "low": six_decimals(clopper_pearson_low(found.right, found.total, ERROR_LEVEL))
        if shown
        else None,
        "left_out": found.left_out,
        "reason": None if shown else _no_threshold(len(predictions), found.left_out, precision),
    }


def _no_threshold(pictures: int, left_out: int, precision: float) -> str:
    needed = fewest_to_tell(precision) if left_out else fewest_exact(precision, ERROR_LEVEL)
    if pictures < needed:
        return (
            f"too few validation pictures: {pictures}, and it takes {needed} to show that "
            f"{exact_percent(precision)} of the confident predictions are correct"
        )
    return (
        f"at no probability from {exact_percent(LEAST)} up are {exact_percent(precision)} of the "
        "predictions shown to be correct"
    )


def coverage(predictions: Sequence[TopPrediction]) -> list[list[float]]:
    """The precision-coverage curve: for each probability that a prediction has, the share of
    predictions at or above it and their precision, by descending probability."""
    steps = []
    right = 0
    ordered = sorted(predictions, key=lambda prediction: -prediction.probability)
    for count, prediction in enumerate(ordered, start=1):
        right += prediction.right
        if count == len(ordered) or ordered[count].probability < prediction.probability:
            steps.append(
                [
                    round(prediction.probability, 6),
                    six_decimals(count / len(predictions)),
                    six_decimals(right / count),
                ]
            )
    return steps
