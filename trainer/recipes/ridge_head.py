"""The linear head: ridge regression on frozen features, in closed form, in seconds on a CPU.

One eigendecomposition of the records' inner products gives the solution for every penalty, and the
leave-one-out prediction of each training record (Allen, 1974; Rifkin and Lippert, 2007,
MIT-CSAIL-TR-2007-025). Beyond MAX_RECORDS the features' inner products are accumulated instead, and
a sample of the records is left out, each from the fit to all others. The penalty, with one
temperature for all records, and then the temperature by highest score are chosen by these
predictions alone: the validation records are used for nothing but the validation accuracy.

Least squares to targets of 0 and 1 does not model probabilities, but with a few dozen images per
class it is more accurate than multinomial logistic regression, and with a temperature better
calibrated; docs/probe.md has the figures.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from droplens.inference.cores import cores
from trainer.recipes.feature_gram import Moments
from trainer.recipes.temperature import (
    Temperature,
    fit_by_highest_score,
    fit_temperature,
    negative_log_likelihood,
)

log = logging.getLogger(__name__)

# Relative to the mean squared norm of a centred record. Beyond both ends predictions do not change:
# they are those of the nearest class mean, and of a head that interpolates the training labels.
L2_GRID = tuple(10.0 ** (1 - step / 4) for step in range(17))
# Where no record can be left out: the order of magnitude that other data sets give.
DEFAULT_L2, DEFAULT_TEMPERATURE = 0.1, 0.1
# Beyond, the features' Gram matrix takes less memory and time than that of the records, whose
# decomposition grows with their cube.
MAX_RECORDS = 8192
# There, the records whose leave-one-out predictions are computed: an accuracy's standard error is
# 0.8 points at most.
SAMPLE = 4096
# And the records of one product.
GROUP = 1024
# Directions with less than this share of the largest variance are rounding errors.
MIN_VARIANCE = 1e-6
RECORDS_PER_PRODUCT = 512
RECORDS_PER_MOMENT = 4096

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]
Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True, slots=True)
class Head:
    """Softmax of the scores, features @ weight + bias, divided by their temperature.

    weight: float32 [features, classes]; bias: float32 [classes].
    """

    weight: Matrix
    bias: Matrix
    temperature: Temperature

    def probabilities(self, features: Matrix) -> Matrix:
        """float32 [records, classes] of float32 [records, features]."""
        return self.of_scores(features @ self.weight + self.bias)

    def of_scores(self, scores: Matrix) -> Matrix:
        """Probabilities of scores, both float32 [records, classes]."""
        return softmax(scores / self.temperature.of(scores))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Leave-one-out predictions at the chosen penalty.

    records: int64 [N], indices of the training records, ascending; scores: float32 [N, classes],
    to be divided by the head's temperature.
    """

    records: Labels
    scores: Matrix


@dataclass(frozen=True, slots=True)
class Fit:
    """A head with the results of its selection.

    path: (l2, negative log-likelihood, accuracy) of leave-one-out, from the strongest penalty.
    left_out: of the records that can be left out, on SAMPLE of them where there are more than
    MAX_RECORDS.
    leave_one_out_accuracy: on them, at the chosen penalty; None where there are none.
    training_accuracy: of the head on records that it was fitted to, on SAMPLE of them where there
    are more than MAX_RECORDS.
    """

    head: Head
    l2: float
    path: tuple[tuple[float, float, float], ...]
    left_out: LeftOut
    leave_one_out_accuracy: float | None
    training_accuracy: float

    @property
    def leave_one_out_records(self) -> int:
        """The number of records with a leave-one-out prediction."""
        return len(self.left_out.records)


@dataclass(frozen=True, slots=True)
class Spectrum:
    """An eigendecomposition of the records, for ridge regression with an unpenalised intercept.

    variances: float32 [rank], the eigenvalues of the centred records' inner products, positive.
    directions: float32 [records, rank], the orthonormal eigenvectors.
    """

    variances: Matrix
    directions: Matrix

    def solve(self, targets: Matrix, l2: float) -> Matrix:
        """The dual solution [records, classes] for centred `targets` of the same shape.

        The weights are the transposed centred records times this solution.
        """
        projected = self.directions.T @ targets
        return self.directions @ (projected / (self.variances + np.float32(l2))[:, None])

    def leave_one_out(self, targets: Matrix, l2: float) -> Matrix:
        """Each record's scores by a fit to all other records: [records, classes].

        Exact, with the intercept: `targets` and the result are centred by the targets' mean.
        """
        shares = self.variances / (self.variances + np.float32(l2))
        fitted = self.directions @ (shares[:, None] * (self.directions.T @ targets))
        leverages = np.einsum("ij,j,ij->i", self.directions, shares, self.directions)
        leverages += np.float32(1 / len(targets))
        return targets - (targets - fitted) / (1 - leverages)[:, None]


def fit_head(features: Matrix, labels: Labels, classes: int, seed: int) -> Fit:
    """Fit on float32 [records, features] and int64 [records]; `features` is centred in place.

    Deterministic; `seed` is used beyond MAX_RECORDS only, where `fit_head_to_stream` fits.
    """
    if len(features) > MAX_RECORDS:
        return fit_head_to_stream(iter([features]), labels, classes, seed)
    mean = features.mean(axis=0)
    features -= mean
    size = float(np.einsum("ij,ij->", features, features, dtype=np.float64)) / len(features)
    # Centred targets leave the class frequencies out of the bias. Without them the recall of rare
    # classes is higher, and that of frequent ones hardly lower.
    targets = np.eye(classes, dtype=np.float32)[labels]
    targets -= targets.mean(axis=0)
    spectrum = decompose(features)

    evaluated = can_be_left_out(labels)
    l2, temperature, trials = DEFAULT_L2, Temperature.constant(DEFAULT_TEMPERATURE), []
    if evaluated.any():

        def evaluate(l2: float) -> _Trial:
            scores = spectrum.leave_one_out(targets, l2 * size)[evaluated]
            return _Trial.of(l2, scores, labels[evaluated])

        with ThreadPoolExecutor(cores(), "penalties") as executor:
            trials = list(executor.map(evaluate, L2_GRID))
        l2 = _best(trials).l2
    scores = spectrum.leave_one_out(targets, l2 * size)[evaluated]
    left_out = LeftOut(np.flatnonzero(evaluated), scores)
    if evaluated.any():
        temperature = fit_by_highest_score(scores, labels[evaluated])

    weight = features.T @ spectrum.solve(targets, l2 * size)
    predictions = (features @ weight).argmax(axis=1)
    return Fit(
        head=Head(weight, -(mean @ weight), temperature),
        l2=l2,
        path=tuple(each.step for each in trials),
        left_out=left_out,
        leave_one_out_accuracy=next((each.accuracy for each in trials if each.l2 == l2), None),
        training_accuracy=float((predictions == labels).mean()),
    )


def fit_head_to_stream(groups: Iterator[Matrix], labels: Labels, classes: int, seed: int) -> Fit:
    """As `fit_head`, in memory that does not depend on the number of records.

    groups: the records' features, float32 [any number, features] each, in the order of `labels`.
    The penalties are compared by the leave-one-out predictions of SAMPLE records, of fits to all
    others; so are the accuracies. Not all penalties are tried, since each takes a decomposition.
    """
    chosen = sampled(len(labels), seed)
    moments, kept, done = None, [], 0
    for x in regrouped(groups, GROUP):
        moments = moments or Moments(x.shape[1], classes)
        moments.add(x, labels[done : done + len(x)])
        first, stop = np.searchsorted(chosen, (done, done + len(x)))
        kept.append(x[chosen[first:stop] - done])
        done += len(x)
    assert moments is not None
    gram = moments.centred()
    sample, known = np.concatenate(kept) - gram.mean, labels[chosen]
    frequencies = np.bincount(labels, minlength=classes) / len(labels)
    targets = np.eye(classes, dtype=np.float32)[known] - frequencies.astype(np.float32)

    evaluated = can_be_left_out(labels)[chosen]
    l2, temperature, trials = DEFAULT_L2, Temperature.constant(DEFAULT_TEMPERATURE), []
    found: dict[float, tuple[Matrix, Matrix]] = {}
    if evaluated.any():

        def evaluate(l2: float) -> _Trial:
            solution = gram.solve(l2 * gram.size)
            scores = solution.leave_one_out(sample[evaluated], targets[evaluated])
            found[l2] = solution.weight, scores
            return _Trial.of(l2, scores, known[evaluated])

        least = gram.least_penalty() / gram.size
        trials = _search([l2 for l2 in L2_GRID if l2 >= least], evaluate)
        l2 = _best(trials).l2
        weight, scores = found[l2]
        temperature = fit_by_highest_score(scores, known[evaluated])
    else:
        weight, scores = gram.solve(l2 * gram.size).weight, targets[:0]
    left_out = LeftOut(chosen[evaluated], scores)
    predictions = (sample @ weight).argmax(axis=1)
    return Fit(
        head=Head(weight, -(gram.mean @ weight), temperature),
        l2=l2,
        path=tuple(each.step for each in trials),
        left_out=left_out,
        leave_one_out_accuracy=next((each.accuracy for each in trials if each.l2 == l2), None),
        training_accuracy=float((predictions == known).mean()),
    )


def sampled(records: int, seed: int) -> NDArray[np.int64]:
    """The indices of at most SAMPLE of so many records, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(records)[:SAMPLE])


def regrouped(groups: Iterable[Matrix], size: int) -> Iterator[Matrix]:
    """The same rows in groups of `size`; the last may be smaller."""
    waiting: list[Matrix] = []
    count = 0
    for group in groups:
        for first in range(0, len(group), size):
            part = group[first : first + size]
            waiting.append(part)
            count += len(part)
            if count >= size:
                rows = np.concatenate(waiting)
                yield rows[:size]
                waiting = [rows[size:]]
                count -= size
    if count:
        yield np.concatenate(waiting)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A penalty with the loss and accuracy of leave-one-out, at the best constant temperature."""

    l2: float
    loss: float
    accuracy: float

    @classmethod
    def of(cls, l2: float, scores: Matrix, labels: Labels) -> "_Trial":
        temperature = fit_temperature(scores, labels)
        loss = negative_log_likelihood(scores / np.float32(temperature), labels)
        return cls(l2, loss, float((scores.argmax(axis=1) == labels).mean()))

    @property
    def step(self) -> tuple[float, float, float]:
        return self.l2, self.loss, self.accuracy


def _best(trials: Sequence[_Trial]) -> _Trial:
    best = min(trials, key=lambda each: each.loss)
    log.info("l2=%.1e leave-one-out loss=%.4f accuracy=%.4f", best.l2, best.loss, best.accuracy)
    return best


def _search(grid: Sequence[float], evaluate: Callable[[float], _Trial]) -> list[_Trial]:
    """Trials around the smallest loss, in the order of `grid`: from the middle by halved steps.

    The loss of ridge regression falls to one minimum and rises again.
    """
    tried: dict[int, _Trial] = {}
    step = 1 << max(0, (len(grid) - 1).bit_length() - 2)
    middle = len(grid) // 2
    while step:
        for index in (middle, middle - step, middle + step):
            if 0 <= index < len(grid) and index not in tried:
                tried[index] = evaluate(grid[index])
        nearest = min(tried, key=lambda index: tried[index].loss)
        if nearest == middle:
            step //= 2
        middle = nearest
    return [tried[index] for index in sorted(tried)]


def decompose(x: Matrix) -> Spectrum:
    """The spectrum of centred records [records, features], by their smaller Gram matrix."""
    if x.shape[1] < len(x):
        # In float64: the directions' errors are the Gram matrix's, divided by small variances.
        values, vectors = _eigen(_second_moments(x))
        first = np.searchsorted(values, MIN_VARIANCE * values[-1], side="right")
        values, vectors = values[first:], vectors[:, first:]
        scaled = (vectors / np.sqrt(values)).astype(np.float32)
        return Spectrum(values.astype(np.float32), x @ scaled)
    variances, directions = _eigen(_inner_products(x))
    first = np.searchsorted(variances, MIN_VARIANCE * variances[-1], side="right")
    return Spectrum(variances[first:], directions[:, first:])


def _eigen(products: NDArray[Real]) -> tuple[NDArray[Real], NDArray[Real]]:
    """Eigenvalues, ascending, and eigenvectors; overwrites `products`."""
    # LAPACK is column-major: the lower triangle here is the upper one there.
    values, vectors = eigh(
        products.T, lower=False, overwrite_a=True, check_finite=False, driver="evd"
    )
    return values, vectors


def _inner_products(x: Matrix) -> Matrix:
    """The lower triangle of x @ x.T, on all cores; the digits do not depend on their number."""
    result = np.zeros((len(x), len(x)), np.float32)

    def fill(first: int) -> None:
        rows = slice(first, first + RECORDS_PER_PRODUCT)
        stop = min(rows.stop, len(x))
        np.matmul(x[rows], x[:stop].T, out=result[rows, :stop])

    with ThreadPoolExecutor(cores(), "products") as executor:
        list(executor.map(fill, range(0, len(x), RECORDS_PER_PRODUCT)))
    return result


def _second_moments(x: Matrix) -> NDArray[np.float64]:
    """x.T @ x in float64, on all cores; the digits do not depend on their number."""

    def products(first: int) -> NDArray[np.float64]:
        part = x[first : first + RECORDS_PER_MOMENT].astype(np.float64)
        return part.T @ part

    result = np.zeros((x.shape[1], x.shape[1]))
    with ThreadPoolExecutor(cores(), "products") as executor:
        for part in executor.map(products, range(0, len(x), RECORDS_PER_MOMENT)):
            result += part
    return result


def can_be_left_out(labels: Labels) -> NDArray[np.bool_]:
    """bool [records]: whether another record of the class remains when this one is left out.

    All false where only one class has two records: a head that always predicts that class would
    have the best leave-one-out accuracy.
    """
    counts = np.bincount(labels)
    if (counts > 1).sum() < 2:
        return np.zeros(len(labels), np.bool_)
    return counts[labels] > 1


def softmax(logits: Matrix) -> Matrix:
    """Softmax over the last axis."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)
