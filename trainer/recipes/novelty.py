"""How unlike the training images an image is: a Mahalanobis distance of its channel means.

Channel means are divided by their L2 norm before the distance is taken (Mueller and Hein, 2025,
"Mahalanobis++", arXiv:2505.18032), and the covariance is shrunk towards a multiple of the identity
(Ledoit and Wolf, 2004), so that it can be inverted with fewer records than channels.

Removing one record changes the covariance by a matrix of rank one, so the leave-one-out novelty of
every training record follows from its own distance (Sherman and Morrison, 1950).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

METHOD = "mahalanobis"
# Of the identity in the covariance, relative to the mean variance of a channel.
SHRINKAGE = 1.0
# Of the quantiles in training.json: at levels 0, 0.001 … 1.
QUANTILES = 1001
# Without a third record there is no variance of the others to compare one with.
MIN_RECORDS = 3
RECORDS_PER_PRODUCT = 512
# In place of a norm or a variance of 0.
LEAST = 1e-12

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Novelty:
    """|(x / |x| - mean) @ whitening|² of channel means x: about 1 for a typical training image.

    mean: float32 [channels]; whitening: float32 [channels, channels].
    """

    mean: Matrix
    whitening: Matrix

    def of(self, channel_means: Matrix) -> Matrix:
        """float32 [records] of float32 [records, channels]: the greater, the less like training."""
        distances = (normalised(channel_means) - self.mean) @ self.whitening
        return np.einsum("ij,ij->i", distances, distances)


@dataclass(slots=True)
class Moments:
    """Sums over normalised channel means, accumulated in any number of parts."""

    channels: int
    records: int = 0
    total: NDArray[np.float64] = field(init=False)
    products: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros(self.channels)
        self.products = np.zeros((self.channels, self.channels))

    def add(self, channel_means: Matrix) -> None:
        """Add float32 [records, channels]."""
        x = normalised(channel_means).astype(np.float64)
        self.records += len(x)
        self.total += x.sum(axis=0)
        self.products += x.T @ x

    def fit(self) -> Novelty:
        """The novelty relative to all records that were added."""
        mean = self.total / self.records
        scatter = self.products - self.records * np.outer(mean, mean)
        penalty = SHRINKAGE * max(float(np.trace(scatter)) / self.channels, LEAST)
        scatter[np.diag_indices(self.channels)] += penalty
        # scatter = L @ L.T, so that |d @ inverse(L).T|² = d @ inverse(scatter) @ d.
        factor = np.linalg.cholesky(scatter)
        inverse = solve_triangular(factor, np.eye(self.channels), lower=True)
        scale = np.sqrt(self.records / self.channels)
        return Novelty(mean.astype(np.float32), (scale * inverse.T).astype(np.float32))


@dataclass(frozen=True, slots=True)
class NoveltyFit:
    """left_out: float32 [records], the leave-one-out novelty of training records, or None."""

    novelty: Novelty
    left_out: Matrix | None

    def report(self) -> dict[str, Any]:
        """The object `novelty` of training.json."""
        if self.left_out is None:
            return {"method": METHOD, "left_out": 0, "quantiles": None}
        quantiles = np.quantile(self.left_out.astype(np.float64), np.linspace(0, 1, QUANTILES))
        return {"method": METHOD, "left_out": len(self.left_out), "quantiles": quantiles.tolist()}


def fit_novelty(channel_means: Matrix) -> NoveltyFit:
    """Fit on float32 [records, channels]."""
    records, channels = channel_means.shape
    moments = Moments(channels)
    for first in range(0, records, RECORDS_PER_PRODUCT):
        moments.add(channel_means[first : first + RECORDS_PER_PRODUCT])
    novelty = moments.fit()
    if records < MIN_RECORDS:
        return NoveltyFit(novelty, None)
    return NoveltyFit(novelty, left_out(novelty.of(channel_means), records, channels))


class StreamedNovelty:
    """Fits on records that come in groups, in memory that does not depend on their number.

    chosen: the records, by ascending index, whose leave-one-out novelty is computed.
    """

    def __init__(self, channels: int, chosen: NDArray[np.int64]) -> None:
        self._moments, self._chosen = Moments(channels), chosen
        self._kept: list[Matrix] = []

    def watch(self, groups: Iterable[Matrix]) -> Iterator[Matrix]:
        """The same groups of features, whose last ones are the channel means."""
        for group in groups:
            first = self._moments.records
            means = group[:, -self._moments.channels :]
            self._moments.add(means)
            bounds = np.searchsorted(self._chosen, (first, self._moments.records))
            self._kept.append(means[self._chosen[slice(*bounds)] - first])
            yield group

    def fit(self) -> NoveltyFit:
        """The fit on all groups, once all of them have been watched."""
        novelty, records = self._moments.fit(), self._moments.records
        if records < MIN_RECORDS:
            return NoveltyFit(novelty, None)
        kept = novelty.of(np.concatenate(self._kept))
        return NoveltyFit(novelty, left_out(kept, records, self._moments.channels))


def left_out(novelty: Matrix, records: int, channels: int) -> Matrix:
    """Leave-one-out novelty of training records, of their novelty relative to all `records`.

    The exact novelty of a fit, with the same penalty, to all others.
    """
    share = novelty.astype(np.float64) * channels / records
    spread = records / (records - 1)
    # 1 - spread * share is positive but for rounding.
    without = spread**2 * share / np.maximum(1 - spread * share, LEAST)
    result: Matrix = (without * (records - 1) / channels).astype(np.float32)
    return result


def normalised(channel_means: Matrix) -> Matrix:
    """Each row divided by its L2 norm."""
    norms = np.sqrt(np.einsum("ij,ij->i", channel_means, channel_means))
    result: Matrix = channel_means / np.maximum(norms, np.float32(LEAST))[:, None]
    return result
