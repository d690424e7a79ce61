"""A softmax temperature that depends on a prediction's highest score.

Scores of ridge regression are fitted to 0 and 1: the highest score of an easy image is near 1, that
of a difficult image near the other scores. One temperature for all (Guo et al., 2017,
arXiv:1706.04599) does not fit both. Here its logarithm is a linear function of the highest score.
The ranking of the classes never changes.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

# Bounds of every temperature.
TEMPERATURES = (1e-3, 20.0)
# Standard deviation of the normal prior on the logarithm of the ratio of both temperatures: with a
# few dozen predictions they stay close to each other.
PRIOR = 1.0
# Of the fit, in float64.
RECORDS_PER_PASS = 512

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Temperature:
    """at_low where the highest score is at most `low`, at_high from `high` on, geometric between.

    low is less than high.
    """

    at_low: float
    at_high: float
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def constant(cls, temperature: float) -> "Temperature":
        """The same temperature for all scores."""
        return cls(temperature, temperature)

    @property
    def slope(self) -> float:
        """Change of the temperature's logarithm for a unit of the highest score."""
        return float(np.log(self.at_high / self.at_low)) / (self.high - self.low)

    @property
    def offset(self) -> float:
        """The temperature's logarithm is slope * clip(highest score, low, high) - offset."""
        return self.slope * self.low - float(np.log(self.at_low))

    def of(self, scores: Matrix) -> Matrix:
        """float32 [records, 1] of scores [records, classes]."""
        best = np.clip(scores.max(axis=1, keepdims=True), self.low, self.high)
        result: Matrix = np.exp(self.slope * best - self.offset).astype(np.float32)
        return result

    def report(self, fitted_on: int) -> dict[str, Any]:
        """The object `calibration` of training.json."""
        if self.at_low == self.at_high:
            parameters = {"temperature": self.at_low}
            return {"method": "temperature", "parameters": parameters, "fitted_on": fitted_on}
        return {
            "method": "temperature by highest score",
            "parameters": asdict(self),
            "fitted_on": fitted_on,
        }


def fit_temperature(scores: Matrix, labels: Labels) -> float:
    """The one temperature that maximises the likelihood of `labels`."""
    result = minimize_scalar(
        lambda log_t: negative_log_likelihood(scores / np.exp(log_t), labels),
        bounds=np.log(TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(result.x))


def fit_by_highest_score(scores: Matrix, labels: Labels) -> Temperature:
    """Maximum a posteriori on scores [records, classes] that were not fitted to these records."""
    best = scores.max(axis=1)
    low, high = float(best.min()), float(best.max())
    start = fit_temperature(scores, labels)
    if low == high:
        return Temperature.constant(start)
    place = ((best - low) / (high - low)).astype(np.float64)

    def objective(logs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss of the logarithms of both temperatures, and its gradient."""
        temperatures = np.exp(logs[0] + (logs[1] - logs[0]) * place)
        loss, slopes = 0.0, np.empty(len(labels))
        for first in range(0, len(labels), RECORDS_PER_PASS):
            rows = slice(first, first + RECORDS_PER_PASS)
            losses, slopes[rows] = _losses(scores[rows], labels[rows], temperatures[rows])
            loss += float(losses.sum())
        difference = logs[1] - logs[0]
        gradient = np.array([(slopes * (1 - place)).sum(), (slopes * place).sum()])
        gradient += np.array([-1, 1]) * difference / PRIOR**2
        count = len(labels)
        return (loss + difference**2 / (2 * PRIOR**2)) / count, gradient / count

    bounds = [tuple(np.log(TEMPERATURES))] * 2
    found = minimize(objective, np.log([start, start]), jac=True, bounds=bounds, method="L-BFGS-B")
    at_low, at_high = np.exp(found.x).tolist()
    return Temperature(at_low, at_high, low, high)


def _losses(
    scores: Matrix, labels: Labels, temperatures: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each record's negative log-likelihood, and its derivative by the temperature's logarithm."""
    logits = (scores - scores.max(axis=1, keepdims=True)) / temperatures[:, None]
    exponents = np.exp(logits)
    sums = exponents.sum(axis=1)
    truth = logits[np.arange(len(labels)), labels]
    return np.log(sums) - truth, truth - (exponents * logits).sum(axis=1) / sums


def negative_log_likelihood(logits: Matrix, labels: Labels) -> float:
    """The mean over records of logits [records, classes]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    truth = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - truth).mean())
