"""Calibration methods to compare ours with.

Each is fitted on predictions with their true classes, and then gives the probability of the top
class of other predictions. A prediction is a row of probabilities in class order, as an endpoint
returns it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize

from trainer.recipes.ridge_head import softmax
from trainer.recipes.temperature import fit_temperature

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]
Map = Callable[[Rows], NDArray[np.float64]]

_LEAST = 1e-12
_EDGE = 1e-6


def temperature(rows: Rows, truths: Labels) -> Map:
    """One temperature by the log loss of all classes (Guo et al., 2017, arXiv:1706.04599)."""
    found = fit_temperature(_logits(rows), truths)
    return lambda others: softmax(_logits(others) / np.float32(found)).max(axis=1)


def beta(rows: Rows, truths: Labels) -> Map:
    """Three parameters on the best class's probability (Kull et al., 2017)."""
    inputs, right = _beta_inputs(rows), rows.argmax(axis=1) == truths

    def loss(weights: Rows) -> float:
        scores = inputs @ weights
        return float((np.logaddexp(0, scores) - right * scores).sum())

    weights = minimize(loss, np.array([1.0, 1.0, 0.0]), bounds=[(0, 9), (0, 9), (-9, 9)]).x
    return lambda others: 1 / (1 + np.exp(-_beta_inputs(others) @ weights))


def isotonic(rows: Rows, truths: Labels) -> Map:
    """Steps that only rise with the best class's probability (Zadrozny and Elkan, 2002)."""
    best = rows.max(axis=1)
    order = np.argsort(best)
    right = (rows.argmax(axis=1) == truths)[order].astype(float)
    steps = isotonic_regression(right).x
    return lambda others: np.interp(others.max(axis=1), best[order], steps)


PEERS = {each.__name__: each for each in (temperature, beta, isotonic)}


def _logits(rows: Rows) -> NDArray[np.float32]:
    return np.log(np.maximum(rows, _LEAST)).astype(np.float32)


def _beta_inputs(rows: Rows) -> Rows:
    best = np.clip(rows.max(axis=1), _EDGE, 1 - _EDGE)
    return np.stack([np.log(best), -np.log1p(-best), np.ones_like(best)], axis=1)
