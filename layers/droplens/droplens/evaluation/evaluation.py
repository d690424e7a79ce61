"""What a measurement says of a model: evaluation.json, which gate, card and report page read."""

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

# On fewer images a map follows their luck more than the model.
FEWEST_TO_FIT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the endpoint said of one image.

    record: its id in its channel; name: of the file it was packed from; sha256: of the packed
    JPEG; truth: its class; seconds: the one call; probabilities: as the endpoint gave them.
    """

    record: int
    name: str
    sha256: str
    truth: int
    seconds: float
    probabilities: Sequence[float]


@dataclass(frozen=True, slots=True)
class TopPrediction:
    """A best answer: whether it was right, and how probable it called itself."""

    right: bool
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A calibration with its evidence, taken from images that it was not fitted on."""

    calibration: Calibration
    fitted_on: int
    judged_on: int
    before: list[Bin]
    after: list[Bin]
    log_loss_before: float
    log_loss_after: float

    def to_dict(self) -> dict[str, Any]:
        """The calibration as evaluation.json holds it."""
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


def calibrated(answers: Sequence[Prediction], to_fit: Sequence[bool]) -> Calibrated:
    """Fit on the one half and judge on the other."""
    fitted = [answer for answer, fits in zip(answers, to_fit, strict=True) if fits]
    others = [answer for answer, fits in zip(answers, to_fit, strict=True) if not fits] or fitted
    calibration = IDENTITY
    if len(fitted) >= FEWEST_TO_FIT:
        calibration = fit(
            [answer.probabilities for answer in fitted], [answer.truth for answer in fitted]
        )
    truths = [answer.truth for answer in others]
    said = [answer.probabilities for answer in others]
    return Calibrated(
        calibration=calibration,
        fitted_on=len(fitted) if calibration != IDENTITY else 0,
        judged_on=len(others),
        before=_bins(others, IDENTITY),
        after=_bins(others, calibration),
        log_loss_before=log_loss(said, truths),
        log_loss_after=log_loss([calibration.apply(row) for row in said], truths),
    )


def evaluate(
    answers: Sequence[Prediction], classes: Sequence[str], available: int, precision: float
) -> dict[str, Any]:
    """The body of evaluation.json. available: validation records that there are;
    precision: what share of confident answers must be right."""
    to_fit = halves([a.truth for a in answers], [a.sha256 for a in answers])
    result = calibrated(answers, to_fit)
    tops = [top(answer.probabilities, result.calibration) for answer in answers]
    judged = [
        TopPrediction(shown[0][0] == answer.truth, shown[0][1])
        for answer, shown in zip(answers, tops, strict=True)
    ]
    cells = Counter(
        (answer.truth, shown[0][0]) for answer, shown in zip(answers, tops, strict=True)
    )
    per_class = _per_class(classes, cells)
    scores = [entry["f1"] for entry in per_class if entry["f1"] is not None]
    in_top = sum(
        answer.truth in [index for index, _ in shown]
        for answer, shown in zip(answers, tops, strict=True)
    )
    return {
        "schema": SCHEMA,
        "pictures": len(answers),
        "available": available,
        "accuracy": _share(sum(answer.right for answer in judged), len(answers)),
        "top5": _share(in_top, len(answers)),
        "macro_f1": _rounded(sum(scores) / len(scores)),
        "latency_ms": latencies([answer.seconds for answer in answers]),
        "classes": per_class,
        "confusion": [[truth, said, count] for (truth, said), count in sorted(cells.items())],
        "calibration": result.to_dict(),
        "confident": confident(judged, precision),
        "coverage": coverage(judged),
        "answers": [
            {
                "record": answer.record,
                "name": answer.name,
                "sha256": answer.sha256,
                "truth": answer.truth,
                "half": "fit" if fits else "judge",
                "top": [[index, probability] for index, probability in shown],
                "raw": round(answer.probabilities[shown[0][0]], 6),
                "ms": round(answer.seconds * 1000, 2),
            }
            for answer, fits, shown in zip(answers, to_fit, tops, strict=True)
        ],
    }


def accuracy_on_test(
    answers: Sequence[Prediction], calibration: Calibration, available: int
) -> dict[str, Any] | None:
    """The test section of evaluation.json, or None where the dataset brought no test images.

    answers: of test records; calibration: fitted on validation records alone; available: test
    records that there are. Nothing else of an evaluation depends on it.
    """
    if not answers:
        return None
    right = sum(top(each.probabilities, calibration)[0][0] == each.truth for each in answers)
    return {
        "pictures": len(answers),
        "available": available,
        "right": right,
        "accuracy": _share(right, len(answers)),
    }


def confident(answers: Sequence[TopPrediction], precision: float) -> dict[str, Any]:
    """From which probability answers can be relied on, and how many images that answers.

    share: of the images at or above the threshold; precision_measured and low: of those, the
    share that is right, and its one-sided 95 % lower bound. reason: why there is no threshold, or
    None where there is one.
    """
    threshold = confident_from(answers, precision)
    above = [a.right for a in answers if threshold is not None and a.probability >= threshold]
    return {
        "precision": precision,
        "threshold": threshold,
        "share": _rounded(len(above) / len(answers)),
        "precision_measured": _rounded(sum(above) / len(above)) if above else None,
        "low": _rounded(wilson(sum(above), len(above), Z95_ONE_SIDED)[0]) if above else None,
        "reason": _no_threshold(len(answers), precision) if threshold is None else None,
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


def confident_from(answers: Sequence[TopPrediction], precision: float) -> float | None:
    """The lowest probability from which answers can be relied on.

    That is: of the answers at or above it, a share of at least `precision` is right, also when
    the sample's luck is allowed for (the one-sided 95 % lower bound of that share). None where no
    probability gives that: for a precision of 95 %, on fewer than 52 images, however many were
    right.
    """
    threshold = None
    for probability, asked, right in _from_the_surest(answers):
        if wilson(right, asked, Z95_ONE_SIDED)[0] >= precision:
            threshold = probability
    return threshold


def cross_validation(training: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the trainer counted on its own training records, each left out once, or None.

    training: the artefact's training.json, which recipe probe writes such figures into: every
    record was answered by a head that was fitted to all the others.
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


def coverage(answers: Sequence[TopPrediction]) -> list[list[float]]:
    """For each probability that an answer had: the share of answers at or above it, and how many
    of those are right. From the surest to all."""
    return [
        [round(probability, 6), _rounded(asked / len(answers)), _rounded(right / asked)]
        for probability, asked, right in _from_the_surest(answers)
    ]


def _from_the_surest(answers: Sequence[TopPrediction]) -> list[tuple[float, int, int]]:
    """(probability, answers at or above it, right ones of those), equal probabilities together."""
    steps = []
    right = 0
    ordered = sorted(answers, key=lambda answer: -answer.probability)
    for count, answer in enumerate(ordered, start=1):
        right += answer.right
        if count == len(ordered) or ordered[count].probability < answer.probability:
            steps.append((answer.probability, count, right))
    return steps


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles of single calls, in milliseconds."""
    times = [1000 * value for value in seconds]
    cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return {f"p{percent}": round(cuts[percent - 1], 2) for percent in (50, 95, 99)}


def _bins(answers: Sequence[Prediction], calibration: Calibration) -> list[Bin]:
    best = [(answer, top(answer.probabilities, calibration)[0]) for answer in answers]
    return reliability([(probability, index == a.truth) for a, (index, probability) in best])


def _per_class(classes: Sequence[str], cells: Counter[tuple[int, int]]) -> list[dict[str, Any]]:
    asked: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    for (truth, said), count in cells.items():
        asked[truth] += count
        answered[said] += count
    rows = []
    for index, name in enumerate(classes):
        right = cells[index, index]
        either = asked[index] + answered[index]
        rows.append(
            {
                "name": name,
                "pictures": asked[index],
                "answered": answered[index],
                "right": right,
                "precision": _rounded(right / answered[index]) if answered[index] else None,
                "recall": _rounded(right / asked[index]) if asked[index] else None,
                "f1": _rounded(2 * right / either) if asked[index] else None,
            }
        )
    return rows


def _share(right: int, asked: int) -> dict[str, float]:
    low, high = wilson(right, asked)
    return {"value": right / asked, "low": _rounded(low), "high": _rounded(high)}


def _bin(entry: Bin) -> dict[str, Any]:
    return {
        name: _rounded(value) if isinstance(value, float) else value
        for name, value in asdict(entry).items()
    }


def _rounded(value: float) -> float:
    return round(value, 6)
