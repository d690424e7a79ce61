"""Choose height and width of the network's input by leave-one-out predictions of a sample.

The time of a prediction is proportional to the pixels of the input. So the size starts at 224 x 224
pixels, which the network was pretrained with; a smaller one is taken where it predicts the sample
as well but for one standard error (Breiman et al., 1984, "Classification and Regression Trees",
section 3.4.3), else larger ones as long as each predicts it better by two. These are squares. Last,
a shape of equal area is taken if it predicts the sample better by two: half-way to that of the
median source image, whose ratio of width and height is the root of that image's.

Predictions are those of a linear head on the packaged backbone, whatever the recipe.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.features import Channel, extract
from trainer.data.preprocess import Resize
from trainer.recipes.ridge_head import Fit, fit_head

log = logging.getLogger(__name__)

# Sides of squares; another shape has about the same area.
FIRST_SIDE = 224
SMALLER_SIDES, LARGER_SIDES = (160, 96), (288, 384, 512)
# Sides of other shapes are multiples of it.
STEP = 16
# Another shape is tried where it differs from a square by this factor, and up to that.
LEAST_ASPECT, MOST_ASPECT = 1.1, 2.0
# A quarter of the records, within these bounds, of at least RECORDS_PER_CLASS in a class.
SAMPLE_SHARE, LEAST_SAMPLE, MOST_SAMPLE = 0.25, 500, 1500
RECORDS_PER_CLASS = 5
# With fewer, differences are chance, and FIRST_SIDE is kept.
LEAST_LEFT_OUT = 100
# By how many standard errors the mean gain in log-likelihood has to exceed 0: for a larger input
# than FIRST_SIDE or another shape, and for FIRST_SIDE over a smaller one.
LARGER_ERRORS, SMALLER_ERRORS = 2.0, 1.0

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trial:
    """A size with the leave-one-out predictions that it gives.

    likelihoods: float64 [records], the log-likelihood of each record's class.
    """

    height: int
    width: int
    accuracy: float
    likelihoods: NDArray[np.float64]

    @property
    def loss(self) -> float:
        """The mean negative log-likelihood."""
        return -float(self.likelihoods.mean())

    def is_better_than(self, other: "Trial", errors: float) -> bool:
        """Whether its mean log-likelihood is higher by standard errors of the paired difference."""
        gains = self.likelihoods - other.likelihoods
        error = float(gains.std(ddof=1)) / sqrt(len(gains))
        return float(gains.mean()) > errors * error


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen size, with the sizes that were tried on so many records, in their order."""

    height: int
    width: int
    records: int
    trials: tuple[Trial, ...]

    def report(self) -> dict[str, Any]:
        """The object `input_size` of training.json."""
        tried = [
            {"height": t.height, "width": t.width, "loss": t.loss, "accuracy": t.accuracy}
            for t in self.trials
        ]
        size = {"height": self.height, "width": self.width}
        return {**size, "records": self.records, "tried": tried}


def choose(
    backbone: Path,
    training: Channel,
    *,
    aspect_ratio: float,
    max_serving_time: float,
    batch_size: int,
    seed: int,
) -> Choice:
    """The size for the records of `training`.

    aspect_ratio: median width / height of the source images; max_serving_time: in multiples of that
    of FIRST_SIDE squared.
    """
    part = training.part(sample(training.labels, np.random.default_rng(seed)))

    def attempt(shape: tuple[int, int]) -> Trial:
        height, width = shape
        features = extract(backbone, part, Resize(width=width, height=height), batch_size)
        labels = np.unique(part.labels, return_inverse=True)[1]
        fit = fit_head(features, labels, int(labels.max()) + 1, seed)
        likelihoods = _likelihoods(fit, labels)
        trial = Trial(height, width, fit.leave_one_out_accuracy or 0.0, likelihoods)
        log.info("size %dx%d: leave-one-out loss=%.4f", height, width, trial.loss)
        return trial

    if can_choose(part.labels):
        return search(attempt, aspect_ratio, max_serving_time, len(part))
    log.info("too few pictures to choose a size by: %dx%d", FIRST_SIDE, FIRST_SIDE)
    return Choice(FIRST_SIDE, FIRST_SIDE, 0, ())


def sample(labels: Labels, rng: np.random.Generator) -> Labels:
    """Indices of the records to try sizes on, ascending: of all classes, or of some."""
    most = int(np.clip(SAMPLE_SHARE * len(labels), LEAST_SAMPLE, MOST_SAMPLE))
    classes = rng.permutation(np.unique(labels))[: most // RECORDS_PER_CLASS]
    candidates = rng.permutation(np.flatnonzero(np.isin(labels, classes)))
    return np.sort(candidates[:most])


def can_choose(labels: Labels) -> bool:
    """Whether at least LEAST_LEFT_OUT of the records can be left out."""
    counts = np.bincount(labels)
    return bool((counts > 1).sum() > 1 and counts[counts > 1].sum() >= LEAST_LEFT_OUT)


def search(
    attempt: Callable[[tuple[int, int]], Trial],
    aspect_ratio: float,
    max_serving_time: float,
    records: int,
) -> Choice:
    """The choice among the sizes that `attempt` is called with: (height, width)."""
    most = max_serving_time * FIRST_SIDE**2
    trials: list[Trial] = []

    def tried(height: int, width: int) -> Trial:
        trials.append(attempt((height, width)))
        return trials[-1]

    first = best = tried(FIRST_SIDE, FIRST_SIDE)
    for side in SMALLER_SIDES:
        smaller = tried(side, side)
        if first.is_better_than(smaller, SMALLER_ERRORS):
            break
        best = smaller
    if best is first:
        for side in (side for side in LARGER_SIDES if side**2 <= most):
            larger = tried(side, side)
            if not larger.is_better_than(best, LARGER_ERRORS):
                break
            best = larger
    ratio = sqrt(aspect_ratio)
    height, width = shape(best.height, ratio, most)
    if max(ratio, 1 / ratio) >= LEAST_ASPECT and height != width:
        other = tried(height, width)
        best = other if other.is_better_than(best, LARGER_ERRORS) else best
    log.info("size %dx%d chosen by %d pictures", best.height, best.width, records)
    return Choice(best.height, best.width, records, tuple(trials))


def shape(side: int, aspect_ratio: float, most: float) -> tuple[int, int]:
    """Height and width of about `side` squared pixels and at most `most`, of an aspect ratio."""
    ratio = min(max(aspect_ratio, 1 / MOST_ASPECT), MOST_ASPECT)
    if ratio == 1:
        return side, side
    height, width = (STEP * round(side * scale / STEP) for scale in (ratio**-0.5, ratio**0.5))
    while height * width > most:
        height, width = (height - STEP, width) if height > width else (height, width - STEP)
    return height, width


def _likelihoods(fit: Fit, labels: Labels) -> NDArray[np.float64]:
    probabilities = fit.head.of_scores(fit.left_out.scores)
    truths = probabilities[np.arange(len(probabilities)), labels[fit.left_out.records]]
    return np.log(np.maximum(truths.astype(np.float64), 1e-12))
