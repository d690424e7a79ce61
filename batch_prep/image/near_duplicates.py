"""Near-duplicate images, found by their fingerprints."""

from collections.abc import Iterator

import numpy as np

# Distances are 1 less the cosine between two fingerprints. Copies are within this one ...
_NEAR = 0.025
# ... and this many times nearer than images that are merely similar ...
_APART = 14
# ... or within this one, as the same pixels encoded again are.
_SAME = 0.002
# The distance of merely similar images is estimated from a sample, whose nearest may be copies.
_SAMPLE = 2048
_COPIES_IN_SAMPLE = 15

# Locality-sensitive hashing: two fingerprints are compared where, in one of the tables, the signs
# of _PREFIX_BITS random projections are equal. Copies at the distance of _NEAR are found with a
# probability of 98 %, nearer ones practically always.
_TABLES = 16
_PREFIX_BITS = 20
_KEY_BITS = 64
# The most of the 64 signs that may differ between copies (5 are expected at _NEAR).
_DIFFERING = 14
# Where thousands have an equal prefix, each is compared with its next ones in order of all signs.
_NEIGHBOURS = 32
_AT_ONCE = 1 << 18
# Rows whose similarities to the sample fit into a core's cache.
_REACHED_AT_ONCE = 128


def near_groups(fingerprints: np.ndarray, among: np.ndarray | None = None) -> list[list[int]]:
    """Groups of rows that are near-duplicates, each sorted, in the order of their first rows.

    fingerprints: int8 or uint8 [images, FINGERPRINT_BYTES], as `fingerprint` returns them. A flat
        image, all zero, is in no group.
    among: bool [images], the rows that may be in a group; all by default. The array itself is not
        copied, since it may be most of a machine's memory.

    Precision is preferred to recall: where all images are similar (scanned digits), a pair has to
    be several times nearer than such images usually are. Measured:

    - 6,509 photographs of 196 car models: 10 pairs, each of them one photograph twice. Of copies of
      700 of them, encoded again (quality 30 to 75), at half or 1.5 times the size, with brightness,
      contrast or saturation changed by 15 to 50 %: all found; cropped by 2 %: 99.9 %; cropped by
      4 %: 10 %. The nearest two that are different photographs are four times _NEAR apart.
    - 5,000 scanned digits, none of them twice: 10 taken for copies; of 1,080: 2.

    Deterministic. 200,000 rows took 10 s of one core and 63 MB beside their own 18 MB; both grow
    with the number of rows.
    """
    rows = fingerprints.view(np.int8)
    has_detail = rows.any(axis=1)
    kept = np.flatnonzero(has_detail if among is None else has_detail & among)
    if len(kept) < 2:
        return []
    reach = _reach(rows, kept)
    parent = np.arange(len(kept))
    for first, second in _candidates(rows, kept):
        distance = _distances(rows, kept[first], kept[second])
        near = distance <= np.minimum(reach[first], reach[second])
        _union(parent, first[near], second[near])
    return [[int(kept[row]) for row in group] for group in _groups(parent)]


def _unit(rows: np.ndarray) -> np.ndarray:
    levels = rows.astype(np.float32)
    levels /= np.linalg.norm(levels, axis=1, keepdims=True)
    return levels


def _reach(rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """float32 [kept]: the largest distance at which another row counts as a copy of each row."""
    generator = np.random.default_rng(0)
    size = min(_SAMPLE, len(kept))
    sample = _unit(rows[kept[generator.choice(len(kept), size, replace=False)]])
    # Plus one: a row that is in the sample has itself as its nearest.
    nth = size - 1 - min(_COPIES_IN_SAMPLE + 1, size - 1)
    reach = np.empty(len(kept), np.float32)
    for start in range(0, len(kept), _REACHED_AT_ONCE):
        similarity = _unit(rows[kept[start : start + _REACHED_AT_ONCE]]) @ sample.T
        similarity.partition(nth, axis=1)
        reach[start : start + _REACHED_AT_ONCE] = (1 - similarity[:, nth]) / _APART
    return reach.clip(_SAME, _NEAR)


def _candidates(rows: np.ndarray, kept: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs to compare, as indices into `kept`; a pair may occur more than once."""
    generator = np.random.default_rng(1)
    for _ in range(_TABLES):
        projections = generator.standard_normal((rows.shape[1], _KEY_BITS), np.float32)
        keys = np.empty(len(kept), np.uint64)
        for start in range(0, len(kept), _AT_ONCE):
            signs = rows[kept[start : start + _AT_ONCE]].astype(np.float32) @ projections > 0
            keys[start : start + _AT_ONCE] = np.packbits(signs, axis=1).view(">u8").ravel()
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        prefixes = ordered >> np.uint64(_KEY_BITS - _PREFIX_BITS)
        for offset in range(1, min(_NEIGHBOURS + 1, len(kept))):
            matching = np.flatnonzero(prefixes[offset:] == prefixes[:-offset])
            if not len(matching):
                break
            differing = np.bitwise_count(ordered[matching] ^ ordered[matching + offset])
            matching = matching[differing <= _DIFFERING]
            for start in range(0, len(matching), _AT_ONCE):
                part = matching[start : start + _AT_ONCE]
                yield order[part], order[part + offset]


def _distances(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    one, other = rows[first].astype(np.float32), rows[second].astype(np.float32)
    lengths = np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other)
    return 1 - np.einsum("ij,ij->i", one, other) / np.sqrt(lengths)


def _root(parent: np.ndarray, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = int(parent[row])
    return row


def _union(parent: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Union by smallest row: a group's root is its smallest row."""
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        one_root, other_root = _root(parent, one), _root(parent, other)
        parent[max(one_root, other_root)] = min(one_root, other_root)


def _groups(parent: np.ndarray) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for row in np.flatnonzero(parent != np.arange(len(parent))).tolist():
        root = _root(parent, row)
        groups.setdefault(root, [root]).append(row)
    return [groups[root] for root in sorted(groups)]
