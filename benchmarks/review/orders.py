"""Orders of the review queue: of each image a sort key, by what its own result says.

The key is written with the result and never changes, as a table's sort key has to be, so an order
that compares the images of the queue with each other is none of these. The least key comes first.
"""

from benchmarks.review.protocol import Floats, Waiting


def by_chance(waiting: Waiting) -> Floats:
    """By chance."""
    return waiting.chance


def confidence(waiting: Waiting) -> Floats:
    """The least probable prediction first (D. D. Lewis, W. A. Gale, 1994, arXiv:cmp-lg/9407020)."""
    return waiting.best


def margin(waiting: Waiting) -> Floats:
    """The two best classes closest to each other first (T. Scheffer, C. Decomain, S. Wrobel,
    "Active hidden Markov models for information extraction", 2001)."""
    return waiting.best - waiting.second


def entropy(waiting: Waiting) -> Floats:
    """The greatest entropy of all classes first (C. E. Shannon, 1948; B. Settles, "Active learning
    literature survey", 2009)."""
    return -waiting.entropy
