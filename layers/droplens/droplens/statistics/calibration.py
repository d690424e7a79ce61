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
_GRID = 25
_STEP = (_HOTTEST - _COLDEST) / (_GRID - 1)
# The logarithms of the temperatures at which predictions are computed; between them, interpolated.
_HEATS = tuple(_COLDEST + number * _STEP for number in range(_GRID))
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
    return _Tops.of(predictions, truths).fit(range(len(truths)))


@dataclass(frozen=True, slots=True)
class CrossFit:
    """A calibration fitted on all images, and one for each fold, fitted on the other folds.

    gain: by how much the latter lower the binary cross-entropy of the top predictions of their own
    folds, as the mean over all images divided by its standard error.
    """

    calibration: Calibration
    of_fold: tuple[Calibration, ...]
    gain: float


def cross_fit(
    predictions: Sequence[Sequence[float]], truths: Sequence[int], fold_of: Sequence[int]
) -> CrossFit:
    """Fit on all images, and for each fold on the images of the other folds.

    fold_of: as `folds` returned it, for at least two folds.
    """
    tops = _Tops.of(predictions, truths)
    everything = range(len(truths))
    of_fold = tuple(
        tops.fit([index for index in everything if fold_of[index] != fold])
        for fold in range(max(fold_of) + 1)
    )
    # Not at the top: it takes 20 ms of a cold start of classify_image, which fits no calibration.
    from statistics import fmean, stdev

    differences = [
        _cross_entropy(max(row), right) - _cross_entropy(max(of_fold[fold].apply(row)), right)
        for row, right, fold in zip(predictions, tops.right, fold_of, strict=True)
    ]
    error = stdev(differences) / math.sqrt(len(differences))
    gain = fmean(differences) / error if error else 0.0
    return CrossFit(tops.fit(everything), of_fold, gain)


@dataclass(frozen=True, slots=True)
class _Tops:
    """The top predictions at each temperature of the grid, so that a fit to some is quick.

    against: the logarithm of the odds against each, for each logarithm of a temperature in _HEATS;
    right: whether it is correct; classes: their number.
    """

    against: tuple[Sequence[float], ...]
    right: tuple[bool, ...]
    classes: int

    @classmethod
    def of(cls, predictions: Sequence[Sequence[float]], truths: Sequence[int]) -> Self:
        against: tuple[array[float], ...] = tuple(array("d") for _ in _HEATS)
        right = []
        for row, truth in zip(predictions, truths, strict=True):
            logits = [math.log(max(p, _LEAST)) for p in row]
            largest = max(logits)
            logits = [logit - largest for logit in logits]
            right.append(logits[truth] == 0.0)
            for column, heat in zip(against, _HEATS, strict=True):
                inverse = math.exp(-heat)
                others = sum([math.exp(inverse * logit) for logit in logits]) - 1
                column.append(math.log(max(others, _LEAST)))
        return cls(against, tuple(right), len(predictions[0]))

    def fit(self, chosen: Sequence[int]) -> Calibration:
        """As the function `fit`, to the predictions of these indices."""
        hits = [index for index in chosen if self.right[index]]
        misses = [index for index in chosen if not self.right[index]]

        def mixed(place: float) -> tuple[float, float]:
            """The best uniform weight at a place between two of _HEATS, and its loss."""
            low = min(int(place), len(_HEATS) - 2)
            cold, hot = self.against[low], self.against[low + 1]
            # Of two classes they are linear in the inverse of the temperature.
            inverses = [math.exp(-_heat(at)) for at in (place, low, low + 1)]
            share = (inverses[0] - inverses[1]) / (inverses[2] - inverses[1])
            right, wrong = (
                [1 / (1 + math.exp((1 - share) * cold[n] + share * hot[n])) for n in indices]
                for indices in (hits, misses)
            )
            uniform, loss = _least(
                lambda weight: _loss(right, wrong, weight, self.classes), 0, _MOST_UNIFORM
            )
            return uniform, loss + _heat(place) ** 2 / (2 * _EXPECTED**2)

        coarse = min(range(0, len(_HEATS), 2), key=lambda place: mixed(place)[1])
        low, high = max(0, coarse - 2), min(len(_HEATS) - 1, coarse + 2)
        place, _ = _least(lambda place: mixed(place)[1], low, high)
        return Calibration(round(math.exp(_heat(place)), 4), round(mixed(place)[0], 4))


def _heat(place: float) -> float:
    return _COLDEST + place * _STEP


def _loss(right: Sequence[float], wrong: Sequence[float], uniform: float, classes: int) -> float:
    """The cross-entropy of correct and of wrong top predictions with these probabilities."""
    scale, least = 1 - uniform, uniform / classes
    return -math.fsum([math.log(scale * p + least) for p in right]) - math.fsum(
        [math.log(max(1 - scale * p - least, _LEAST)) for p in wrong]
    )


def _cross_entropy(probability: float, right: bool) -> float:
    return -math.log(max(probability if right else 1 - probability, _LEAST))


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


def folds(truths: Sequence[int], digests: Sequence[str], count: int) -> list[int]:
    """A stratified partition of images into `count` folds: the number of each image's fold.

    By the order of digests within each class, so that every attempt gives the same partition. The
    folds continue from class to class, so that their sizes differ by one at most.
    """
    order = sorted(range(len(truths)), key=lambda i: (truths[i], digests[i]))
    fold_of = [0] * len(truths)
    for place, index in enumerate(order):
        fold_of[index] = place % count
    return fold_of
