"""One repeat: models learn from a part of the pictures and are asked about the others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.maps import PEERS
from benchmarks.trust.model import Answers, Model
from benchmarks.trust.pictures import Pictures
from benchmarks.trust.splits import half_of_classes, share_of_classes, split_by_class
from benchmarks.trust.wrong_labels import Peer, Search, search

Pairs = list[tuple[float, bool]]


@dataclass(frozen=True, slots=True)
class UnseenClasses:
    """A model of half of the classes: about pictures of these, and of the others.

    limit: of its novelty.
    """

    own: Answers
    unseen: Answers
    limit: float


@dataclass(frozen=True, slots=True)
class Repeat:
    """The answers of one repeat.

    own: on the exam, whose true classes are `truths`; limit: of the novelty; maps: by calibration
    map, each exam picture's probability and whether the prediction is correct; foreign: by set of
    pictures; searches: by the way of changing labels, where some were changed.
    """

    own: Answers
    limit: float
    truths: NDArray[np.int64]
    maps: dict[str, Pairs]
    foreign: dict[str, Answers]
    unseen: UnseenClasses
    searches: dict[str, Search]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction on the exam is correct."""
        return self.own.label == self.truths


def repeat(pictures: Pictures, seed: int, peer: Peer | None) -> Repeat:
    """One dataset, one run, one exam. peer: ranks changed labels too; None: none are changed."""
    features, labels = pictures.features, pictures.labels
    split = split_by_class(labels, seed)
    train, validation = ((features[part], labels[part]) for part in (split.train, split.validation))
    model = Model.train(train, validation, pictures.classes, seed)
    own, truths = model.answers(features[split.exam]), labels[split.exam]
    right = own.label == truths
    return Repeat(
        own,
        model.limit,
        truths,
        {
            name: list(zip(best.tolist(), right.tolist(), strict=True))
            for name, best in _maps(model, own, validation, features[split.exam], seed).items()
        },
        {name: model.answers(foreign) for name, foreign in pictures.foreign.items()},
        _unseen(pictures, seed),
        search(model.fit, train, len(pictures.classes), seed, peer) if peer else {},
    )


def _maps(
    model: Model,
    own: Answers,
    validation: tuple[NDArray[np.float32], NDArray[np.int64]],
    exam: NDArray[np.float32],
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """The probabilities of the exam's top classes, by map: ours, no map, and each peer fitted on
    half of the validation pictures and on all of them."""
    truths = validation[1]
    said, asked = (
        np.array([each.probabilities for each in model.responses(part)])
        for part in (validation[0], exam)
    )
    everything = np.arange(len(truths))
    half = share_of_classes(everything, truths, 0.5, np.random.default_rng(seed))
    found = {"ours": own.probability, "none": own.raw}
    for name, fit in PEERS.items():
        for part, chosen in (("half", half), ("all", everything)):
            found[f"{name}_{part}"] = fit(said[chosen], truths[chosen])(asked)
    return found


def _unseen(pictures: Pictures, seed: int) -> UnseenClasses:
    """A model of half of the classes, asked about the exam of both halves."""
    features, labels = pictures.features, pictures.labels
    learnt, others = half_of_classes(len(pictures.classes), seed)
    split = split_by_class(labels, seed)
    known, unknown = split.of_classes(labels, learnt), split.of_classes(labels, others)
    train, validation = (
        (features[part], np.searchsorted(learnt, labels[part]))
        for part in (known.train, known.validation)
    )
    model = Model.train(train, validation, [pictures.classes[label] for label in learnt], seed)
    return UnseenClasses(
        model.answers(features[known.exam]), model.answers(features[unknown.exam]), model.limit
    )
