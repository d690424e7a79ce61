"""Renders a page's source: expressions are replaced by their values."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from tools.docs.computed import better, computed
from tools.docs.figures import FEWEST_IN_WORDS
from tools.docs.sources import ROOT, SOURCE, everything
from tools.docs.tables import tables

SUFFIX = ".md.j2"
_IN_ROOT = "README"

_WORDS = (
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
)


def _scaled(divisor: float) -> Callable[[float], str]:
    """A filter that formats a number in a larger unit, of which it must be a multiple."""

    def scaled(value: float) -> str:
        whole = value / divisor
        if abs(whole - round(whole)) > 1e-9:
            raise ValueError(f"{value} is not a multiple of {divisor}")
        return f"{round(whole):,}"

    return scaled


def _word(value: float) -> str:
    """A whole number as a word, where figures.unsourced finds typed words: from five on."""
    return _WORDS[int(value) - FEWEST_IN_WORDS] if value >= FEWEST_IN_WORDS else plain(value)


def plain(value: float | str) -> str:
    """A number as it is, with commas between thousands and no zeros at its end."""
    if isinstance(value, str | bool):
        return str(value).lower() if isinstance(value, bool) else value
    if 0 < abs(value) < 1e-6:
        return f"{value:g}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.10f}".rstrip("0")


FILTERS: dict[str, Callable[..., str]] = {
    "word": _word,
    "Word": lambda value: _word(value).capitalize(),
    "whole": lambda value: f"{value:,.0f}",
    "tenths": lambda value: f"{value:,.1f}",
    "hundredths": lambda value: f"{value:,.2f}",
    "thousandths": lambda value: f"{value:,.3f}",
    "percent": lambda value: f"{100 * value:.0f} %",
    "percent_tenths": lambda value: f"{100 * value:.1f} %",
    "percent_hundredths": lambda value: f"{100 * value:.2f} %",
    "points": lambda value: f"{100 * value:.0f}",
    "points_tenths": lambda value: f"{100 * value:.1f}",
    "dollars": lambda value: f"${value:.2f}",
    "dollar": lambda value: f"${plain(value)}",
    "cents": lambda value: plain(round(100 * value, 6)),
    "sum": lambda values: plain(sum(values)),
    "lower_ece": lambda found: better(found, "ece"),
    "lower_brier": lambda found: better(found, "brier"),
    "lower_debiased": lambda found: better(found, "rms_debiased"),
    "thousands": _scaled(1000),
    "millions": _scaled(1_000_000),
    "kib": _scaled(1024),
    "mib": _scaled(1024**2),
    "gib": _scaled(1024**3),
    "minutes": _scaled(60),
    "hours": _scaled(3600),
    "days": _scaled(86400),
    # The Chinese unit 万.
    "ten_thousands": _scaled(10_000),
}


@cache
def environment() -> jinja2.Environment:
    """The template environment. An unknown name is an error."""
    made = jinja2.Environment(
        autoescape=False,  # noqa: S701  the pages are Markdown, and ours
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: plain(value) if isinstance(value, int | float) else value,
    )
    made.filters = {name: made.filters[name] for name in ("first", "last", "join")} | FILTERS
    return made


@cache
def _names() -> Mapping[str, Any]:
    facts = everything()
    return {**facts, **computed(facts), "table": tables(facts)}


def sources() -> dict[str, Path]:
    """The page's path, from the repository's root, and its source."""
    return {
        (f"{name}.md" if name.startswith(_IN_ROOT) else f"docs/{name}.md"): path
        for path in sorted(SOURCE.glob(f"*{SUFFIX}"))
        for name in [path.name.removesuffix(SUFFIX)]
    }


def evaluate(expression: str) -> str:
    """The rendered value of one expression of a page, with its braces."""
    return environment().from_string(expression).render(_names())


def render(source: str, name: str) -> str:
    """The page. name: the source's file name, for the note at the page's top."""
    page = evaluate(source)
    note = f"<!-- Rendered from docs/source/{name} by `make docs`: edit that. -->\n"
    return note + page


def write() -> list[str]:
    """Write every page; returns the paths of those that changed."""
    changed = []
    for page, path in sources().items():
        text = render(path.read_text("utf-8"), path.name)
        place = ROOT / page
        if not place.is_file() or place.read_text("utf-8") != text:
            place.write_text(text, "utf-8")
            changed.append(page)
    return changed
