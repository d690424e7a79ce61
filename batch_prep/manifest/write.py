"""dataset.json: what a packed dataset holds, what was left out, and why."""

import hashlib
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from batch_prep.manifest.dataset import Dataset
from batch_prep.options import Options
from batch_prep.shards.channel_lists import Written
from batch_prep.shards.files import Skipped
from batch_prep.shards.split import Reading
from batch_prep.sources.ready_made_splits import TEST, TRAIN, VALIDATION, quoted

SCHEMA = "droplens.dataset.v1"

# A largest class of more than so many times the smallest is warned of.
_IMBALANCE = 10
_PERCENTILES = (0, 5, 50, 95, 100)
# Functions of 512 MB parse it, to start the training and to show the report.
MOST_LISTED = 10_000
_MOST_WARNINGS = 1000
_LISTS = ("duplicates", "conflicts", "near_duplicates", "near_conflicts")
SKIPPED = "skipped.jsonl"


def manifest(
    options: Options,
    dataset: Dataset,
    reading: Reading,
    names: Mapping[int, str],
    written: Mapping[str, Written],
    shards: int,
    joined_seconds: float,
) -> dict[str, Any]:
    """The manifest of one packed dataset; its presence says that the dataset is complete.

    names: of the pictures that are told of one by one, by row.
    """
    rows = dataset.rows
    trained = dataset.count(dataset.in_channel(TRAIN))
    measured = dataset.count(dataset.in_channel(VALIDATION))
    tested = dataset.count(dataset.in_channel(TEST)) if TEST in reading.channels else None
    packed = dataset.count(np.ones(len(rows), np.bool_))
    skipped = dataset.skipped.by_class
    duplicates = Counter(
        dataset.labels(group)[0] for group in dataset.duplicates for _ in group[1:]
    )
    imbalance = round(max(trained) / min(trained), 2)
    return {
        "schema": SCHEMA,
        "classifier": options.classifier,
        "run_id": options.run_id,
        "source": options.source,
        "read_as": reading.read_as,
        "classes": dataset.classes,
        "counts": {
            "train": sum(trained),
            "validation": sum(measured),
            **({"test": sum(tested)} if tested else {}),
            "skipped": dataset.skipped.total,
            "duplicates": duplicates.total(),
            "conflicts": sum(len(group) for group in dataset.conflicts),
            "near_duplicates": sum(len(group) - 1 for group in dataset.near),
            "near_conflicts": sum(len(group) - 1 for group in dataset.near_conflicts),
            "upscaled": int(np.count_nonzero(rows["upscaled"][dataset.kept])),
        },
        "per_class": [
            {
                "name": name,
                "files": packed[label] + skipped[name],
                "packed": packed[label],
                "train": trained[label],
                "validation": measured[label],
                **({"test": tested[label]} if tested else {}),
                "skipped": skipped[name],
                "duplicates": duplicates[name],
            }
            for label, name in enumerate(dataset.classes)
        ],
        "imbalance": imbalance,
        "sizes": {side: _percentiles(rows[side][dataset.kept]) for side in ("width", "height")}
        | {"bytes": _percentiles(rows["size"][dataset.kept])},
        "warnings": [
            *reading.warnings,
            *_warnings(dataset, trained, measured, imbalance),
            *_similar_names(dataset.classes),
            *_leaks(dataset),
        ],
        "skipped": [skipped_entry(entry) for entry in dataset.skipped.first],
        "duplicates": [
            {"name": names[row], "same_as": names[group[0]]}
            for group in dataset.duplicates
            for row in group[1:]
        ],
        "conflicts": [
            {
                "name": names[row],
                "same_as": names[group[0]],
                "labels": dataset.labels(group),
            }
            for group in dataset.conflicts
            for row in group[1:]
        ],
        "near_duplicates": [_alike(dataset, names, group) for group in dataset.near],
        "near_conflicts": [
            _alike(dataset, names, group) | {"labels": dataset.labels(group)}
            for group in dataset.near_conflicts
        ],
        "preprocessing": options.preprocessing.to_dict(),
        "split": {"validation": options.validation, "seed": options.seed}
        | ({"given": reading.given} if reading.given else {}),
        "shards": shards,
        "sha256": {path: file.sha256 for path, file in written.items() if file.sha256},
        "bytes": {path: file.bytes for path, file in written.items()},
        "digest": _digest(dataset),
        "joined_seconds": round(joined_seconds, 2),
    }


def split(report: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The manifest with lists of bounded length, and the whole lists by the file they go to.

    `continued` in the manifest names the file of each list that it has the beginning of only. What
    was skipped is in the manifest's beginning only, and goes to its file from the shards' reports.
    """
    continued = {}
    if report["counts"]["skipped"] > len(report["skipped"]):
        continued["skipped"] = SKIPPED
    files = {}
    shown = dict(report)
    for key in _LISTS:
        names = 0
        for place, entry in enumerate(report[key]):
            names += len(entry.get("names", ())) or 1
            if names > MOST_LISTED:
                shown[key] = report[key][:place]
                continued[key] = f"{key}.jsonl"
                files[f"{key}.jsonl"] = report[key]
                break
    warnings = report["warnings"]
    if len(warnings) > _MOST_WARNINGS:
        more = f"There are {len(warnings) - _MOST_WARNINGS:,} more warnings."
        shown["warnings"] = [*warnings[:_MOST_WARNINGS], more]
    return shown | {"continued": continued}, files


def skipped_entry(skipped: Skipped) -> dict[str, str]:
    """What the list of skipped files says of one."""
    return {"name": skipped.name, "code": skipped.code, "reason": skipped.reason}


def _alike(dataset: Dataset, names: Mapping[int, str], group: list[int]) -> dict[str, Any]:
    """Pictures that look the same, and those of them that stay."""
    return {
        "names": [names[row] for row in group],
        "left_out": [names[row] for row in group if not dataset.kept[row]],
    }


def _percentiles(values: np.ndarray) -> dict[str, int]:
    """The smallest, the largest, the median, and what 5 % are below and above."""
    return {
        f"p{percent}": int(value)
        for percent, value in zip(_PERCENTILES, np.percentile(values, _PERCENTILES), strict=True)
    }


def _warnings(
    dataset: Dataset, trained: list[int], measured: list[int], imbalance: float
) -> list[str]:
    warnings = [
        f"The class '{name}' has a single picture: it is trained on, but not measured."
        for name, count, held_out in zip(dataset.classes, trained, measured, strict=True)
        if count == 1 and not held_out
    ]
    warnings += [
        f"The class '{name}' has no picture left to measure it by."
        for name, count, held_out in zip(dataset.classes, trained, measured, strict=True)
        if count > 1 and not held_out
    ]
    if imbalance > _IMBALANCE:
        most, least = trained.index(max(trained)), trained.index(min(trained))
        warnings.append(
            f"The class '{dataset.classes[most]}' has {imbalance:g} times as many pictures to "
            f"train on as '{dataset.classes[least]}': the model will prefer it."
        )
    return warnings


def _similar_names(classes: list[str]) -> list[str]:
    """Classes whose names differ in case, spaces or the form of a letter only."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return [
        f"The classes {quoted(names)} differ in case or spaces only: if they are one class, name "
        "them alike."
        for names in alike.values()
        if len(names) > 1
    ]


def _leaks(dataset: Dataset) -> list[str]:
    """What the dataset's own split held out of pictures that it has in an earlier channel, too."""
    if not dataset.is_split:
        return []
    channels, leaked = dataset.rows["channel"], 0
    for group in (*dataset.duplicates, *dataset.near, *dataset.near_conflicts):
        first = min(int(channels[row]) for row in group)
        leaked += sum(int(channels[row]) != first and not dataset.kept[row] for row in group)
    if not leaked:
        return []
    return [
        (
            f"{leaked:,} pictures that the dataset's split holds out are copies of pictures "
            "in another part of it: they are left out, as they would flatter the model."
        )
    ]


def _digest(dataset: Dataset) -> str:
    """SHA-256 over the class list and every class's pictures: equal for equal datasets."""
    digest = hashlib.sha256(json.dumps(dataset.classes).encode())
    labels, files = (dataset.rows[column][dataset.kept] for column in ("label", "sha256"))
    digest.update(np.bincount(labels, minlength=len(dataset.classes)).tobytes())
    digest.update(files[np.lexsort((files, labels))].tobytes())
    return digest.hexdigest()
