"""The linear head: ridge regression on frozen features, in closed form, in seconds on a CPU.

One decomposition of the records' inner products serves every strength of the penalty, and also
tells what a head would have said of each training record had it never seen it (leave-one-out;
Allen, 1974; Rifkin and Lippert, 2007, MIT-CSAIL-TR-2007-025). The strength and the softmax
temperature (Guo et al., 2017, arXiv:1706.04599) are chosen on those answers alone: the validation
records stay unseen until they are counted.

Least squares against 0 and 1 is no model of probabilities, but on a few dozen pictures a class it
answers better than multinomial logistic regression, and with a temperature more honestly too:
docs/probe.md has the figures.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

from trainer.cpu import cores

log = logging.getLogger(__name__)

# Relative to the mean squared length of a centred record. Both ends are limits, beyond which no
# answer changes: the nearest class mean, and a head that repeats the training labels.
L2_GRID = tuple(10.0 ** (1 - step / 4) for step in range(17))
# Where no record can be left out: of the order that is found elsewhere.
L2_WITHOUT_LEAVING_OUT, TEMPERATURE_WITHOUT_LEAVING_OUT = 0.1, 0.1
# The exact decomposition takes memory with the square of the records and time with the cube.
MAX_RECORDS = 6144
MAX_RANK = 2048
POWER_ITERATIONS = 2
# Directions with less than this share of the largest one's variance are rounding errors.
MIN_VARIANCE = 1e-6
RECORDS_PER_PRODUCT = 512
TEMPERATURES = (1e-3, 20.0)

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Head:
    """Softmax((features @ weight + bias) / temperature).

    weight: float32 [features, classes]; bias: float32 [classes].
    """

    weight: Matrix
    bias: Matrix
    temperature: float

    def probabilities(self, features: Matrix) -> Matrix:
        """float32 [records, classes] of float32 [records, features]."""
        return softmax((features @ self.weight + self.bias) / np.float32(self.temperature))


@dataclass(frozen=True, slots=True)
class Fit:
    """A head and how it was chosen.

    path: (l2, negative log-likelihood, accuracy) on left-out records, from strong to weak.
    left_out: how many records were left out, each for itself.
    held_out_accuracy: on them, at the chosen penalty; None where nothing could be left out.
    training_accuracy: of the head on the records that it was fitted on.
    """

    head: Head
    l2: float
    path: tuple[tuple[float, float, float], ...]
    left_out: int
    held_out_accuracy: float | None
    training_accuracy: float


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The records' directions, for a ridge regression with an intercept that is not penalised.

    variances: float32 [rank], the eigenvalues of the centred records' inner products, positive.
    directions: float32 [records, rank], the orthonormal eigenvectors.
    """

    variances: Matrix
    directions: Matrix

    def solve(self, targets: Matrix, l2: float) -> Matrix:
        """The dual solution [records, classes] for centred `targets` of the same shape.

        The weights are the centred records, transposed, times it.
        """
        projected = self.directions.T @ targets
        return self.directions @ (projected / (self.variances + np.float32(l2))[:, None])

    def leave_one_out(self, targets: Matrix, l2: float) -> Matrix:
        """What a fit to all records but one would say of that one, for each: [records, classes].

        Exact for the intercept too: `targets` and the result are without the targets' mean.
        """
        shares = self.variances / (self.variances + np.float32(l2))
        fitted = self.directions @ (shares[:, None] * (self.directions.T @ targets))
        leverages = np.einsum("ij,j,ij->i", self.directions, shares, self.directions)
        leverages += np.float32(1 / len(targets))
        return targets - (targets - fitted) / (1 - leverages)[:, None]


def fit_head(features: Matrix, labels: Labels, classes: int, seed: int) -> Fit:
    """Fit on float32 [records, features] and int64 [records]; `features` is centred in place.

    Deterministic; `seed` has a part beyond MAX_RECORDS only.
    """
    mean = features.mean(axis=0)
    features -= mean
    size = float(np.einsum("ij,ij->", features, features, dtype=np.float64)) / len(features)
    # The bias would hold how frequent the classes are. Without it a rare class is found more often
    # and a frequent one hardly less.
    targets = np.eye(classes, dtype=np.float32)[labels]
    targets -= targets.mean(axis=0)
    spectrum = decompose(features, np.random.default_rng(seed))

    judged = leavable(labels)
    l2, temperature, path = L2_WITHOUT_LEAVING_OUT, TEMPERATURE_WITHOUT_LEAVING_OUT, []
    if judged.any():

        def judge(l2: float) -> tuple[float, float, float, float]:
            scores = spectrum.leave_one_out(targets, l2 * size)[judged]
            found = fit_temperature(scores, labels[judged])
            loss = _negative_log_likelihood(scores / np.float32(found), labels[judged])
            return l2, loss, float((scores.argmax(axis=1) == labels[judged]).mean()), found

        with ThreadPoolExecutor(cores(), "penalties") as executor:
            judgements = list(executor.map(judge, L2_GRID))
        path = [each[:3] for each in judgements]
        l2, loss, accuracy, temperature = min(judgements, key=lambda each: each[1])
        log.info("l2=%.1e left-out loss=%.4f accuracy=%.4f", l2, loss, accuracy)

    weight = features.T @ spectrum.solve(targets, l2 * size)
    answers = (features @ weight).argmax(axis=1)
    return Fit(
        head=Head(weight, -(mean @ weight), temperature),
        l2=l2,
        path=tuple(path),
        left_out=int(judged.sum()),
        held_out_accuracy={penalty: accuracy for penalty, _, accuracy in path}.get(l2),
        training_accuracy=float((answers == labels).mean()),
    )


def decompose(x: Matrix, rng: np.random.Generator) -> Spectrum:
    """The spectrum of centred records [records, features].

    Exact up to MAX_RECORDS; beyond, the leading directions by a randomised range finder (Halko,
    Martinsson and Tropp, 2011, arXiv:0909.4061, algorithm 4.4).
    """
    if len(x) <= MAX_RECORDS:
        variances, directions = _eigen(_inner_products(x))
    else:
        rank = min(MAX_RANK, x.shape[1])
        basis = np.linalg.qr(x @ rng.standard_normal((x.shape[1], rank), np.float32))[0]
        for _ in range(POWER_ITERATIONS):
            basis = np.linalg.qr(x @ np.linalg.qr(x.T @ basis)[0])[0]
        variances, rotation = _eigen(_inner_products(basis.T @ x))
        directions = basis @ rotation
    first = np.searchsorted(variances, MIN_VARIANCE * variances[-1], side="right")
    return Spectrum(variances[first:], directions[:, first:])


def _eigen(products: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues, ascending, and eigenvectors, which take the place of `products` in memory."""
    # LAPACK counts by columns: what is the lower triangle here is the upper one there.
    values, vectors = eigh(
        products.T, lower=False, overwrite_a=True, check_finite=False, driver="evd"
    )
    return values, vectors


def _inner_products(x: Matrix) -> Matrix:
    """x @ x.T, its lower triangle, on all cores and with the same digits on any number of them."""
    result = np.zeros((len(x), len(x)), np.float32)

    def fill(first: int) -> None:
        rows = slice(first, first + RECORDS_PER_PRODUCT)
        upto = min(rows.stop, len(x))
        np.matmul(x[rows], x[:upto].T, out=result[rows, :upto])

    with ThreadPoolExecutor(cores(), "products") as executor:
        list(executor.map(fill, range(0, len(x), RECORDS_PER_PRODUCT)))
    return result


def leavable(labels: Labels) -> NDArray[np.bool_]:
    """Which records leave another of their class to train on, bool [records].

    Where that is so for one class only, for none: whoever always answers with that class would be
    judged the best.
    """
    counts = np.bincount(labels)
    if (counts > 1).sum() < 2:
        return np.zeros(len(labels), np.bool_)
    return counts[labels] > 1


def fit_temperature(logits: Matrix, labels: Labels) -> float:
    """The temperature under which `labels` are most likely."""
    result = minimize_scalar(
        lambda log_t: _negative_log_likelihood(logits / np.exp(log_t), labels),
        bounds=np.log(TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(result.x))


def softmax(logits: Matrix) -> Matrix:
    """Over the last axis."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def _negative_log_likelihood(logits: Matrix, labels: Labels) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    truth = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - truth).mean())
