"""The figures of one set of pictures, from its repeats."""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import mean_and_deviation
from benchmarks.trust.model import Answers
from benchmarks.trust.pictures import Pictures
from benchmarks.trust.repeat import Pairs, Repeat
from benchmarks.trust.wrong_labels import CHECKED
from droplens.statistics.calibration import expected_error, noise_floor, reliability

# As many suspects as the report shows.
FIRST = 50
# Points of a drawn distribution.
LEVELS = 41

Found = Sequence[Repeat]
Spread = dict[str, float]


def summary(pictures: Pictures, found: Found) -> dict[str, Any]:
    """What trust.json keeps of a set."""
    return {
        "pictures": len(pictures.labels),
        "classes": len(pictures.classes),
        "side": pictures.side,
        "repeats": len(found),
        "exam_pictures": len(found[0].truths),
        "accuracy": _over(found, lambda each: each.right),
        "maps": {name: _calibration([each.maps[name] for each in found]) for name in found[0].maps},
        "coverage_at_95_precision": _coverage(found),
        "candidates": _candidates(found),
        "own_unfamiliar_share": _over(found, lambda each: ~each.own.familiar),
        "foreign": {name: _foreign(found, name) for name in found[0].foreign},
        "unseen_classes": _unseen(found),
        "suspects": {name: _suspects(found, name) for name in found[0].searches},
        "curves": _curves(found),
    }


def auroc(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """How often one of `high` exceeds one of `low`; ties count half (Hanley and McNeil, 1982)."""
    ordered = np.sort(low)
    exceeded = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(exceeded.sum() / 2 / (len(high) * len(low)))


def debiased(pairs: Pairs) -> float:
    """The root mean square calibration error without what chance adds to its bins.

    A. Kumar, P. Liang, T. Ma, "Verified uncertainty calibration" (2019, arXiv:1909.10155).
    """
    total = sum(
        each.count
        * (
            (each.probability - each.accuracy) ** 2
            - each.accuracy * (1 - each.accuracy) / (each.count - 1)
        )
        for each in reliability(pairs)
        if each.count > 1
    )
    return float(max(0.0, total / len(pairs)) ** 0.5)


def _over(found: Found, of: Callable[[Repeat], NDArray[np.bool_] | float]) -> Spread:
    """The spread over repeats of a figure, or of the share of pictures for which it is true."""
    return mean_and_deviation([float(np.mean(of(each))) for each in found])


def _calibration(repeats: Sequence[Pairs]) -> dict[str, Any]:
    """Of one map: all repeats' answers together, and the repeats one by one."""
    pairs = [pair for each in repeats for pair in each]
    together, apart = reliability(pairs), [reliability(each) for each in repeats]
    return {
        "ece": round(expected_error(together), 4),
        "ece_noise_floor": round(noise_floor(together), 4),
        "rms_debiased": round(debiased(pairs), 4),
        "ece_of_one_exam": mean_and_deviation([expected_error(bins) for bins in apart]),
        "ece_noise_floor_of_one_exam": mean_and_deviation([noise_floor(bins) for bins in apart]),
        "brier": round(fmean((probability - won) ** 2 for probability, won in pairs), 4),
    }


def _coverage(found: Found) -> dict[str, Any]:
    """The share called confident. reached: of those, correct, in all repeats; missed: repeats in
    which fewer than 95 % were; without: repeats in which nothing was confident."""
    confident = [each.own.confident for each in found]
    correct = [each.right[each.own.confident] for each in found]
    return mean_and_deviation([float(each.mean()) for each in confident]) | {
        "reached": round(float(np.concatenate(correct).mean()), 4)
        if any(map(len, correct))
        else 0.0,
        "missed": sum(len(each) > 0 and float(each.mean()) < 0.95 for each in correct),
        "without": sum(len(each) == 0 for each in correct),
    }


def _candidates(found: Found) -> dict[str, Any]:
    """The label sets: how many hold the true class, and how large they are."""
    sizes = Counter(len(labels) for each in found for labels in each.own.candidates)
    return {
        "coverage": _over(
            found,
            lambda each: np.array(
                [
                    truth in labels
                    for truth, labels in zip(each.truths, each.own.candidates, strict=True)
                ]
            ),
        ),
        "mean_size": _over(
            found, lambda each: fmean(len(labels) for labels in each.own.candidates)
        ),
        "sizes": {str(size): sizes[size] for size in sorted(sizes)},
    }


def _foreign(found: Found, name: str) -> dict[str, Any]:
    """Pictures of another kind. The peer is the endpoint's best probability: its AUROC, and how
    many would be confident without the novelty."""

    def asked(each: Repeat) -> Answers:
        return each.foreign[name]

    return {
        "pictures": len(asked(found[0]).label),
        "auroc": _over(found, lambda each: auroc(asked(each).novelty, each.own.novelty)),
        "auroc_of_probability": _over(found, lambda each: auroc(each.own.raw, asked(each).raw)),
        "familiar": _over(found, lambda each: asked(each).familiar),
        "confident": _over(found, lambda each: asked(each).confident),
        "confident_by_probability": _over(found, lambda each: asked(each).probable),
    }


def _unseen(found: Found) -> dict[str, Any]:
    """Pictures of classes of the same kind that the model has not learnt."""

    def both(of: Callable[[Answers], NDArray[np.float64]]) -> Spread:
        return _over(found, lambda each: auroc(of(each.unseen.own), of(each.unseen.unseen)))

    return {
        "auroc": both(lambda answers: answers.probability),
        "auroc_of_novelty": both(lambda answers: -answers.novelty),
        "familiar": _over(found, lambda each: each.unseen.unseen.familiar),
        "confident": _over(found, lambda each: each.unseen.unseen.confident),
        "own_confident": _over(found, lambda each: each.unseen.own.confident),
    }


def _suspects(found: Found, change: str) -> dict[str, Any]:
    """Changed labels, and by ranking the precision among the first FIRST (None where fewer were
    changed) and among as many as were changed, with the share found over CHECKED."""
    searches = [each.searches[change] for each in found if each.searches]
    changed = int(searches[0].wrong.sum())
    return {
        "repeats": len(searches),
        "changed": changed,
        "of": len(searches[0].wrong),
        "rankings": {
            name: {
                "flagged": mean_and_deviation([len(each.rankings[name]) for each in searches]),
                "precision_at_50": mean_and_deviation(
                    [each.precision(name, FIRST) for each in searches]
                )
                if changed >= FIRST
                else None,
                "precision_at_changed": mean_and_deviation(
                    [each.precision(name, changed) for each in searches]
                ),
                "found": np.mean([each.curve(name) for each in searches], axis=0).round(4).tolist(),
            }
            for name in searches[0].rankings
        },
        "checked": CHECKED,
    }


def _curves(found: Found) -> dict[str, Any]:
    """What is drawn: the calibration's bins, and novelty relative to the limit at LEVELS levels."""
    kinds = {
        "own": [each.own.novelty / each.limit for each in found],
        "unseen_classes": [each.unseen.unseen.novelty / each.unseen.limit for each in found],
    } | {
        name: [each.foreign[name].novelty / each.limit for each in found]
        for name in found[0].foreign
    }
    return {
        "bins": {
            name: [
                [round(each.probability, 4), round(each.accuracy, 4), each.count]
                for each in reliability([pair for one in found for pair in one.maps[name]])
                if each.count
            ]
            for name in ("none", "ours")
        },
        "novelty": {
            name: np.quantile(np.concatenate(values), np.linspace(0, 1, LEVELS)).round(4).tolist()
            for name, values in kinds.items()
        },
    }
