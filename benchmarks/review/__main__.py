"""How many labels people have to give until a model reaches an accuracy, by the queue's order.

    make bench-review           SPLITS=2 for a quick look

Each split of a set of images is another start, another stream and another exam; all ways of
labelling get the same splits. The order was chosen by the figures of the first half of the car
models; those of the other half and of cars24 judge it.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import keep, provenance, versions
from benchmarks.review import orders, protocol
from benchmarks.review.pictures import CHOICE, JUDGED, sets
from benchmarks.review.protocol import Curve, Way, review, split_of
from benchmarks.review.summary import SHARES, summary
from benchmarks.review.table import markdown
from benchmarks.trust.pictures import Pictures

PACKAGES = ("numpy", "onnxruntime", "pillow", "scipy")
# Of a small set more, since it has fewer images to judge by.
SPLITS = {"cars24": 8}
SPLITS_OF_OTHERS = 3
BASE, OURS = "random", "margin"
WAYS = {
    BASE: Way(orders.by_chance, queue=False),
    OURS: Way(orders.margin, queue=True),
    f"{OURS}, renewed": Way(orders.margin, queue=True, renewed=True),
}
# From which ours was chosen.
CANDIDATES = WAYS | {
    "confidence": Way(orders.confidence, queue=True),
    "entropy": Way(orders.entropy, queue=True),
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, help="of each set of images")
    arguments = parser.parse_args()
    measured = provenance()
    found: dict[str, Any] = {}
    for purpose, pictures in sets():
        splits = arguments.splits or SPLITS.get(pictures.name, SPLITS_OF_OTHERS)
        print(f"{pictures.name}: {len(pictures.labels)} images, {len(pictures.classes)} classes")
        curves = reviewed(pictures, splits, CANDIDATES if purpose == CHOICE else WAYS)
        found[pictures.name] = {
            "purpose": purpose,
            "images": len(pictures.labels),
            "classes": len(pictures.classes),
            "side": pictures.side,
            **summary(curves, BASE),
        }
        print(markdown({pictures.name: found[pictures.name]}), flush=True)
    result = {
        **measured,
        "versions": versions(*PACKAGES),
        "protocol": {
            "exam": protocol.EXAM,
            "labelled": protocol.LABELLED,
            "validation": protocol.VALIDATION,
            "spot_checks": protocol.SPOT_CHECKS,
            "batches": protocol.BATCHES,
        },
        "base": BASE,
        "ours": OURS,
        "judged": judged(found),
        "sets": found,
    }
    if arguments.splits:
        print("Not written: SPLITS was given.")
        return
    keep("review", result)
    print("make docs shows it in docs/trust.md")


def reviewed(pictures: Pictures, splits: int, ways: Mapping[str, Way]) -> dict[str, list[Curve]]:
    """The curves of every way, each of the same splits."""
    found: dict[str, list[Curve]] = {way: [] for way in ways}
    for seed in range(splits):
        split = split_of(pictures.labels, seed)
        for name, way in ways.items():
            found[name].append(review(pictures, split, way, seed))
        print(f"  split {seed + 1} of {splits}", flush=True)
    return found


def judged(found: Mapping[str, Any]) -> dict[str, float | None]:
    """By share of the gain, the worst ratio of our order's labels in a set that judges; None where
    a set's queue does not reach it."""
    worst: dict[str, float | None] = {}
    for place, share in enumerate(SHARES):
        ratios = [
            its["levels"][place]["ways"][OURS]["ratio"]
            for its in found.values()
            if its["purpose"] == JUDGED
        ]
        worst[f"{share:g}"] = None if None in ratios else max(ratios)
    return worst


if __name__ == "__main__":
    main()
