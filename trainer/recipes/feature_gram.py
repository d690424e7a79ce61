"""Ridge regression from the accumulated Gram matrix of the features: memory that does not grow.

Records are added in groups and not kept. The matrix takes 548 MB for 11,704 features, whatever the
number of records; each penalty takes one Cholesky decomposition of it, n^3/3 operations, where all
eigenvectors would take twenty times as many.

All sums are in float32, about the mean of the first group, so that no digits are lost to the mean.
Work is split into blocks of fixed size: the digits do not depend on the number of cores.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from droplens.inference.cores import cores

# Rows and columns of one product.
BLOCK = 512
# A penalty below this share of the largest variance is lost in the rounding errors of float32.
MIN_SHARE = 1e-6
POWER_ITERATIONS = 8

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


class Moments:
    """Sums over records: of features by class, and of the products of all pairs of features.

    records: number added so far. Only the lower triangle of the products is computed.
    """

    def __init__(self, features: int, classes: int) -> None:
        self.records = 0
        self._counts = np.zeros(classes, np.int64)
        self._class_sums = np.zeros((classes, features), np.float32)
        self._products = np.zeros((features, features), np.float32)
        self._origin: Matrix | None = None

    def add(self, features: Matrix, labels: Labels) -> None:
        """Add float32 [records, features] and int64 [records]; groups of BLOCK or more are fast."""
        if self._origin is None:
            self._origin = features.mean(axis=0)
        x = features - self._origin
        self.records += len(x)
        order = np.argsort(labels, kind="stable")
        present, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
        self._counts[present] += counts
        self._class_sums[present] += np.add.reduceat(x[order], first)

        def fill(rows: slice) -> None:
            self._products[rows, : rows.stop] += x[:, rows].T @ x[:, : rows.stop]

        _on_all_cores(fill, _blocks(len(self._products)))

    def centred(self) -> "Gram":
        """The moments about the mean of all records, in the same memory: nothing can be added."""
        assert self._origin is not None
        shift = self._class_sums.sum(axis=0, dtype=np.float64) / self.records
        wide = np.float32(self.records) * shift.astype(np.float32)
        for rows in _blocks(len(self._products)):
            self._products[rows, : rows.stop] -= np.outer(
                wide[rows], shift[: rows.stop].astype(np.float32)
            )
        crossed = self._class_sums - np.outer(self._counts, shift).astype(np.float32)
        mean = (self._origin + shift).astype(np.float32)
        return Gram(self._products, crossed.T.copy(), mean, self.records)


class Gram:
    """The moments of centred records.

    products: float32 [features, features], of which the lower triangle is set; mean: float32
    [features]; size: mean squared norm of a centred record.
    """

    def __init__(self, products: Matrix, crossed: Matrix, mean: Matrix, records: int) -> None:
        self.mean, self._records = mean, records
        self.products, self._crossed = products, crossed
        self.size = float(np.trace(products, dtype=np.float64)) / records

    def least_penalty(self) -> float:
        """The smallest penalty that float32 can add to the largest variance."""
        vector = np.ones(len(self.products), np.float32)
        largest = 0.0
        for _ in range(POWER_ITERATIONS):
            vector /= np.linalg.norm(vector)
            lower = np.zeros_like(vector)
            for rows in _blocks(len(vector)):
                part = self.products[rows, : rows.start]
                lower[rows] += part @ vector[: rows.start]
                lower[: rows.start] += part.T @ vector[rows]
                square = np.tril(self.products[rows, rows])
                square += np.tril(square, -1).T
                lower[rows] += square @ vector[rows]
            vector, largest = lower, float(np.linalg.norm(lower))
        return MIN_SHARE * largest

    def solve(self, penalty: float) -> "Solution":
        """The ridge regression on class membership, of 1 and 0, with an unpenalised intercept."""
        lower = _factorized(self.products, penalty)
        weight = np.empty_like(self._crossed)

        def back(columns: slice) -> None:
            half = solve_triangular(
                lower, self._crossed[:, columns], lower=True, check_finite=False
            )
            weight[:, columns] = solve_triangular(
                lower, half, lower=True, trans="T", check_finite=False
            )

        _on_all_cores(back, _blocks(weight.shape[1]))
        return Solution(weight, lower, self._records)


class Solution:
    """A ridge regression. weight: float32 [features, classes], of centred features."""

    def __init__(self, weight: Matrix, lower: Matrix, records: int) -> None:
        self.weight, self._lower, self._records = weight, lower, records

    def leave_one_out(self, centred: Matrix, targets: Matrix) -> Matrix:
        """The scores of records by fits to all others: float32 [records, classes].

        Exact, with the intercept (Allen, 1974). centred: some of the records that were added, less
        the mean; targets: float32 [records, classes], less their mean over all records, which is
        also subtracted from the result.
        """
        leverages = np.empty(len(centred), np.float32)

        def measure(rows: slice) -> None:
            half = solve_triangular(self._lower, centred[rows].T, lower=True, check_finite=False)
            leverages[rows] = np.einsum("ij,ij->j", half, half)

        _on_all_cores(measure, _blocks(len(centred)))
        leverages += np.float32(1 / self._records)
        fitted: Matrix = centred @ self.weight
        return targets - (targets - fitted) / (1 - leverages)[:, None]


def _factorized(products: Matrix, penalty: float) -> Matrix:
    """The lower Cholesky factor of the symmetric `products` + `penalty` x identity."""
    lower = products.copy()
    lower[np.diag_indices_from(lower)] += np.float32(penalty)
    for columns in _blocks(len(lower)):
        below = [rows for rows in _blocks(len(lower)) if rows.start >= columns.start]
        known = slice(0, columns.start)

        def update(rows: slice, columns: slice = columns, known: slice = known) -> None:
            lower[rows, columns] -= lower[rows, known] @ lower[columns, known].T

        _on_all_cores(update, below)
        corner = cholesky(lower[columns, columns], lower=True, check_finite=False)
        lower[columns, columns] = corner

        def divide(rows: slice, columns: slice = columns, corner: Matrix = corner) -> None:
            lower[rows, columns] = solve_triangular(
                corner, lower[rows, columns].T, lower=True, check_finite=False
            ).T

        _on_all_cores(divide, below[1:])
    return lower


def _blocks(length: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, length)) for first in range(0, length, BLOCK)]


def _on_all_cores(work: Callable[[slice], None], parts: list[slice]) -> None:
    with ThreadPoolExecutor(cores(), "products") as executor:
        list(executor.map(work, parts))
