"""The report's section on the dataset."""

from collections.abc import Mapping
from typing import Any

from droplens.report.markup import Child, append, element, name
from droplens.report.tables import table

Document = Mapping[str, Any]

LISTED = 20  # rows of each list, whose length depends on the dataset


def health(dataset: Document | None) -> list[Child]:
    """Counts, class balance, warnings, and unused files with reasons."""
    if dataset is None:
        return []
    counts = dataset["counts"]
    kinds = (
        ("train", "for training"),
        ("validation", "held out for testing"),
        ("test", "test pictures, measured apart"),
        ("duplicates", "duplicates, not used"),
        ("conflicts", "under two labels, not used"),
        ("skipped", "unusable files"),
        ("corrections", "corrections, counted above"),
        ("none", "corrections to none of the classes"),
        ("overruled", "labels that a correction replaced"),
        ("upscaled", "smaller than the model's input"),
    )
    facts = [
        element("div", element("dt", label), element("dd", f"{counts[key]:,}", class_="figure"))
        for key, label in kinds
        if key in counts
    ]
    found: list[Child] = [element("dl", facts, class_="facts")]
    if read_as := dataset.get("read_as"):
        found.append(element("p", "Read as ", name(read_as), "."))
    per_class = dataset.get("per_class") or []
    if per_class:
        most = max(per_class, key=lambda each: each["train"])
        least = min(per_class, key=lambda each: each["train"])
        balance = element("p", f"{len(per_class)} classes. ", *_sizes(most, least))
        append(
            balance,
            " The classes are imbalanced: a model favours those with more pictures."
            if most["train"] > 5 * least["train"]
            else None,
        )
        found.append(balance)
    for key, title, columns in (
        ("warnings", "Warnings", ("Warning",)),
        ("skipped", "Unusable files", ("File", "Reason")),
        ("conflicts", "Pictures under two labels", ("File", "Same as", "Labels")),
        ("duplicates", "Duplicates", ("File", "Same as")),
    ):
        entries = dataset.get(key) or []
        if entries:
            rows = [_dataset_row(key, each) for each in entries[:LISTED]]
            # A long list continues in a file next to the manifest, which the page does not show.
            continued = key in dataset.get("continued", {})
            total = dataset["counts"][key] if continued else len(entries)
            more = f", the first {LISTED}" if total > LISTED else ""
            summary = element("summary", f"{title}: {total:,}{more}")
            found.append(element("details", summary, table(title, columns, rows)))
    return found


def _sizes(most: Document, least: Document) -> list[Child]:
    """The training pictures of the largest and of the smallest class."""
    if most["train"] == least["train"]:
        return [f"Each has {most['train']:,} training pictures."]
    return [
        "The largest, ",
        name(most["name"]),
        f", has {most['train']:,} training pictures; the smallest, ",
        name(least["name"]),
        f", {least['train']:,}.",
    ]


def _dataset_row(key: str, entry: Any) -> list[Child | list[Child]]:
    match key:
        case "warnings":
            return [name(entry)]
        case "skipped":
            return [name(entry["name"]), name(entry["reason"])]
        case "conflicts":
            return [name(entry["name"]), name(entry["same_as"]), name(", ".join(entry["labels"]))]
        case _:
            return [name(entry["name"]), name(entry["same_as"])]
