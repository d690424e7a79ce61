"""What bench-trust is to reach, and whether it does; the figures that stand for all others."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

Sets = Mapping[str, Mapping[str, Any]]


def worst_foreign(sets: Sets, figure: str, worst: Callable[..., float]) -> float:
    """The worst mean of a figure over all models and all pictures of other kinds."""
    return worst(
        other[figure]["mean"] for found in sets.values() for other in found["foreign"].values()
    )


def foreign_confident_share(sets: Sets) -> float:
    """Of the pictures of another kind, how many are called confident."""
    return worst_foreign(sets, "confident", max)


def foreign_auroc(sets: Sets) -> float:
    """How well the novelty tells pictures of another kind from a model's own."""
    return worst_foreign(sets, "auroc", min)


def own_unfamiliar_share(sets: Sets) -> float:
    """Of a model's own pictures, how many are called unfamiliar."""
    return max(found["own_unfamiliar_share"]["mean"] for found in sets.values())


def headline(sets: Sets) -> dict[str, Any]:
    """Of the hardest set, on which predictions are least often correct; of foreign pictures and of
    own ones called unfamiliar, the worst of all sets."""
    hardest = min(sets, key=lambda name: float(sets[name]["accuracy"]["mean"]))
    found = sets[hardest]
    suspects = found["suspects"]["random"]["rankings"]["ours"]["precision_at_50"]
    return {
        "hardest": hardest,
        "ece_before": found["maps"]["none"]["ece"],
        "ece_after": found["maps"]["ours"]["ece"],
        "coverage_at_95_precision": found["coverage_at_95_precision"]["mean"],
        "foreign_confident_share": foreign_confident_share(sets),
        "foreign_auroc": foreign_auroc(sets),
        "unseen_class_auroc": found["unseen_classes"]["auroc"]["mean"],
        "own_unfamiliar_share": own_unfamiliar_share(sets),
        "suspects_precision_at_50": suspects and suspects["mean"],
    }


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure with its limit. least: whether the limit is the least that is asked, else the most;
    reached: None where the figure could not be measured.
    """

    figure: str
    limit: float
    least: bool
    value: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the value keeps the limit."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.least else self.value <= self.limit


def goals(sets: Sets) -> Iterator[Goal]:
    """Every goal. Of all sets together the worst counts; of a set that is missing nothing is known.

    sets: summaries by name.
    """
    yield Goal("foreign_confident_share", 0.01, False, foreign_confident_share(sets))
    yield Goal("foreign_auroc", 0.99, True, foreign_auroc(sets))
    yield Goal("own_unfamiliar_share", 0.015, False, own_unfamiliar_share(sets))
    for name, most in (("cars196", 0.02), ("cars24", 0.015)):
        yield Goal(f"{name}: ece_after", most, False, _of(sets, name, _ece))
    yield Goal("cars196: coverage_at_95_precision", 0.55, True, _of(sets, "cars196", _coverage))
    yield Goal("cars196: its spread between splits", 0.05, False, _of(sets, "cars196", _spread))
    yield Goal("cars24: coverage_at_95_precision", 0.94, True, _of(sets, "cars24", _coverage))
    for figure, least in (("precision_at_50", 0.95), ("precision_at_changed", 0.78)):
        value = _of(sets, "cars196", partial(_suspects, figure=figure))
        yield Goal(f"cars196: suspects_{figure}", least, True, value)


def _of(sets: Sets, name: str, figure: Callable[[Mapping[str, Any]], float]) -> float | None:
    return figure(sets[name]) if name in sets else None


def _ece(found: Mapping[str, Any]) -> float:
    return float(found["maps"]["ours"]["ece"])


def _coverage(found: Mapping[str, Any]) -> float:
    return float(found["coverage_at_95_precision"]["mean"])


def _spread(found: Mapping[str, Any]) -> float:
    coverage = found["coverage_at_95_precision"]
    return float(max(coverage["most"] - coverage["mean"], coverage["mean"] - coverage["least"]))


def _suspects(found: Mapping[str, Any], figure: str) -> float:
    return float(found["suspects"]["random"]["rankings"]["ours"][figure]["mean"])
