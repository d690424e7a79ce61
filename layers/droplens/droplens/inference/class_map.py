"""Combine class maps of different resolutions into one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


def combined(maps: Sequence[Map]) -> Map:
    """The sum [h, w] of maps of one image, the finest first, at its resolution.

    A coarser map's cells are spread evenly over the cells that they cover, so that the sum over all
    positions stays the same.
    """
    result = maps[0]
    for coarse in maps[1:]:
        rows, columns = (_shares(*sides) for sides in zip(result.shape, coarse.shape, strict=True))
        result = (result + rows @ coarse @ columns.T).astype(np.float32)
    return result


def _shares(fine: int, coarse: int) -> Map:
    """[fine, coarse]: the share of each coarse cell that lies in each fine one, along one side."""
    ends = np.arange(1, fine + 1)[:, None] / fine, np.arange(1, coarse + 1)[None] / coarse
    overlap = np.minimum(*ends) - np.maximum(ends[0] - 1 / fine, ends[1] - 1 / coarse)
    result: Map = (np.maximum(overlap, 0) * coarse).astype(np.float32)
    return result
