"""How far a measured model's probabilities can be trusted on pictures it never saw.

    make bench-trust            REPEATS=5 for a quick look

A fifth of every class is set aside as the exam, which nothing sees. On the rest all happens as in a
run: a fifth is validation, the recipe `probe` learns from what remains, half of the validation
answers fit the map, and the measurement chooses the threshold of `confident`. Then the exam is
answered. That is done over and over with other splits: an exam of a few hundred pictures shows an
error of some points of pure chance, so all repeats' answers are also judged together.
"""

import argparse
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import keep, mean_and_deviation, provenance, versions
from benchmarks.trust.maps import MAPS, Labels, Rows
from benchmarks.trust.pictures import Pictures, all_sets
from droplens.evaluation.evaluation import Prediction, evaluate
from droplens.statistics.calibration import expected_error, folds, noise_floor, reliability
from trainer.recipes.ridge_head import fit_head

HELD_OUT = 0.2
# What `ConfidentPrecision` is by default, and what settles for less.
PRECISIONS = (95, 90)
REPEATS = {"cars24": 15, "cars196": 3, "digits": 10}
PACKAGES = ("numpy", "onnxruntime", "pillow", "scipy")

Pairs = list[tuple[float, bool]]


@dataclass(slots=True)
class Found:
    """What the repeats on one set of pictures came to, each in a list of its own.

    judged: by map, each repeat's (probability, right) of the exam; by precision in percent,
    coverage: the share of the exam that was called confident; confident, confident_right: how many
    that were, and how many of those were right.
    """

    accuracy: list[float] = field(default_factory=list)
    judged: defaultdict[str, list[Pairs]] = field(default_factory=lambda: defaultdict(list))
    coverage: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    confident: Counter[int] = field(default_factory=Counter)
    confident_right: Counter[int] = field(default_factory=Counter)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, help="of each set of pictures")
    arguments = parser.parse_args()
    measured = provenance()
    sets = {}
    for pictures in all_sets():
        repeats = arguments.repeats or REPEATS[pictures.name]
        print(
            f"\n{pictures.name}: {len(pictures.labels)} pictures, {len(pictures.classes)} classes"
        )
        found = Found()
        for seed in range(repeats):
            _repeat(pictures, seed, found)
            print(f"  split {seed + 1} of {repeats}: {found.accuracy[-1]:.1%} right", flush=True)
        sets[pictures.name] = _summary(pictures, found)
        _show(sets[pictures.name])
    hardest = max(sets, key=lambda name: sets[name]["maps"]["ours"]["ece"])
    result = {
        **measured,
        "versions": versions(*PACKAGES),
        "hardest": hardest,
        "ece_before": sets[hardest]["maps"]["none"]["ece"],
        "ece_after": sets[hardest]["maps"]["ours"]["ece"],
        "coverage_at_95_precision": sets[hardest]["coverage_at_95_precision"]["mean"],
        "sets": sets,
    }
    keep("trust", result)


def _repeat(pictures: Pictures, seed: int, found: Found) -> None:
    """One dataset, one run, one exam."""
    split = split_by_class(pictures.labels, seed)
    train, validation, exam = split.train, split.validation, split.exam
    fit = fit_head(pictures.features[train], pictures.labels[train], len(pictures.classes), seed)

    def ask(chosen: NDArray[np.int64]) -> Rows:
        return fit.head.probabilities(pictures.features[chosen]).astype(np.float64)

    said, truths = ask(validation), pictures.labels[validation]
    digests = [hashlib.sha256(b"%d %d" % (seed, number)).hexdigest() for number in validation]
    asked, right_answers = ask(exam), pictures.labels[exam]
    right = asked.argmax(axis=1) == right_answers
    found.accuracy.append(float(right.mean()))
    to_fit = np.array(folds(truths.tolist(), digests, 2)) == 0
    for name, make in MAPS.items():
        best = make(said[to_fit], truths[to_fit])(asked)
        found.judged[name].append(list(zip(best.tolist(), right.tolist(), strict=True)))
    for precision in PRECISIONS:
        threshold = _threshold(said, truths, digests, pictures.classes, precision / 100)
        sure = [won for probability, won in found.judged["ours"][-1] if probability >= threshold]
        found.coverage[precision].append(len(sure) / len(right))
        found.confident[precision] += len(sure)
        found.confident_right[precision] += sum(sure)


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of pictures, sorted: each picture is in exactly one of the three."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    exam: NDArray[np.int64]


def split_by_class(labels: Labels, seed: int) -> Split:
    """A fifth of every class for the exam, and of the rest a fifth for validation."""
    rng = np.random.default_rng(seed)
    everything = np.arange(len(labels))
    exam = _a_fifth(everything, labels, rng)
    dataset = np.setdiff1d(everything, exam)
    validation = _a_fifth(dataset, labels, rng)
    return Split(np.setdiff1d(dataset, validation), validation, exam)


def _a_fifth(
    numbers: NDArray[np.int64], labels: Labels, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Of every class, as batch_prep takes it: rounded, at least one."""
    chosen = []
    for label in np.unique(labels[numbers]):
        members = rng.permutation(numbers[labels[numbers] == label])
        chosen.append(members[: max(1, round(len(members) * HELD_OUT))])
    return np.sort(np.concatenate(chosen))


def _threshold(
    said: Rows, truths: Labels, digests: Sequence[str], classes: Sequence[str], precision: float
) -> float:
    """The probability from which the measurement would call answers confident; 2.0 for never."""
    answers = [
        Prediction(
            record=number, name="", sha256=digest, truth=truth, seconds=0.0, probabilities=row
        )
        for number, (digest, truth, row) in enumerate(
            zip(digests, truths.tolist(), said.tolist(), strict=True)
        )
    ]
    threshold = evaluate(answers, classes, len(answers), precision)["confident"]["threshold"]
    return 2.0 if threshold is None else float(threshold)


def _summary(pictures: Pictures, found: Found) -> dict[str, Any]:
    return {
        "pictures": len(pictures.labels),
        "classes": len(pictures.classes),
        "side": pictures.side,
        "repeats": len(found.accuracy),
        "exam_pictures": len(found.judged["none"][0]),
        "accuracy": mean_and_deviation(found.accuracy),
        "maps": {name: _honesty(found.judged[name]) for name in MAPS},
    } | {
        f"coverage_at_{precision}_precision": mean_and_deviation(found.coverage[precision])
        | {
            "reached": round(
                found.confident_right[precision] / max(1, found.confident[precision]), 4
            )
        }
        for precision in PRECISIONS
    }


def _honesty(repeats: Sequence[Pairs]) -> dict[str, Any]:
    """Of one map: all repeats' answers together, and the repeats one by one."""
    together = reliability([pair for pairs in repeats for pair in pairs])
    apart = [reliability(pairs) for pairs in repeats]
    pairs = [pair for pairs in repeats for pair in pairs]
    return {
        "ece": round(expected_error(together), 4),
        "ece_noise_floor": round(noise_floor(together), 4),
        "rms_debiased": round(debiased(pairs), 4),
        "ece_of_one_exam": mean_and_deviation([expected_error(bins) for bins in apart]),
        "ece_noise_floor_of_one_exam": mean_and_deviation([noise_floor(bins) for bins in apart]),
        "brier": round(fmean((probability - won) ** 2 for probability, won in pairs), 4),
    }


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


def _show(found: dict[str, Any]) -> None:
    print(
        f"  {'map':12} {'ECE':>7} {'by chance':>10} {'debiased':>9} {'one exam':>16} {'Brier':>7}"
    )
    for name, each in found["maps"].items():
        one = f"{each['ece_of_one_exam']['mean']:.3f} ± {each['ece_of_one_exam']['sd']:.3f}"
        print(
            f"  {name:12} {each['ece']:7.4f} {each['ece_noise_floor']:10.4f} "
            f"{each['rms_debiased']:9.4f} {one:>16} {each['brier']:7.4f}"
        )
    for precision in PRECISIONS:
        coverage = found[f"coverage_at_{precision}_precision"]
        print(
            f"  confident by {precision} %: {coverage['mean']:.1%} ± {coverage['sd']:.1%} of the "
            f"exam, {coverage['reached']:.1%} of them right"
        )


if __name__ == "__main__":
    main()
