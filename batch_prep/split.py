"""Training or validation, and in which order: decided by a picture's bytes and a seed.

The same pictures under the same seed are split and ordered alike, whatever they are called and
whatever order they came in, and a picture that is added moves no other one except at the border.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from batch_prep.errors import JobError
from batch_prep.pack import Picture


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture and its class's number."""

    label: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class Split:
    """The two channels in the order of their records, classes mixed."""

    train: list[Labelled]
    validation: list[Labelled]


def split(classes: Sequence[Sequence[Picture]], validation: float, seed: int) -> Split:
    """Every class's share of validation pictures, rounded, at least one and never all.

    A class with a single picture is only trained on. Raises JobError where no class has a second.
    """
    train: list[Labelled] = []
    held_out: list[Labelled] = []
    for label, pictures in enumerate(classes):
        drawn = sorted(pictures, key=lambda picture: _draw(seed, picture))
        count = min(max(1, round(len(drawn) * validation)), len(drawn) - 1)
        held_out += [Labelled(label, picture) for picture in drawn[:count]]
        train += [Labelled(label, picture) for picture in drawn[count:]]
    if not held_out:
        raise JobError("No class has a second picture, so there is nothing to validate with.")
    for channel in (train, held_out):
        channel.sort(key=lambda labelled: _draw(seed, labelled.picture))
    return Split(train, held_out)


def _draw(seed: int, picture: Picture) -> bytes:
    return hashlib.sha256(f"{seed} {picture.digest}".encode()).digest()
