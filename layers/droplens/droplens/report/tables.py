"""Accessible, sortable HTML tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from droplens.report.markup import Child, Element, element

NOTHING = "\N{EN DASH}"  # an empty cell


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Child | Iterable[Child]]],
    *,
    sortable: bool = False,
) -> Element:
    """A table whose first column has the row headings; scrollable on a narrow screen.

    sortable: the column headings are buttons by which the page's script sorts it.
    """
    lines = list(rows)
    headings = (
        element(
            "th",
            element("button", column, type="button") if sortable else column,
            scope="col",
            class_=_alignment(lines[0][place]),
            aria_sort="none" if sortable else None,
        )
        for place, column in enumerate(columns)
    )
    body = (
        element(
            "tr",
            element("th", row[0], scope="row"),
            (element("td", cell, class_=_alignment(cell)) for cell in row[1:]),
        )
        for row in lines
    )
    made = element(
        "table",
        element("caption", title),
        element("thead", element("tr", headings)),
        element("tbody", body),
        class_="sortable" if sortable else None,
    )
    return element("div", made, class_="scroll", tabindex=0, role="region", aria_label=title)


def _alignment(cell: Any) -> str | None:
    is_number = isinstance(cell, int) or (isinstance(cell, Element) and cell.tag == "data")
    return "number" if is_number else None


def numbers(columns: Sequence[str], rows: Iterable[Sequence[Child]]) -> Element:
    """The numbers of a chart, as a collapsed table."""
    return element(
        "details", element("summary", "Numbers"), table("Numbers of the chart", columns, rows)
    )
