"""How the report says numbers and finds names."""

from collections.abc import Mapping, Sequence
from typing import Any


def percent(share: float) -> str:
    """A share as it is read: 91.4%."""
    return f"{share:.1%}"


def training_counts(dataset: Mapping[str, Any] | None) -> dict[str, int]:
    """Training pictures by class name, as far as the dataset tells."""
    return {each["name"]: each["train"] for each in (dataset or {}).get("per_class", [])}


def names_of(evaluation: Mapping[str, Any]) -> Sequence[str]:
    """The class names, index = label."""
    return [each["name"] for each in evaluation["classes"]]
