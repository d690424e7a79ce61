"""The report's table of per-class metrics."""

from collections.abc import Mapping
from typing import Any

from droplens.report.formatting import FEWEST_TO_SHARE, names_of, percent, training_counts
from droplens.report.markup import Child, Element, element, name
from droplens.report.tables import NOTHING, table

Document = Mapping[str, Any]


def classes(evaluation: Document, dataset: Document | None) -> list[Child]:
    """The table of every class."""
    trained = training_counts(dataset)
    names = names_of(evaluation)
    mistaken: dict[int, tuple[int, int]] = {}
    for truth, predicted, count in evaluation["confusion"]:
        if truth != predicted and count > mistaken.get(truth, (0, 0))[0]:
            mistaken[truth] = (count, predicted)
    rows = []
    for number, each in enumerate(evaluation["classes"]):
        count, predicted = mistaken.get(number, (0, 0))
        rows.append(
            [
                name(each["name"]),
                _share(each["recall"], each["right"], each["pictures"], bar=True),
                _share(each["precision"], each["right"], each["answered"]),
                _f1(each["f1"], each["pictures"]),
                each["pictures"],
                trained.get(each["name"], NOTHING),
                [name(names[predicted]), f" ({count})"] if count else NOTHING,
            ]
        )
    columns = (
        "Class",
        "Recall",
        "Precision",
        "F1",
        "Validation pictures",
        "Training pictures",
        "Most often predicted as",
    )
    return [
        element(
            "p",
            "Recall: of the pictures of the class, the share predicted as it. Precision: of the "
            "predictions of the class, the share that is correct. F1 is their harmonic mean. On "
            f"fewer than {FEWEST_TO_SHARE} pictures the counts stand in place of a share: too few "
            "to tell.",
        ),
        table("Every class; click a heading to sort", columns, rows, sortable=True),
    ]


def _f1(value: float | None, pictures: int) -> Element | str:
    if value is None or pictures < FEWEST_TO_SHARE:
        return NOTHING
    return element("data", percent(value, 0), value=value)


def _share(value: float | None, right: int, total: int, *, bar: bool = False) -> Element | str:
    if value is None:
        return NOTHING
    if total < FEWEST_TO_SHARE:
        return element("data", f"{right} of {total}", value=value)
    if not bar:
        return element("data", percent(value, 0), value=value)
    drawn = element(
        "svg",
        element("rect", width=100, height=6, class_="track"),
        element("rect", width=round(100 * value, 1), height=6, class_="fill"),
        viewBox="0 0 100 6",
        class_="share",
        aria_hidden="true",
        preserveAspectRatio="none",
    )
    return element("data", f"{percent(value, 0)} ", drawn, value=value)
