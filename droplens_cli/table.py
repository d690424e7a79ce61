"""Text output of commands: tables, dates, shares."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from droplens.domain.figures import counted
from droplens.domain.text import one_line

LONGEST_CELL = 200


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their longest entry, two blanks between; empty columns are left out.

    Each entry is one line of LONGEST_CELL characters at most: names and reasons are untrusted.
    """
    lines = [[one_line(cell, LONGEST_CELL) for cell in row] for row in rows]
    kept = [column for column in range(len(heads)) if any(line[column] for line in lines)]
    shown = [[line[column] for column in kept] for line in [list(heads), *lines]]
    widths = [max(len(line[column]) for line in shown) for column in range(len(kept))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in shown
    )


def when(date: Any) -> str:
    """An ISO 8601 date, to the minute in UTC; "" for none."""
    if not date:
        return ""
    return f"{datetime.fromisoformat(str(date)).astimezone(UTC):%Y-%m-%d %H:%M}"


def measured(card: Mapping[str, Any]) -> str:
    """A model card's validation accuracy with its counts and its 95 % interval."""
    found = card["measured"]
    return counted(round(found["accuracy"] * found["pictures"]), found["pictures"])


def percent(share: Any) -> str:
    """A share in [0, 1]; "" for none."""
    return "" if share is None else f"{100 * float(share):.1f} %"
