"""The report's section on labels to check: training images that look like another class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from droplens.report.formatting import counted, names_of, percent
from droplens.report.gallery import embedded
from droplens.report.markup import Child, Element, element, name

# Pairs of images that are shown, with about 2 KB an image.
SHOWN = 50
PAIR_SIDE = 96

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Suspects:
    """The training images whose label is to be checked, as the report shows them.

    entries: lines of suspects.jsonl, the most suspicious first; images: small JPEGs by training
    record id; typical: by class name, a small JPEG of a validation image that was predicted
    correctly.
    """

    entries: Sequence[Entry] = ()
    images: Mapping[int, bytes] = field(default_factory=dict)
    typical: Mapping[str, bytes] = field(default_factory=dict)


def typical_records(evaluation: Mapping[str, Any], classes: Sequence[str]) -> dict[str, int]:
    """Of each of `classes`, the validation record that was predicted with the highest probability.

    Only correct predictions: a class without any is missing.
    """
    names, wanted = names_of(evaluation), set(classes)
    best: dict[str, tuple[float, int]] = {}
    for answer in evaluation["answers"]:
        (label, probability), truth = answer["top"][0], answer["truth"]
        if label == truth and names[truth] in wanted:
            found = (-probability, answer["record"])
            best[names[truth]] = min(found, best.get(names[truth], found))
    return {label: record for label, (_, record) in best.items()}


def suspects(evaluation: Mapping[str, Any], found: Suspects | None) -> list[Child]:
    """What to check, what it would change, and how to correct it; nothing without suspects."""
    if found is None or not found.entries:
        return []
    shown = found.entries[:SHOWN]
    return [
        element("p", _meaning(evaluation, len(shown)), _effect(evaluation, len(shown))),
        _remedy(evaluation),
        element("ul", (_pair(entry, found) for entry in shown), class_="pairs"),
    ]


def _meaning(evaluation: Mapping[str, Any], shown: int) -> str:
    total = (evaluation.get("suspects") or {}).get("suspects", shown)
    return (
        "Training predicted each of its pictures by a model fitted to all others. "
        f"{total:,} {'was' if total == 1 else 'were'} predicted as another class than the label "
        f"says; {_these(shown)} least probable. Some are wrong labels, others unusual pictures of "
        "the right class: only a person can tell. "
    )


def _these(shown: int) -> str:
    return (
        "this is the one whose label is"
        if shown == 1
        else f"these {shown} are those whose label is"
    )


def _effect(evaluation: Mapping[str, Any], shown: int) -> str | None:
    measured = evaluation["cross_validation"]
    if measured is None or measured["right"] + shown > measured["pictures"]:
        return None
    return (
        "If every label shown here is wrong, the cross-validation accuracy is "
        f"{counted(measured['right'] + shown, measured['pictures'])} in place of "
        f"{counted(measured['right'], measured['pictures'])}. Validation pictures come from the "
        "same dataset: wrong labels among them make the validation accuracy look lower too."
    )


def _remedy(evaluation: Mapping[str, Any]) -> Element:
    where = f"packed/{evaluation['classifier']}/{evaluation['run_id']}/suspects.jsonl"
    return element(
        "p",
        "To correct a label, move the file into the folder of the right class, or change its line "
        "in the label list, and upload the dataset again: a new model is trained from it. ",
        name(where),
        " lists all of them, the most suspicious first.",
    )


def _pair(entry: Entry, found: Suspects) -> Element:
    label, likely = entry["label"], entry["likely"]
    return element(
        "li",
        element(
            "figure",
            element(
                "div",
                embedded(found.images.get(entry["record"]), f"Training picture {entry['record']}"),
                embedded(found.typical.get(likely), "A typical picture of the likely class"),
                class_="pair",
            ),
            element(
                "figcaption",
                "Labelled ",
                name(label),
                f" ({percent(entry['probability'])}), more like ",
                name(likely),
                f" ({percent(entry['likely_probability'])}), at the right",
                element("span", name(entry["name"]), class_="file"),
            ),
        ),
    )
