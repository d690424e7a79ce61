"""How a set of pictures is divided: for the exam, for validation, and by classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HELD_OUT = 0.2

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of pictures, sorted: each picture is in exactly one of the three."""

    train: Numbers
    validation: Numbers
    exam: Numbers

    def of_classes(self, labels: Numbers, chosen: Numbers) -> "Split":
        """The same, without the pictures of other classes."""
        parts = (self.train, self.validation, self.exam)
        return Split(*(part[np.isin(labels[part], chosen)] for part in parts))


def split_by_class(labels: Numbers, seed: int) -> Split:
    """A fifth of every class for the exam, and of the rest a fifth for validation."""
    rng = np.random.default_rng(seed)
    everything = np.arange(len(labels))
    exam = share_of_classes(everything, labels, HELD_OUT, rng)
    dataset = np.setdiff1d(everything, exam)
    validation = share_of_classes(dataset, labels, HELD_OUT, rng)
    return Split(np.setdiff1d(dataset, validation), validation, exam)


def share_of_classes(
    numbers: Numbers, labels: Numbers, share: float, rng: np.random.Generator
) -> Numbers:
    """Of every class, as batch_prep takes it: rounded, at least one."""
    chosen = []
    for label in np.unique(labels[numbers]):
        members = rng.permutation(numbers[labels[numbers] == label])
        chosen.append(members[: max(1, round(len(members) * share))])
    return np.sort(np.concatenate(chosen))


def half_of_classes(classes: int, seed: int) -> tuple[Numbers, Numbers]:
    """The classes that a model learns, and those that it never sees, both sorted."""
    order = np.random.default_rng(seed).permutation(classes)
    half = classes // 2
    return np.sort(order[:half]), np.sort(order[half:])
