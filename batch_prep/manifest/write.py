"""The content of dataset.json, the manifest of a packed dataset."""

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
from batch_prep.sources.ready_made_splits import NONE, TEST, TRAIN, VALIDATION, quoted

SCHEMA = "droplens.dataset.v1"

# Above this ratio of the largest class to the smallest, there is a warning.
_IMBALANCE = 10
_PERCENTILES = (0, 5, 50, 95, 100)
# Bounds the size of dataset.json, which functions of 512 MB parse.
MOST_LISTED = 10_000
_MOST_WARNINGS = 1000
_LISTS = ("duplicates", "conflicts", "near_duplicates", "near_conflicts", "overruled")
SKIPPED = "skipped.jsonl"


def manifest(
    options: Options,
    dataset: Dataset,
    reading: Reading,
    names: Mapping[int, str],
    written: Mapping[str, Written],
    shards: int,
    merge_seconds: float,
) -> dict[str, Any]:
    """The manifest of a packed dataset, with lists of any length.

    names: of the images in groups of duplicates or conflicts, by row. merge_seconds: wall time.
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
            **_corrections(dataset),
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
        "near_duplicates": [_near_group(dataset, names, group) for group in dataset.near],
        "near_conflicts": [
            _near_group(dataset, names, group) | {"labels": dataset.labels(group)}
            for group in dataset.near_conflicts
        ],
        "overruled": [
            {"name": names[row], "labels": dataset.labels([row]), "corrected_by": names[group[0]]}
            for group in dataset.overruled
            for row in group[1:]
        ],
        "preprocessing": options.preprocessing.to_dict(),
        "split": {"validation": options.validation, "seed": options.seed}
        | ({"given": reading.given} if reading.given else {}),
        "shards": shards,
        "sha256": {path: file.sha256 for path, file in written.items() if file.sha256},
        "bytes": {path: file.bytes for path, file in written.items()},
        "digest": _digest(dataset),
        "joined_seconds": round(merge_seconds, 2),
    }


def _corrections(dataset: Dataset) -> dict[str, int]:
    """Counts of the corrections: used in a class, used as images of none, and images that lost to
    one; none of them where there are no corrections."""
    corrected = dataset.rows["corrected"]
    if not corrected.any():
        return {}
    none = int(np.count_nonzero(dataset.in_channel(NONE)))
    return {
        "corrections": int(np.count_nonzero(corrected & dataset.kept)) - none,
        "none": none,
        "overruled": sum(len(group) - 1 for group in dataset.overruled),
    }


def split(report: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The manifest with lists of bounded length, and the full lists by the name of their file.

    `continued` in the manifest names the file of each list that was cut. The list of skipped files
    is not among the returned ones: the merge writes it from the shards' reports.
    """
    continued = {}
    if report["counts"]["skipped"] > len(report["skipped"]):
        continued["skipped"] = SKIPPED
    files = {}
    shown = dict(report)
    for key in _LISTS:
        names = 0
        for index, entry in enumerate(report[key]):
            names += len(entry.get("names", ())) or 1
            if names > MOST_LISTED:
                shown[key] = report[key][:index]
                continued[key] = f"{key}.jsonl"
                files[f"{key}.jsonl"] = report[key]
                break
    warnings = report["warnings"]
    if len(warnings) > _MOST_WARNINGS:
        more = f"There are {len(warnings) - _MOST_WARNINGS:,} more warnings."
        shown["warnings"] = [*warnings[:_MOST_WARNINGS], more]
    return shown | {"continued": continued}, files


def skipped_entry(skipped: Skipped) -> dict[str, str]:
    """A skipped file as an entry of the manifest's list."""
    return {"name": skipped.name, "code": skipped.code, "reason": skipped.reason}


def _near_group(dataset: Dataset, names: Mapping[int, str], group: list[int]) -> dict[str, Any]:
    """A group of near-duplicates as an entry of the manifest."""
    return {
        "names": [names[row] for row in group],
        "left_out": [names[row] for row in group if not dataset.kept[row]],
    }


def _percentiles(values: np.ndarray) -> dict[str, int]:
    """The percentiles _PERCENTILES, as "p0" to "p100"."""
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
    """Warnings on classes whose names differ in case, spaces or Unicode form only."""
    by_folded_name: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        by_folded_name["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return [
        f"The classes {quoted(names)} differ in case or spaces only: if they are one class, name "
        "them alike."
        for names in by_folded_name.values()
        if len(names) > 1
    ]


def _leaks(dataset: Dataset) -> list[str]:
    """A warning where the dataset's own split has copies of an image in several channels."""
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
    """SHA-256 over the class list and every class's images: equal for equal datasets."""
    digest = hashlib.sha256(json.dumps(dataset.classes).encode())
    labels, files = (dataset.rows[column][dataset.kept] for column in ("label", "sha256"))
    digest.update(np.bincount(labels, minlength=len(dataset.classes)).tobytes())
    digest.update(files[np.lexsort((files, labels))].tobytes())
    return digest.hexdigest()
