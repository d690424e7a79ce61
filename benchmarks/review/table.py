"""The figures of bench-review as a Markdown table."""

from collections.abc import Mapping
from typing import Any


def markdown(sets: Mapping[str, Any]) -> str:
    """By set and way: the labels to each accuracy, and their ratio to those of random images."""
    lines = []
    for name, its in sets.items():
        head = [f"{name}, {its['classes']} classes"]
        head += [
            f"to {level['accuracy']:.1%}, {level['share']:.0%} of the gain"
            for level in its["levels"]
        ]
        lines += [f"| {' | '.join(head)} |", "|---|" + "--:|" * len(its["levels"])]
        for way in its["accuracies"]:
            cells = [_cell(level["ways"][way]) for level in its["levels"]]
            lines.append(f"| {' | '.join([way, *cells])} |")
        lines.append("")
    return "\n".join(lines)


def _cell(one: Mapping[str, Any]) -> str:
    if one["labels"] is None:
        return "not reached"
    high = "…" if one["high"] is None else f"{one['high']:.2f}"
    return f"{one['labels']:.0f} ({one['ratio']:.2f}; {one['low']:.2f} to {high})"


def worst(judged: Mapping[str, float | None]) -> str:
    """The largest ratio of the sets that judge, by the share of the gain. judged: of the report."""
    parts = [
        f"{'not reached' if ratio is None else f'{ratio:.2f}'} to {float(share):.0%}"
        for share, ratio in judged.items()
    ]
    return (
        "The largest ratios of the sets that the order was not chosen on, by margin: "
        f"{', '.join(parts)} of the gain."
    )
