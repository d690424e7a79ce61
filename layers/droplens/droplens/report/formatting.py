"""Formatting of figures in the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from droplens.domain import figures

# On fewer predictions a chart shows mostly noise.
FEWEST_TO_CHART = 50
# Of a class: with fewer images counts are shown in place of a share.
FEWEST_TO_SHARE = 5


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, without a line break: 91.4 %."""
    return _unbroken(figures.percent(share, digits))


def exact_percent(share: float) -> str:
    """A share that was configured: 95 %."""
    return _unbroken(figures.exact_percent(share))


def counted(right: int, total: int) -> str:
    """A share with its counts and its 95 % interval: 92.2 % (119 of 129; 86.3 to 95.7)."""
    return _unbroken(figures.counted(right, total))


def share_with_interval(share: Mapping[str, float]) -> str:
    """A measured share, as evaluation.json has it: 95.4 % (93.1 to 97.0)."""
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{percent(share['value'])} ({low:.1f} to {high:.1f})"


def points(difference: float) -> str:
    """A difference of shares: +3.1 points."""
    return f"{100 * difference:+.1f} points".replace("-", "\N{MINUS SIGN}")


def correct(evaluation: Mapping[str, Any]) -> int:
    """How many validation images were predicted correctly."""
    return sum(each["right"] for each in evaluation["classes"])


def training_counts(dataset: Mapping[str, Any] | None) -> dict[str, int]:
    """Training images by class name; empty without a dataset manifest."""
    return {each["name"]: each["train"] for each in (dataset or {}).get("per_class", [])}


def names_of(evaluation: Mapping[str, Any]) -> Sequence[str]:
    """The class names, index = label."""
    return [each["name"] for each in evaluation["classes"]]


def _unbroken(text: str) -> str:
    return text.replace(" %", "\N{NO-BREAK SPACE}%")
