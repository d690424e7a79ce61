"""The evaluation of a model from its predictions: the content of evaluation.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from droplens.domain.result import top
from droplens.evaluation.calibrated import FOLDS, calibrated
from droplens.evaluation.candidates import candidates
from droplens.evaluation.confident import TopPrediction, confident, coverage
from droplens.evaluation.familiarity import familiarity
from droplens.evaluation.figures import share, six_decimals
from droplens.statistics.calibration import IDENTITY, Calibration, folds
from droplens.statistics.left_out import LeftOut

SCHEMA = "droplens.evaluation.v1"


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


def evaluate(
    predictions: Sequence[Prediction],
    classes: Sequence[str],
    available: int,
    precision: float,
    *,
    candidate_precision: float = 0.95,
    unfamiliar_share: float = 0.01,
    training: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a model by its predictions for validation records.

    available: number of validation records; precision: required share of correct predictions among
    the confident ones; candidate_precision: share of images whose candidates contain the true
    class; unfamiliar_share: share of the own images that may be called unfamiliar; training: the
    artefact's training.json, whose leave-one-out predictions are evidence too, or None.
    """
    truths = [prediction.truth for prediction in predictions]
    fold_of = folds(truths, [prediction.sha256 for prediction in predictions], FOLDS)
    result = calibrated([each.probabilities for each in predictions], truths, fold_of)
    familiar = familiarity([each.novelty for each in predictions], training, unfamiliar_share)
    sets = candidates(result.rows, truths, fold_of, candidate_precision)
    tops = [top(prediction.probabilities, result.calibration) for prediction in predictions]
    judged = [
        TopPrediction(
            right=shown[0][0] == each.truth,
            # By the map that was not fitted on the image.
            probability=min(1.0, six_decimals(max(row))),
            label=shown[0][0],
            familiar=familiar.is_familiar(each.novelty),
        )
        for each, shown, row in zip(predictions, tops, result.rows, strict=True)
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
    left_out = LeftOut.from_training(training, len(classes))
    return {
        "schema": SCHEMA,
        "pictures": len(predictions),
        "available": available,
        "accuracy": share(sum(prediction.right for prediction in judged), len(predictions)),
        "top5": share(in_top, len(predictions)),
        "macro_f1": six_decimals(sum(scores) / len(scores)),
        "latency_ms": latencies([prediction.seconds for prediction in predictions]),
        "classes": per_class,
        "confusion": [
            [truth, predicted, count] for (truth, predicted), count in sorted(cells.items())
        ],
        "calibration": result.to_dict(),
        # A correction changes the scale of the probabilities that training has counted.
        "confident": confident(
            judged,
            precision,
            classes,
            left_out
            if result.calibration == IDENTITY or left_out is None
            else left_out.without_counts(),
        ),
        "coverage": coverage(judged),
        "familiarity": familiar.to_dict(),
        "candidates": sets.to_dict(),
        "answers": [
            {
                "record": prediction.record,
                "name": prediction.name,
                "sha256": prediction.sha256,
                "truth": prediction.truth,
                "fold": fold,
                "top": [[index, probability] for index, probability in shown],
                "raw": round(prediction.probabilities[shown[0][0]], 6),
                "novelty": prediction.novelty,
                "candidates": count,
                "ms": round(prediction.seconds * 1000, 2),
            }
            for prediction, fold, shown, count in zip(
                predictions,
                fold_of,
                tops,
                sets.sizes or [None] * len(predictions),
                strict=True,
            )
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
        "accuracy": share(right, len(predictions)),
    }


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
        "accuracy": share(right, pictures),
    }


def input_size(training: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Height and width of the network's input in pixels, by the artefact's training.json, or None.

    training: as in `cross_validation`; of either recipe.
    """
    found = (training or {}).get("input_size")
    try:
        size = {side: int(found[side]) for side in ("height", "width")}  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None
    return size if min(size.values()) > 0 else None


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles of the durations of calls, in milliseconds."""
    times = [1000 * value for value in seconds]
    cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return {f"p{percent}": round(cuts[percent - 1], 2) for percent in (50, 95, 99)}


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
                "precision": six_decimals(right / predicted_total[index])
                if predicted_total[index]
                else None,
                "recall": six_decimals(right / total[index]) if total[index] else None,
                "f1": six_decimals(2 * right / either) if total[index] else None,
            }
        )
    return rows
