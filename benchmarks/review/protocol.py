"""People label images of a stream in an order, and the model learns from each batch of labels.

A classifier begins with few labelled images. The images of the stream arrive at once, unlabelled,
and the live model classifies them. Those that are unsure or unfamiliar wait for a person, as in the
product, and by chance a few of the others, in the same order; in the product their place is random.
Each batch of labels is followed by a training of recipe `probe`, whose labels from people are
trained on and never validated on, and by an evaluation that makes the next model card. Each model
is judged on images that nothing has seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.model import Model
from benchmarks.trust.pictures import Pictures
from benchmarks.trust.splits import share_of_classes
from droplens.domain.result import rank

# Of every class: to judge by, and labelled from the start; the rest is the stream.
EXAM, LABELLED = 0.25, 0.2
# Of the labelled images, as ValidationShare has it.
VALIDATION = 0.2
# Of the images that are sure and familiar.
SPOT_CHECKS = 0.01
# In which the whole stream would be labelled.
BATCHES = 8

# In place of a probability of 0, of which the logarithm is taken.
_LEAST = 1e-12

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of images, sorted: each image is in exactly one of the four."""

    train: Numbers
    validation: Numbers
    stream: Numbers
    exam: Numbers


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the results of images say that wait for a person, each an array [images].

    image: their numbers; best, second: the probabilities of the two best classes, calibrated;
    entropy: of all classes, in nats; chance: in [0, 1), by the image alone; confident, familiar: as
    the result has it.
    """

    image: Numbers
    best: Floats
    second: Floats
    entropy: Floats
    chance: Floats
    confident: NDArray[np.bool_]
    familiar: NDArray[np.bool_]

    def of(self, chosen: NDArray[np.bool_]) -> "Waiting":
        """Of some of the images."""
        return Waiting(
            self.image[chosen],
            self.best[chosen],
            self.second[chosen],
            self.entropy[chosen],
            self.chance[chosen],
            self.confident[chosen],
            self.familiar[chosen],
        )


# A sort key for each image by what its own result says; the least comes first.
Order = Callable[[Waiting], Floats]


@dataclass(frozen=True, slots=True)
class Way:
    """How images come to a person.

    queue: whether only those that wait for a person do, else every image of the stream; renewed:
    whether each new model answers the images again that wait, as `Reclassify=unsure` has it.
    """

    order: Order
    queue: bool
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """One model after each batch: the labels that people had given, and the exam's accuracy."""

    labels: list[int]
    accuracies: list[float]


def split_of(labels: Numbers, seed: int) -> Split:
    """Divide the images of every class."""
    rng = np.random.default_rng(seed)
    everything = np.arange(len(labels))
    exam = share_of_classes(everything, labels, EXAM, rng)
    rest = np.setdiff1d(everything, exam)
    labelled = share_of_classes(rest, labels, LABELLED / (1 - EXAM), rng)
    validation = share_of_classes(labelled, labels, VALIDATION, rng)
    return Split(
        train=np.setdiff1d(labelled, validation),
        validation=validation,
        stream=np.setdiff1d(rest, labelled),
        exam=exam,
    )


def review(pictures: Pictures, split: Split, way: Way, seed: int) -> Curve:
    """Label the stream, or what of it comes to a person, batch by batch."""
    rng = np.random.default_rng(seed)
    chance, checked = rng.random(len(pictures.labels)), rng.random(len(pictures.labels))
    batch = -(-len(split.stream) // BATCHES)
    labelled = split.stream[:0]
    waiting: Waiting | None = None
    curve = Curve([], [])
    while True:
        model = _train(pictures, split, labelled, seed)
        curve.labels.append(len(labelled))
        curve.accuracies.append(_accuracy(model, pictures, split.exam))
        if waiting is None or way.renewed:
            unlabelled = np.setdiff1d(split.stream, labelled)
            waiting = _results(model, pictures, unlabelled, chance)
            if way.queue:
                waiting = waiting.of(_enters(waiting, checked[unlabelled]))
            order = np.argsort(way.order(waiting), kind="stable")
            ordered = waiting.image[order]
        ordered = ordered[~np.isin(ordered, labelled)]
        if not len(ordered):
            return curve
        labelled = np.concatenate([labelled, ordered[:batch]])


def _train(pictures: Pictures, split: Split, labelled: Numbers, seed: int) -> Model:
    learnt = np.concatenate([split.train, labelled])
    train, validation = (
        (pictures.features[part], pictures.labels[part]) for part in (learnt, split.validation)
    )
    return Model.train(train, validation, pictures.classes, seed)


def _accuracy(model: Model, pictures: Pictures, exam: Numbers) -> float:
    predicted = model.fit.head.probabilities(pictures.features[exam]).argmax(axis=1)
    return float((predicted == pictures.labels[exam]).mean())


def _results(model: Model, pictures: Pictures, images: Numbers, chance: Floats) -> Waiting:
    responses, card = model.responses(pictures.features[images]), model.card
    calibrated = [card.calibration.apply(each.probabilities) for each in responses]
    probabilities = np.array(calibrated).reshape(-1, len(pictures.classes))
    tops = [rank(each.probabilities, card) for each in responses]
    familiar = np.array([card.is_familiar(each.novelty) is not False for each in responses], bool)
    probable = [card.is_confident(top[0].label, top[0].probability) for top in tops]
    return Waiting(
        image=images,
        best=np.array([top[0].probability for top in tops], float),
        second=np.array([top[1].probability for top in tops], float),
        entropy=-(probabilities * np.log(np.maximum(probabilities, _LEAST))).sum(axis=1),
        chance=chance[images],
        confident=np.array(probable, bool) & familiar,
        familiar=familiar,
    )


def _enters(results: Waiting, checked: Floats) -> NDArray[np.bool_]:
    """Whether an image enters the queue. checked: the chance by which spot checks are taken."""
    return ~results.confident | (checked < SPOT_CHECKS)
