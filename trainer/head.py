"""The linear head: multinomial logistic regression on frozen features, in seconds on a CPU.

The strength of its L2 penalty is chosen by cross-validation on the training records alone, and so
is the softmax temperature, fitted on the logits of held-out folds (Guo et al., 2017,
arXiv:1706.04599): the validation records stay unseen until they are counted.

With more features than records the weights lie in the span of the records, so everything is
solved in the coordinates of an orthonormal basis of that span: the same solution, fewer numbers.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from trainer.cpu import cores

log = logging.getLogger(__name__)

FOLDS = 4
# Per feature of unit variance. From a head that barely leaves the class frequencies to one that
# separates the training records outright.
L2_GRID = tuple(10.0 ** (-step / 2) for step in range(15))
# The path stops once this many weaker penalties in a row were no better.
PATIENCE = 2
L2_WITHOUT_FOLDS = 1e-3
MAX_RANK = 1024
SKETCH_OVERSAMPLING = 64
SKETCH_POWER_ITERATIONS = 2
MAX_ITERATIONS = 200
RELATIVE_TOLERANCE = 1e-6
TEMPERATURES = (0.05, 20.0)
# Keeps a feature that hardly varies from being blown up to unit variance.
MIN_DEVIATION = 1e-3
NO_FOLD = -1

Matrix = NDArray[np.float32]
Solution = NDArray[np.float64]
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

    path: (l2, negative log-likelihood, accuracy) on held-out folds, from strong to weak.
    at_grid_edge: the best penalty is the grid's first or last one, so a better may lie outside.
    held_out_accuracy: at the chosen penalty; None where nothing could be held out.
    training_accuracy: of the head on the records that it was fitted on.
    """

    head: Head
    l2: float
    path: tuple[tuple[float, float, float], ...]
    at_grid_edge: bool
    folds: int
    held_out_accuracy: float | None
    training_accuracy: float


def fit_head(features: Matrix, labels: Labels, classes: int, seed: int) -> Fit:
    """Fit on float32 [records, features] and int64 [records]; `features` is standardised in place.

    Deterministic under `seed`, which deals the records to the folds.
    """
    rng = np.random.default_rng(seed)
    mean = features.mean(axis=0)
    features -= mean
    variance = np.einsum("ij,ij->j", features, features) / len(features)
    scale = np.maximum(np.sqrt(variance), MIN_DEVIATION)
    features /= scale
    basis = row_basis(features, rng)
    coordinates = features @ basis

    folds = deal_folds(labels, rng)
    path, logits, l2 = _search_l2(coordinates, labels, classes, folds)
    held_out = folds != NO_FOLD
    temperature = fit_temperature(logits[held_out], labels[held_out]) if path else 1.0
    # Weak penalties leave the loss so flat that where a fit ends depends on where it began: the
    # head takes the way that the folds took, through every stronger penalty.
    solution = None
    for penalty in [stronger for stronger, *_ in path if stronger >= l2] or [l2]:
        solution = _fit_softmax(coordinates, labels, classes, penalty, solution)
    assert solution is not None
    weight = (basis @ solution[:-1].astype(np.float32)) / scale[:, None]
    bias = solution[-1].astype(np.float32) - mean @ weight
    return Fit(
        head=Head(weight, bias, temperature),
        l2=l2,
        path=tuple(path),
        at_grid_edge=l2 in (L2_GRID[0], L2_GRID[-1]),
        folds=len(np.unique(folds[held_out])),
        held_out_accuracy={penalty: accuracy for penalty, _, accuracy in path}.get(l2),
        training_accuracy=float((_logits(coordinates, solution).argmax(axis=1) == labels).mean()),
    )


def row_basis(x: Matrix, rng: np.random.Generator) -> Matrix:
    """Orthonormal float32 [features, rank] that spans the rows of `x` [records, features].

    Exact up to MAX_RANK; beyond, the leading directions by a randomised range finder (Halko,
    Martinsson and Tropp, 2011, arXiv:0909.4061, algorithm 4.4).
    """
    records, features = x.shape
    if min(records, features) <= MAX_RANK:
        return np.linalg.qr(x.T)[0] if records < features else np.eye(features, dtype=np.float32)
    sketch = rng.standard_normal((records, MAX_RANK + SKETCH_OVERSAMPLING), np.float32)
    basis = np.linalg.qr(x.T @ sketch)[0]
    for _ in range(SKETCH_POWER_ITERATIONS):
        basis = np.linalg.qr(x.T @ np.linalg.qr(x @ basis)[0])[0]
    return basis


def deal_folds(labels: Labels, rng: np.random.Generator) -> Labels:
    """Fold of each record, int64 [records], stratified; NO_FOLD is never held out.

    A class of c pictures spreads over min(c, FOLDS) folds, so that every fold leaves some of it to
    train on; a class with a single picture is always trained on. Where only one class could be
    held out, nothing is: whoever always answers with that class would be judged the best.
    """
    folds = np.full(len(labels), NO_FOLD, np.int64)
    present, counts = np.unique(labels, return_counts=True)
    if (counts > 1).sum() < 2:
        return folds
    for label in present:
        members = rng.permutation(np.flatnonzero(labels == label))
        start = rng.integers(FOLDS)
        if len(members) > 1:
            folds[members] = (start + np.arange(len(members))) % FOLDS
    return folds


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


def _search_l2(
    x: Matrix, labels: Labels, classes: int, folds: Labels
) -> tuple[list[tuple[float, float, float]], Matrix, float]:
    """The path over L2_GRID, the best penalty's held-out logits [records, classes], and it.

    Each penalty starts from the solution of the stronger one before it. The folds are fitted side
    by side, one to a core.
    """
    held_out = folds != NO_FOLD
    best_logits = np.zeros((len(labels), classes), np.float32)
    path: list[tuple[float, float, float]] = []
    best_l2, best_loss, worse = L2_WITHOUT_FOLDS, np.inf, 0
    if not held_out.any():
        return path, best_logits, best_l2
    solutions: dict[int, Solution] = {}

    def fit_without(fold: int) -> Solution:
        train = folds != fold
        return _fit_softmax(x[train], labels[train], classes, l2, solutions.get(fold))

    for l2 in L2_GRID:
        numbers = np.unique(folds[held_out]).tolist()
        with ThreadPoolExecutor(cores(), "folds") as executor:
            solutions = dict(zip(numbers, executor.map(fit_without, numbers), strict=True))
        logits = np.zeros_like(best_logits)
        for fold, solution in solutions.items():
            logits[folds == fold] = _logits(x[folds == fold], solution)
        scored, truth = logits[held_out], labels[held_out]
        loss = _negative_log_likelihood(scored / fit_temperature(scored, truth), truth)
        accuracy = float((scored.argmax(axis=1) == truth).mean())
        path.append((l2, loss, accuracy))
        log.info("l2=%.1e held-out loss=%.4f accuracy=%.4f", l2, loss, accuracy)
        if loss < best_loss:
            best_l2, best_loss, best_logits, worse = l2, loss, logits, 0
        elif (worse := worse + 1) == PATIENCE:
            break
    return path, best_logits, best_l2


def _fit_softmax(
    x: Matrix,
    labels: Labels,
    classes: int,
    l2: float,
    start: Solution | None = None,
) -> Solution:
    """Minimise mean cross-entropy + l2 / 2 * |weights|^2; the bias is not penalised.

    x: float32 [records, features]. Returns float64 [features + 1, classes], the bias last.
    """
    records, features = x.shape
    shape = (features + 1, classes)
    rows = np.arange(records)

    def loss_and_gradient(flat: Solution) -> tuple[float, Solution]:
        solution = flat.reshape(shape)
        logits = _logits(x, solution)
        logits -= logits.max(axis=1, keepdims=True)
        truth = logits[rows, labels].astype(np.float64)
        exponents = np.exp(logits, out=logits)
        totals = exponents.sum(axis=1, keepdims=True)
        loss = np.log(totals[:, 0].astype(np.float64)).mean() - truth.mean()
        loss += 0.5 * l2 * np.square(solution[:-1]).sum()
        residual = np.divide(exponents, totals, out=exponents)
        residual[rows, labels] -= 1
        residual /= records
        gradient = np.empty(shape)
        gradient[:-1] = x.T @ residual
        gradient[:-1] += l2 * solution[:-1]
        gradient[-1] = residual.sum(axis=0)
        return float(loss), gradient.ravel()

    result = minimize(
        loss_and_gradient,
        np.zeros(shape).ravel() if start is None else start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "ftol": RELATIVE_TOLERANCE, "gtol": 0.0},
    )
    return result.x.reshape(shape)


def _logits(x: Matrix, solution: Solution) -> Matrix:
    return x @ solution[:-1].astype(np.float32) + solution[-1].astype(np.float32)


def _negative_log_likelihood(logits: Matrix, labels: Labels) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    truth = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - truth).mean())
