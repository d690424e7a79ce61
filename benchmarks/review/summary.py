"""The labels that each way takes to reach an accuracy, next to those of the way it is compared to.

The accuracies are shares of what the labels of the whole stream bring, so that no set of images and
no way has chosen them. Curves are means over splits; the spread is that of their bootstrap samples
(B. Efron, "Bootstrap methods: another look at the jackknife", 1979), of the same splits for all
ways.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.review.protocol import Curve

# Of the accuracy that all labels of the stream bring.
SHARES = (0.5, 0.75, 0.9)
SAMPLES = 1000
INTERVAL = (0.025, 0.975)

Floats = NDArray[np.float64]
Curves = Mapping[str, Sequence[Curve]]


def summary(found: Curves, base: str) -> dict[str, Any]:
    """What review.json keeps of a set of images.

    found: by way, the curves of the same splits; base: the way that the others are compared with,
    which labels the whole stream.
    """
    grid = np.array(found[base][0].labels, float)
    curves = {way: np.array([on_grid(each, grid) for each in its]) for way, its in found.items()}
    samples = np.random.default_rng(0).integers(0, len(found[base]), (SAMPLES, len(found[base])))
    levels = [level(curves[base].mean(axis=0), share) for share in SHARES]
    return {
        "splits": len(found[base]),
        "labels": grid.astype(int).tolist(),
        "accuracies": {way: its.mean(axis=0).round(4).tolist() for way, its in curves.items()},
        "deviations": {
            way: its.std(axis=0, ddof=min(1, len(its) - 1)).round(4).tolist()
            for way, its in curves.items()
        },
        "most_labels": {
            way: round(float(np.mean([each.labels[-1] for each in its])), 1)
            for way, its in found.items()
        },
        "levels": [
            {
                "share": share,
                "accuracy": round(accuracy, 4),
                "ways": {
                    way: _compared(its, curves[base], grid, share, samples)
                    for way, its in curves.items()
                },
            }
            for share, accuracy in zip(SHARES, levels, strict=True)
        ],
    }


def on_grid(curve: Curve, grid: Floats) -> Floats:
    """The accuracy at each number of labels. Where no image waits any more, it stays as it is."""
    return np.interp(grid, curve.labels, curve.accuracies)


def level(accuracies: Floats, share: float) -> float:
    """The accuracy that a share of the gain from the first to the last model is."""
    return float(accuracies[0] + share * (accuracies[-1] - accuracies[0]))


def labels_needed(accuracies: Floats, grid: Floats, wanted: float) -> float | None:
    """The labels at which a curve first reaches an accuracy, between two models by a straight line;
    None where it does not."""
    best = np.maximum.accumulate(accuracies)
    place = int(np.searchsorted(best, wanted))
    if place == len(best):
        return None
    if place == 0:
        return float(grid[0])
    low, high = best[place - 1], best[place]
    step = grid[place] - grid[place - 1]
    return float(grid[place - 1] + step * (wanted - low) / (high - low))


def _compared(
    curves: Floats, base: Floats, grid: Floats, share: float, samples: NDArray[np.int64]
) -> dict[str, Any]:
    """The labels needed; their ratio to those of `base`, with its interval. None: not reached."""

    def both(chosen: NDArray[np.int64]) -> tuple[float | None, float]:
        of_base = base[chosen].mean(axis=0)
        wanted = level(of_base, share)
        needed = labels_needed(of_base, grid, wanted)
        assert needed is not None, "a curve reaches a share of its own gain"
        return labels_needed(curves[chosen].mean(axis=0), grid, wanted), needed

    labels, of_base = both(np.arange(len(base)))
    pairs = [both(chosen) for chosen in samples]
    ratios = [np.inf if one is None else one / other for one, other in pairs]
    low, high = np.quantile(ratios, INTERVAL, method="nearest").tolist()
    return {
        "labels": None if labels is None else round(labels, 1),
        "ratio": None if labels is None else round(labels / of_base, 4),
        "low": _finite(low),
        "high": _finite(high),
    }


def _finite(ratio: float) -> float | None:
    return round(ratio, 4) if np.isfinite(ratio) else None
