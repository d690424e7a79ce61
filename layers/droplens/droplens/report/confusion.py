"""The report's confusion matrix, in an order that puts confused classes next to each other."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from droplens.report.formatting import names_of
from droplens.report.markup import Child, Element, element, json_block, name
from droplens.report.tables import table

# From this many classes on, a cell is too small for names and numbers until it is magnified.
READABLE_CLASSES = 30
LISTED = 20  # pairs

Cell = tuple[int, int, int]


def pairs(cells: Iterable[Cell]) -> list[tuple[int, int, int]]:
    """The pairs of classes confused with each other, with counts, the most confused first."""
    counts: Counter[tuple[int, int]] = Counter()
    for truth, predicted, count in cells:
        if truth != predicted:
            counts[min(truth, predicted), max(truth, predicted)] += count
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(one, other, count) for (one, other), count in ordered]


def order(classes: int, cells: Iterable[Cell]) -> list[int]:
    """The classes in an order in which confused ones are neighbours.

    Single-linkage clustering: the clusters of the most confused pair are concatenated first, then
    those of the next pair; a cluster is reversed where this makes the two classes neighbours.
    Larger clusters come first, classes without confusion last; ties keep the class order.
    """
    rows = {label: [label] for label in range(classes)}
    for one, other, _ in pairs(cells):
        left, right = rows[one], rows[other]
        if left is right:
            continue
        if left[0] == one and len(left) > 1:
            left.reverse()
        if right[-1] == other and len(right) > 1:
            right.reverse()
        left += right
        for label in right:
            rows[label] = left
    distinct = {id(row): row for row in rows.values()}.values()
    return [label for row in sorted(distinct, key=lambda row: -len(row)) for label in row]


def matrix(names: Sequence[str], cells: Sequence[Cell]) -> tuple[Element, Element]:
    """The matrix, and the data with which the page's script describes cells: the names in the
    matrix's order, and every non-zero cell as row, column, count."""
    ordered = order(len(names), cells)
    place = {label: position for position, label in enumerate(ordered)}
    total: Counter[int] = Counter()
    for truth, _, count in cells:
        total[truth] += count
    placed = sorted((place[truth], place[predicted], count) for truth, predicted, count in cells)
    totals = [total[label] for label in ordered]
    side = len(names)
    drawing = element(
        "svg",
        element("line", class_="diagonal", x1=0, y1=0, x2=side, y2=side),
        (_cell(row, column, count / totals[row]) for row, column, count in placed),
        (
            element("text", count, x=column + 0.5, y=row + 0.68, text_anchor="middle")
            for row, column, count in placed
            if side <= READABLE_CLASSES
        ),
        element("rect", class_="cursor", width=1, height=1, x=-9, y=-9),
        viewBox=f"0 0 {side} {side}",
        aria_hidden="true",
    )
    labels = [[element("li", name(names[label])) for label in ordered] for _ in range(2)]
    shown = element(
        "div",
        element("div", class_="corner"),
        element("ol", *labels[0], class_="columns", aria_hidden="true"),
        element("ol", *labels[1], class_="rows", aria_hidden="true"),
        drawing,
        class_="matrix" if side > READABLE_CLASSES else "matrix named",
        tabindex=0,
        role="application",
        aria_roledescription="confusion matrix",
        aria_label="Confusion matrix: rows are actual classes, columns predicted ones. Left and "
        "right arrow "
        "go through its filled cells, up and down through the rows; plus and minus magnify.",
        aria_describedby="cell",
    )
    data = {"names": [names[label] for label in ordered], "cells": placed}
    return shown, json_block("confusion", data)


def _cell(row: int, column: int, share: float) -> Element:
    return element(
        "rect",
        class_="right" if row == column else "wrong",
        x=column,
        y=row,
        width=1,
        height=1,
        # The lightest cell must be visible.
        fill_opacity=round(0.45 + 0.55 * share, 3),
    )


def confused(evaluation: Mapping[str, Any]) -> list[Child]:
    """The matrix, the buttons that magnify it, and the most confused pairs as a table."""
    cells = [(truth, predicted, count) for truth, predicted, count in evaluation["confusion"]]
    names = names_of(evaluation)
    mistaken = pairs(cells)
    shown, data = matrix(names, cells)
    taken = Counter({(truth, predicted): count for truth, predicted, count in cells})
    rows: list[list[Child | list[Child]]] = [
        [
            _pair(one, other, names),
            count,
            taken[one, other],
            taken[other, one],
        ]
        for one, other, count in mistaken[:LISTED]
    ]
    controls = element(
        "div",
        (
            element("button", sign, type="button", data_zoom=step, aria_label=label)
            for sign, step, label in (
                ("+", "in", "Magnify the matrix"),
                ("\N{MINUS SIGN}", "out", "Shrink the matrix"),
                ("All", "fit", "Show the whole matrix"),
            )
        ),
        element("output", "Point at a cell, or use the arrow keys.", id="cell"),
        class_="controls",
        hidden=True,
    )
    listed = (
        table(
            "The most confused pairs of classes",
            ("Classes", "Errors", "First predicted as second", "Second as first"),
            rows,
        )
        if rows
        else element("p", "No two classes were confused.")
    )
    return [
        element(
            "p",
            f"Each of the {len(names)} rows is an actual class, each column a predicted one; the "
            "diagonal holds the correct predictions. Confused classes stand beside each other.",
        ),
        controls,
        shown,
        data,
        listed,
    ]


def _pair(one: int, other: int, names: Sequence[str]) -> list[Child]:
    return [name(names[one]), element("span", " and ", class_="and"), name(names[other])]
