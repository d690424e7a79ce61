"""The sets of images: one to choose an order on, and others to judge it by.

Half of the models of all cars, drawn among those that cars24 has not, are for the choice; the other
half and cars24 judge. Of a set with fewer images than features, those are turned into a space of
fewer dimensions, in which all distances are the same: a linear head predicts the same there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.pictures import Pictures, all_sets
from trainer.nets.specification import HEAD_CHANNELS

CHOICE, JUDGED = "choice", "judged"
SEED = 99
# Relative to the largest; directions below are rounding errors.
LEAST_VARIANCE = 1e-7


def sets() -> Iterator[tuple[str, Pictures]]:
    """Every set with its purpose; where there are no cars, the demo's digits alone."""
    small: tuple[str, ...] = ()
    for pictures in all_sets():
        if pictures.name != "cars196":
            small = pictures.classes
            yield JUDGED, turned(pictures)
            continue
        chosen = half_without(pictures.classes, small)
        others = np.setdiff1d(np.arange(len(pictures.classes)), chosen)
        yield CHOICE, turned(of_classes(pictures, chosen, "cars196, half of the models"))
        yield JUDGED, turned(of_classes(pictures, others, "cars196, the other half"))


def half_without(classes: tuple[str, ...], others: Iterable[str]) -> NDArray[np.int64]:
    """The numbers, sorted, of half of the classes, drawn from those that are not in `others`."""
    taken = set(others)
    free = [number for number, name in enumerate(classes) if name not in taken]
    order = np.random.default_rng(SEED).permutation(free)
    return np.sort(order[: len(classes) // 2])


def turned(pictures: Pictures) -> Pictures:
    """The same images in fewer dimensions; the channel means, from which the novelty is, as they
    are."""
    features, means = np.split(pictures.features, [-HEAD_CHANNELS], axis=1)
    if len(features) >= features.shape[1]:
        return pictures
    variances, directions = np.linalg.eigh(features @ features.T)
    kept = variances > variances[-1] * LEAST_VARIANCE
    coordinates = directions[:, kept] * np.sqrt(variances[kept])
    return replace(pictures, features=np.concatenate([coordinates, means], axis=1))


def of_classes(pictures: Pictures, chosen: NDArray[np.int64], name: str) -> Pictures:
    """The images of some classes, numbered anew. chosen: their numbers, sorted."""
    kept = np.isin(pictures.labels, chosen)
    return Pictures(
        name,
        pictures.side,
        tuple(pictures.classes[number] for number in chosen),
        pictures.features[kept],
        np.searchsorted(chosen, pictures.labels[kept]),
        {},
    )
