"""Probabilities that mean what they say: a temperature, fitted on some answers, judged on others.

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks" (2017),
for temperature scaling and for the expected calibration error.
"""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

BINS = 15

_COLDEST, _HOTTEST = 0.2, 10.0
_STEPS = 20  # each halves the range on a logarithmic scale: four digits at the end
_LEAST = 1e-12  # stands for a probability that was rounded to 0, whose logarithm there is none of


@dataclass(frozen=True, slots=True)
class Calibration:
    """The map from what an endpoint says to what a result says.

    temperature: above 1 the probabilities come closer together, below 1 they part.
    """

    temperature: float = 1.0

    def apply(self, probabilities: Sequence[float]) -> list[float]:
        """Every class's probability to the power of 1/temperature, made to sum to 1.

        That is the softmax of logits divided by the temperature, so the order stays the same.
        """
        if self.temperature == 1.0:
            return list(probabilities)
        # Divided by the largest first, so that not all of them become 0.
        largest = max(probabilities)
        powers = [(p / largest) ** (1 / self.temperature) for p in probabilities]
        total = sum(powers)
        return [power / total for power in powers]

    def to_dict(self) -> dict[str, Any]:
        """The map as cards and reports hold it."""
        if self == IDENTITY:
            return {"method": "none", "parameters": {}}
        return {"method": "temperature", "parameters": {"temperature": self.temperature}}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises KeyError, TypeError, ValueError."""
        if document["method"] == "none":
            return cls()
        return cls(float(document["parameters"]["temperature"]))


IDENTITY = Calibration()


def fit(answers: Sequence[Sequence[float]], truths: Sequence[int]) -> Calibration:
    """The temperature under which the true classes are most probable.

    answers: probabilities in class order, one row for each picture; truths: its class.
    """
    logits = [array("d", [math.log(max(p, _LEAST)) for p in answer]) for answer in answers]
    coldest, hottest = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(_STEPS):
        middle = (coldest + hottest) / 2
        if _too_hot(logits, truths, math.exp(-middle)):
            hottest = middle
        else:
            coldest = middle
    return Calibration(round(math.exp((coldest + hottest) / 2), 4))


def _too_hot(logits: Sequence[Sequence[float]], truths: Sequence[int], inverse: float) -> bool:
    """Whether a larger inverse temperature would make the truths more probable.

    The loss is convex in the inverse temperature; its slope there is, summed over the pictures,
    the mean logit under the scaled probabilities less the logit of the truth.
    """
    slope = 0.0
    for row, truth in zip(logits, truths, strict=True):
        largest = max(row)
        weights = [math.exp(inverse * (logit - largest)) for logit in row]
        mean = sum(map(float.__mul__, weights, row)) / sum(weights)
        slope += mean - row[truth]
    return slope < 0


def log_loss(answers: Sequence[Sequence[float]], truths: Sequence[int]) -> float:
    """The mean negative logarithm of the probability that the true classes were given."""
    losses = [
        -math.log(max(answer[truth], _LEAST)) for answer, truth in zip(answers, truths, strict=True)
    ]
    return math.fsum(losses) / len(losses)


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose probability is in [low, high): how many, how probable and how right (mean)."""

    low: float
    high: float
    count: int
    probability: float
    accuracy: float


def reliability(answers: Sequence[tuple[float, bool]], bins: int = BINS) -> list[Bin]:
    """The bins of equal width that hold any answers, from the least to the most probable.

    answers: the best class's probability, and whether it was right.
    """
    held: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for probability, right in answers:
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
    """The expected calibration error: how far apart probability and accuracy are, on average."""
    total = sum(entry.count for entry in bins)
    return (
        math.fsum(entry.count * abs(entry.probability - entry.accuracy) for entry in bins) / total
    )


def noise_floor(bins: Sequence[Bin]) -> float:
    """The expected calibration error that honest probabilities show by chance on as many answers.

    Each bin's share of right answers is nearly normal about its probability; this is the mean
    distance of a normal from its mean, the standard deviation times the root of 2/pi.
    """
    total = sum(entry.count for entry in bins)
    chance = (
        math.sqrt(2 * entry.count * entry.probability * (1 - entry.probability) / math.pi)
        for entry in bins
    )
    return math.fsum(chance) / total


def halves(truths: Sequence[int], digests: Sequence[str]) -> list[bool]:
    """Which pictures to fit on (True), the others being for the judgement.

    Each class is cut in two, by the order of its pictures' digests: the same in every attempt.
    """
    order = sorted(range(len(truths)), key=lambda i: (truths[i], digests[i]))
    to_fit = [False] * len(truths)
    for place, index in enumerate(order):
        to_fit[index] = place % 2 == 0
    return to_fit
