"""How each class fares."""

from collections.abc import Mapping
from typing import Any

from droplens.reportpage.markup import Child, Element, element, name
from droplens.reportpage.tables import NOTHING, table
from droplens.reportpage.wording import names_of, training_counts

Document = Mapping[str, Any]


def classes(evaluation: Document, dataset: Document | None) -> list[Child]:
    """The table of every class."""
    trained = training_counts(dataset)
    names = names_of(evaluation)
    mistaken: dict[int, tuple[int, int]] = {}
    for truth, answer, count in evaluation["confusion"]:
        if truth != answer and count > mistaken.get(truth, (0, 0))[0]:
            mistaken[truth] = (count, answer)
    rows = []
    for number, each in enumerate(evaluation["classes"]):
        count, answer = mistaken.get(number, (0, 0))
        rows.append(
            [
                name(each["name"]),
                _share(each["recall"], bar=True),
                _share(each["precision"]),
                _share(each["f1"]),
                each["pictures"],
                trained.get(each["name"], NOTHING),
                [name(names[answer]), f" ({count})"] if count else NOTHING,
            ]
        )
    columns = (
        "Class",
        "Found",
        "Precision",
        "F1",
        "Measured on",
        "Learnt from",
        "Most often taken for",
    )
    return [
        element(
            "p",
            "Found (recall): of the pictures of the class, the share answered rightly. Precision: "
            "of the answers that name the class, the share that is right. F1 is their harmonic "
            "mean. On few pictures each is rough.",
        ),
        table("Every class; its headings sort it", columns, rows, sortable=True),
    ]


def _share(value: float | None, *, bar: bool = False) -> Element | str:
    if value is None:
        return NOTHING
    if not bar:
        return element("data", f"{value:.0%}", value=value)
    drawn = element(
        "svg",
        element("rect", width=100, height=6, class_="track"),
        element("rect", width=round(100 * value, 1), height=6, class_="fill"),
        viewBox="0 0 100 6",
        class_="share",
        aria_hidden="true",
        preserveAspectRatio="none",
    )
    return element("data", f"{value:.0%} ", drawn, value=value)
