"""Calibration of probabilities by temperature scaling with a uniform mixture.

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks" (2017),
for temperature scaling and for the expected calibration error; J. Zhang, B. Kailkhura, T. Y.-J.
Han, "Mix-n-Match" (2020), for mixing in the uniform distribution.
"""

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

BINS = 15

_COLDEST, _HOTTEST = math.log(0.2), math.log(10.0)
# Standard deviation of the normal prior on the logarithm of the temperature: it outweighs the noise
# of a few dozen images, and is outweighed by a few hundred.
_EXPECTED = 0.5
_MOST_UNIFORM = 0.5
_GRID = 13
_GOLDEN = (math.sqrt(5) - 1) / 2
_LEAST = 1e-12  # in place of a probability that was rounded to 0, whose logarithm is undefined


@dataclass(frozen=True, slots=True)
class Calibration:
    """The map from an endpoint's probabilities to those of a result.

    temperature: above 1 the distribution becomes flatter, below 1 sharper.
    uniform: weight in [0, 0.5] of the uniform distribution that is mixed in, so that no
    probability is 1.
    """

    temperature: float = 1.0
    uniform: float = 0.0

    def apply(self, probabilities: Sequence[float]) -> list[float]:
        """Calibrated probabilities, in class order: to the power of 1/temperature, normalised, and
        mixed with the uniform distribution. The ranking does not change.
        """
        if self == IDENTITY:
            return list(probabilities)
        # Divided by the largest first, so that not all of them underflow to 0.
        largest = max(probabilities)
        powers = [(p / largest) ** (1 / self.temperature) for p in probabilities]
        scale = (1 - self.uniform) / sum(powers)
        least = self.uniform / len(powers)
        return [power * scale + least for power in powers]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of model cards and evaluations."""
        if self == IDENTITY:
            return {"method": "none", "parameters": {}}
        return {
            "method": "temperature and uniform",
            "parameters": {"temperature": self.temperature, "uniform": self.uniform},
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises KeyError, TypeError, ValueError."""
        if document["method"] == "none":
            return cls()
        parameters = document["parameters"]
        return cls(float(parameters["temperature"]), float(parameters["uniform"]))


IDENTITY = Calibration()


def fit(predictions: Sequence[Sequence[float]], truths: Sequence[int]) -> Calibration:
    """Fit the calibration by maximum a posteriori of whether the top predictions are correct.

    predictions: probabilities in class order, one row for each image; truths: its class.

    Decisions rest on the top prediction's probability, so the loss is the binary cross-entropy of
    that one, with a normal prior on the logarithm of the temperature.
    """
    logits = [array("d", [math.log(max(p, _LEAST)) for p in row]) for row in predictions]
    for row in logits:
        largest = max(row)
        for place, logit in enumerate(row):
            row[place] = logit - largest
    right = [row[truth] == 0.0 for row, truth in zip(logits, truths, strict=True)]
    classes = len(logits[0])

    def mixed(heat: float) -> tuple[float, float]:
        """The best uniform weight for a logarithm of the temperature, and its loss."""
        inverse = math.exp(-heat)
        best = [1 / sum([math.exp(inverse * logit) for logit in row]) for row in logits]
        uniform, loss = _least(lambda share: _loss(best, right, share, classes), 0, _MOST_UNIFORM)
        return uniform, loss + heat**2 / (2 * _EXPECTED**2)

    step = (_HOTTEST - _COLDEST) / (_GRID - 1)
    coarse = min(
        (_COLDEST + number * step for number in range(_GRID)), key=lambda heat: mixed(heat)[1]
    )
    low, high = max(_COLDEST, coarse - step), min(_HOTTEST, coarse + step)
    heat, _ = _least(lambda heat: mixed(heat)[1], low, high)
    return Calibration(round(math.exp(heat), 4), round(mixed(heat)[0], 4))


def _loss(best: Sequence[float], right: Sequence[bool], uniform: float, classes: int) -> float:
    loss = 0.0
    for probability, is_right in zip(best, right, strict=True):
        p = (1 - uniform) * probability + uniform / classes
        loss -= math.log(max(p if is_right else 1 - p, _LEAST))
    return loss


def _least(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """The minimum of a unimodal function on [low, high]: its argument and value.

    By golden section search, to a 300th of the interval.
    """
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(12):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (left, at_left) if at_left < at_right else (right, at_right)


def log_loss(predictions: Sequence[Sequence[float]], truths: Sequence[int]) -> float:
    """The mean negative log-likelihood of the true classes."""
    losses = [
        -math.log(max(row[truth], _LEAST)) for row, truth in zip(predictions, truths, strict=True)
    ]
    return math.fsum(losses) / len(losses)


@dataclass(frozen=True, slots=True)
class Bin:
    """Top predictions with a probability in [low, high): count, mean probability, accuracy."""

    low: float
    high: float
    count: int
    probability: float
    accuracy: float


def reliability(predictions: Sequence[tuple[float, bool]], bins: int = BINS) -> list[Bin]:
    """The non-empty bins of equal width, in ascending order of probability.

    predictions: the top prediction's probability, and whether it is correct.
    """
    held: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for probability, right in predictions:
        held[min(int(probability * bins), bins - 1)].append((probability, right))
    return [
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            count=len(members),
            probability=math.fsum(probability for probability, _ in members) / len(members),
            accuracy=sum(right for _, right in members) / len(members),
        )
        for number, members in enumerate(held)
        if members
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error (ECE): mean |probability - accuracy|, weighted by count."""
    total = sum(entry.count for entry in bins)
    return (
        math.fsum(entry.count * abs(entry.probability - entry.accuracy) for entry in bins) / total
    )


def noise_floor(bins: Sequence[Bin]) -> float:
    """The expected ECE of perfectly calibrated probabilities on as many predictions.

    Each bin's accuracy is nearly normal about its probability; this is the mean absolute deviation
    of a normal, its standard deviation times the root of 2/pi.
    """
    total = sum(entry.count for entry in bins)
    chance = (
        math.sqrt(2 * entry.count * entry.probability * (1 - entry.probability) / math.pi)
        for entry in bins
    )
    return math.fsum(chance) / total


def noise_limit(bins: Sequence[Bin]) -> float:
    """The ECE that perfectly calibrated probabilities stay below 19 times in 20.

    The noise floor plus two standard deviations: the absolute deviation of a normal has (1 - 2/pi)
    of the normal's variance.
    """
    total = sum(entry.count for entry in bins)
    variance = math.fsum(
        entry.count * entry.probability * (1 - entry.probability) for entry in bins
    ) * (1 - 2 / math.pi)
    return noise_floor(bins) + 2 * math.sqrt(variance) / total


def halves(truths: Sequence[int], digests: Sequence[str]) -> list[bool]:
    """A stratified split into images to fit on (True) and to evaluate the calibration on (False).

    By the order of digests within each class, so that every attempt gives the same split.
    """
    order = sorted(range(len(truths)), key=lambda i: (truths[i], digests[i]))
    to_fit = [False] * len(truths)
    for place, index in enumerate(order):
        to_fit[index] = place % 2 == 0
    return to_fit
