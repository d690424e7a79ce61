"""The evaluation of a model from its predictions: the content of evaluation.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

from droplens.domain.figures import exact_percent
from droplens.domain.result import top
from droplens.statistics.calibration import (
    IDENTITY,
    Bin,
    Calibration,
    expected_error,
    fit,
    halves,
    log_loss,
    noise_floor,
    noise_limit,
    reliability,
)
from droplens.statistics.intervals import Z95_ONE_SIDED, fewest, wilson

SCHEMA = "droplens.evaluation.v1"

# On fewer images the calibration would fit their noise.
FEWEST_TO_FIT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The endpoint's prediction for one image.

    record: its id in its channel; name: of the file that was packed; sha256: of the packed JPEG;
    truth: its class; seconds: duration of the call; probabilities, novelty: as the endpoint
    returned them; novelty is None where it returned none.
    """

    record: int
    name: str
    sha256: str
    truth: int
    seconds: float
    probabilities: Sequence[float]
    novelty: float | None = None


@dataclass(frozen=True, slots=True)
class TopPrediction:
    """A prediction's most probable class: whether it is correct, and its probability."""

    right: bool
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A calibration with its errors on images that it was not fitted on."""

    calibration: Calibration
    fitted_on: int
    judged_on: int
    before: list[Bin]
    after: list[Bin]
    log_loss_before: float
    log_loss_after: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of evaluation.json."""
        return {
            **self.calibration.to_dict(),
            "fitted_on": self.fitted_on,
            "judged_on": self.judged_on,
            "ece_before": _rounded(expected_error(self.before)),
            "ece_after": _rounded(expected_error(self.after)),
            "ece_noise_floor": _rounded(noise_floor(self.after)),
            "ece_noise_limit": _rounded(noise_limit(self.after)),
            "nll_before": _rounded(self.log_loss_before),
            "nll_after": _rounded(self.log_loss_after),
            "bins_before": [_bin(entry) for entry in self.before],
            "bins_after": [_bin(entry) for entry in self.after],
        }


def calibrated(predictions: Sequence[Prediction], to_fit: Sequence[bool]) -> Calibrated:
    """Fit on the predictions marked in `to_fit`, and measure the errors on the others."""
    fitted = [prediction for prediction, fits in zip(predictions, to_fit, strict=True) if fits]
    others = [
        prediction for prediction, fits in zip(predictions, to_fit, strict=True) if not fits
    ] or fitted
    calibration = IDENTITY
    if len(fitted) >= FEWEST_TO_FIT:
        calibration = fit(
            [prediction.probabilities for prediction in fitted],
            [prediction.truth for prediction in fitted],
        )
    truths = [prediction.truth for prediction in others]
    raw = [prediction.probabilities for prediction in others]
    return Calibrated(
        calibration=calibration,
        fitted_on=len(fitted) if calibration != IDENTITY else 0,
        judged_on=len(others),
        before=_bins(others, IDENTITY),
        after=_bins(others, calibration),
        log_loss_before=log_loss(raw, truths),
        log_loss_after=log_loss([calibration.apply(row) for row in raw], truths),
    )


def evaluate(
    predictions: Sequence[Prediction], classes: Sequence[str], available: int, precision: float
) -> dict[str, Any]:
    """The content of evaluation.json. available: number of validation records; precision: required
    share of correct predictions among the confident ones."""
    to_fit = halves([a.truth for a in predictions], [a.sha256 for a in predictions])
    result = calibrated(predictions, to_fit)
    tops = [top(prediction.probabilities, result.calibration) for prediction in predictions]
    judged = [
        TopPrediction(shown[0][0] == prediction.truth, shown[0][1])
        for prediction, shown in zip(predictions, tops, strict=True)
    ]
    cells = Counter(
        (prediction.truth, shown[0][0]) for prediction, shown in zip(predictions, tops, strict=True)
    )
    per_class = _per_class(classes, cells)
    scores = [entry["f1"] for entry in per_class if entry["f1"] is not None]
    in_top = sum(
        prediction.truth in [index for index, _ in shown]
        for prediction, shown in zip(predictions, tops, strict=True)
    )
    return {
        "schema": SCHEMA,
        "pictures": len(predictions),
        "available": available,
        "accuracy": _share(sum(prediction.right for prediction in judged), len(predictions)),
        "top5": _share(in_top, len(predictions)),
        "macro_f1": _rounded(sum(scores) / len(scores)),
        "latency_ms": latencies([prediction.seconds for prediction in predictions]),
        "classes": per_class,
        "confusion": [
            [truth, predicted, count] for (truth, predicted), count in sorted(cells.items())
        ],
        "calibration": result.to_dict(),
        "confident": confident(judged, precision),
        "coverage": coverage(judged),
        "answers": [
            {
                "record": prediction.record,
                "name": prediction.name,
                "sha256": prediction.sha256,
                "truth": prediction.truth,
                "half": "fit" if fits else "judge",
                "top": [[index, probability] for index, probability in shown],
                "raw": round(prediction.probabilities[shown[0][0]], 6),
                "ms": round(prediction.seconds * 1000, 2),
            }
            for prediction, fits, shown in zip(predictions, to_fit, tops, strict=True)
        ],
    }


def accuracy_on_test(
    predictions: Sequence[Prediction], calibration: Calibration, available: int
) -> dict[str, Any] | None:
    """The test section of evaluation.json, or None where the dataset has no test images.

    predictions: for test records; calibration: fitted on validation records alone; available:
    number of test records. Nothing else of an evaluation depends on it.
    """
    if not predictions:
        return None
    right = sum(top(each.probabilities, calibration)[0][0] == each.truth for each in predictions)
    return {
        "pictures": len(predictions),
        "available": available,
        "right": right,
        "accuracy": _share(right, len(predictions)),
    }


def confident(predictions: Sequence[TopPrediction], precision: float) -> dict[str, Any]:
    """The threshold from which predictions have the required precision, with its coverage.

    share: of the images at or above the threshold; precision_measured and low: precision of those,
    and its one-sided 95 % lower bound. reason: why there is no threshold, or None where there is
    one.
    """
    threshold = confident_from(predictions, precision)
    above = [a.right for a in predictions if threshold is not None and a.probability >= threshold]
    return {
        "precision": precision,
        "threshold": threshold,
        "share": _rounded(len(above) / len(predictions)),
        "precision_measured": _rounded(sum(above) / len(above)) if above else None,
        "low": _rounded(wilson(sum(above), len(above), Z95_ONE_SIDED)[0]) if above else None,
        "reason": _no_threshold(len(predictions), precision) if threshold is None else None,
    }


def _no_threshold(pictures: int, precision: float) -> str:
    needed = fewest(precision, Z95_ONE_SIDED)
    if needed is None or pictures < needed:
        return (
            f"too few validation pictures: {pictures}, and it takes {needed or 'more than any'} "
            f"to show that {exact_percent(precision)} of the confident predictions are correct"
        )
    return (
        f"at no probability are {exact_percent(precision)} of the predictions shown to be correct"
    )


def confident_from(predictions: Sequence[TopPrediction], precision: float) -> float | None:
    """The lowest probability at or above which predictions have the required precision.

    The one-sided 95 % lower bound of their precision must reach `precision`. None where it does so
    at no probability: for a precision of 95 % on fewer than 52 images, even if all are correct.
    """
    threshold = None
    for probability, total, right in _by_descending_probability(predictions):
        if wilson(right, total, Z95_ONE_SIDED)[0] >= precision:
            threshold = probability
    return threshold


def cross_validation(training: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The trainer's leave-one-out cross-validation accuracy on its training records, or None.

    training: the artefact's training.json, in which recipe probe writes these figures.
    """
    found = (training or {}).get("cross_validation")
    try:
        pictures, accuracy = int(found["left_out"]), float(found["accuracy"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None
    if pictures < 1 or not 0 <= accuracy <= 1:
        return None
    right = round(accuracy * pictures)
    return {
        "method": "leave-one-out",
        "pictures": pictures,
        "right": right,
        "accuracy": _share(right, pictures),
    }


def coverage(predictions: Sequence[TopPrediction]) -> list[list[float]]:
    """The precision-coverage curve: for each probability that a prediction has, the share of
    predictions at or above it and their precision, by descending probability."""
    return [
        [round(probability, 6), _rounded(total / len(predictions)), _rounded(right / total)]
        for probability, total, right in _by_descending_probability(predictions)
    ]


def _by_descending_probability(
    predictions: Sequence[TopPrediction],
) -> list[tuple[float, int, int]]:
    """(probability, predictions at or above it, correct ones of those), by descending
    probability."""
    steps = []
    right = 0
    ordered = sorted(predictions, key=lambda prediction: -prediction.probability)
    for count, prediction in enumerate(ordered, start=1):
        right += prediction.right
        if count == len(ordered) or ordered[count].probability < prediction.probability:
            steps.append((prediction.probability, count, right))
    return steps


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles of the durations of calls, in milliseconds."""
    times = [1000 * value for value in seconds]
    cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return {f"p{percent}": round(cuts[percent - 1], 2) for percent in (50, 95, 99)}


def _bins(predictions: Sequence[Prediction], calibration: Calibration) -> list[Bin]:
    best = [
        (prediction, top(prediction.probabilities, calibration)[0]) for prediction in predictions
    ]
    return reliability([(probability, index == a.truth) for a, (index, probability) in best])


def _per_class(classes: Sequence[str], cells: Counter[tuple[int, int]]) -> list[dict[str, Any]]:
    total: Counter[int] = Counter()
    predicted_total: Counter[int] = Counter()
    for (truth, predicted), count in cells.items():
        total[truth] += count
        predicted_total[predicted] += count
    rows = []
    for index, name in enumerate(classes):
        right = cells[index, index]
        either = total[index] + predicted_total[index]
        rows.append(
            {
                "name": name,
                "pictures": total[index],
                "answered": predicted_total[index],
                "right": right,
                "precision": _rounded(right / predicted_total[index])
                if predicted_total[index]
                else None,
                "recall": _rounded(right / total[index]) if total[index] else None,
                "f1": _rounded(2 * right / either) if total[index] else None,
            }
        )
    return rows


def _share(right: int, total: int) -> dict[str, float]:
    low, high = wilson(right, total)
    return {"value": right / total, "low": _rounded(low), "high": _rounded(high)}


def _bin(entry: Bin) -> dict[str, Any]:
    return {
        name: _rounded(value) if isinstance(value, float) else value
        for name, value in asdict(entry).items()
    }


def _rounded(value: float) -> float:
    return round(value, 6)
