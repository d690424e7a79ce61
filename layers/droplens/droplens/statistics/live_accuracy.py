"""The accuracy of a model on the images that it classifies, from a reviewed random sample of them.

Every image is drawn into the sample with a known probability, whatever the model says of it. A
review may be missing, and more often for some images than for others: people skip what is
difficult. So the sample is divided into strata, and in each of them the reviewed images stand for
all that were drawn (poststratification for nonresponse: S. L. Lohr, "Sampling: Design and
Analysis", chapter 8). Only what remains of such differences within a stratum biases the accuracy.
An image's weight is the inverse of the probability with which it was drawn (D. G. Horvitz, D. J.
Thompson, "A generalization of sampling without replacement from a finite universe" (1952)), which
changes with the parameter that sets it, times the inverse of the reviewed share of its stratum.

The interval is Wilson's with the sample size divided by the design effect, which C. Franco and
others recommend: "Comparative study of confidence intervals for proportions in complex sample
surveys" (2019), https://pmc.ncbi.nlm.nih.gov/articles/PMC6690503. The variance is that of the
linearized ratio. For it only, each stratum has one more correct image and one more wrong one:
without them a stratum whose few reviewed images are all correct would be taken to be known exactly.
Images that resemble each other, such as frames of one video, are not independent: the interval is
then too narrow.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from droplens.statistics.intervals import Z95_TWO_SIDED, wilson_of_share


@dataclass(frozen=True, slots=True)
class Sampled:
    """An image of the sample.

    share: the probability with which it was drawn, in (0, 1]; stratum: any name; correct: whether
    the prediction is correct, None where that is unknown; counted: False for one that is no case of
    right or wrong.
    """

    share: float
    stratum: str
    correct: bool | None
    counted: bool = True


@dataclass(frozen=True, slots=True)
class LiveAccuracy:
    """An accuracy with its interval, all in [0, 1]. count: reviewed images that it is of."""

    value: float
    lower: float
    upper: float
    count: int


def live_accuracy(sample: Iterable[Sampled], z: float = Z95_TWO_SIDED) -> LiveAccuracy | None:
    """The accuracy on all images from a random sample of them; None where none is reviewed.

    z: 1.96 gives a two-sided 95 % interval.

    A stratum of which no image is reviewed has no part in it.
    """
    strata: defaultdict[str, _Stratum] = defaultdict(_Stratum)
    for one in sample:
        strata[one.stratum].add(one)
    known = [stratum for stratum in strata.values() if stratum.reviewed.total]
    if not (count := sum(stratum.count for stratum in known)):
        return None
    value = _ratio([(one.weight_of_counted, one.accuracy) for one in known])
    lower, upper = wilson_of_share(value, _effective_size(known), z)
    return LiveAccuracy(value, lower, upper, count)


@dataclass(slots=True)
class _Weights:
    """The sum of weights, and of their squares."""

    total: float = 0.0
    squares: float = 0.0

    def add(self, weight: float) -> None:
        self.total += weight
        self.squares += weight**2

    @property
    def size(self) -> float:
        """The number of images of equal weight that are worth as much (L. Kish, "Weighting for
        unequal Pi" (1992))."""
        return self.total**2 / self.squares


class _Stratum:
    """The sums of one stratum. count: reviewed images that count."""

    def __init__(self) -> None:
        self.drawn, self.reviewed = _Weights(), _Weights()
        self.counted = self.correct = 0.0
        self.count = 0

    def add(self, one: Sampled) -> None:
        weight = 1 / one.share
        self.drawn.add(weight)
        if one.correct is None:
            return
        self.reviewed.add(weight)
        if one.counted:
            self.count += 1
            self.counted += weight
            self.correct += weight * one.correct

    @property
    def share_counted(self) -> float:
        return self.counted / self.reviewed.total

    @property
    def weight_of_counted(self) -> float:
        """Of all images that were drawn and count, reviewed or not."""
        return self.drawn.total * self.share_counted

    @property
    def accuracy(self) -> float:
        return self.correct / self.counted if self.counted else 0.0

    @property
    def smoothed_accuracy(self) -> float:
        counted = self.reviewed.size * self.share_counted
        return (counted * self.accuracy + 1) / (counted + 2)


def _ratio(parts: Sequence[tuple[float, float]]) -> float:
    """The mean of values by weight."""
    return sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts)


def _effective_size(strata: Sequence[_Stratum]) -> float:
    """The number of images of a simple random sample that tells as much of the accuracy."""
    drawn = sum(one.drawn.total for one in strata)
    size = drawn**2 / sum(one.drawn.squares for one in strata)
    accuracy = _ratio([(one.weight_of_counted, one.smoothed_accuracy) for one in strata])
    within = between = 0.0
    for one in strata:
        part, own = one.drawn.total / drawn, one.smoothed_accuracy
        # Of the residual of an image, which is 0 where it does not count.
        mean = one.share_counted * (own - accuracy)
        square = one.share_counted * (own * (1 - accuracy) ** 2 + (1 - own) * accuracy**2)
        within += part**2 * (square - mean**2) / one.reviewed.size
        between += part * mean**2 / size
    counted = sum(one.weight_of_counted for one in strata) / drawn
    return accuracy * (1 - accuracy) * counted**2 / (within + between)
