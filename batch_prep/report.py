"""dataset.json: what a packed dataset holds, what was left out, and why."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict
from itertools import chain
from typing import Any

from batch_prep.dataset import Dataset
from batch_prep.options import Options
from batch_prep.records import Written
from batch_prep.split import Split

SCHEMA = "droplens.dataset.v1"


def manifest(
    options: Options,
    dataset: Dataset,
    split: Split,
    written: dict[str, Written],
    packed_seconds: float,
) -> dict[str, Any]:
    """The manifest of one packed dataset; its presence says that the dataset is complete."""
    train = Counter(dataset.classes[labelled.label] for labelled in split.train)
    validation = Counter(dataset.classes[labelled.label] for labelled in split.validation)
    duplicates = Counter(duplicate.label for duplicate in dataset.duplicates)
    skipped = list(chain.from_iterable(dataset.skipped.values()))
    return {
        "schema": SCHEMA,
        "classifier": options.classifier,
        "run_id": options.run_id,
        "source": options.source,
        "classes": dataset.classes,
        "counts": {
            "train": len(split.train),
            "validation": len(split.validation),
            "skipped": len(skipped),
            "duplicates": len(dataset.duplicates),
            "conflicts": len(dataset.conflicts),
            "upscaled": sum(
                labelled.picture.upscaled for labelled in [*split.train, *split.validation]
            ),
        },
        "per_class": [
            {
                "name": name,
                "train": train[name],
                "validation": validation[name],
                "skipped": len(dataset.skipped.get(name, [])),
                "duplicates": duplicates[name],
            }
            for name in dataset.classes
        ],
        "warnings": [
            f"The class '{name}' has a single picture: it is trained on, but not measured."
            for name in dataset.classes
            if not validation[name]
        ],
        "skipped": [
            {"name": entry.name, "code": entry.code, "reason": entry.reason} for entry in skipped
        ],
        "duplicates": [
            {"name": duplicate.name, "same_as": duplicate.same_as}
            for duplicate in dataset.duplicates
        ],
        "conflicts": [asdict(conflict) for conflict in dataset.conflicts],
        "preprocessing": options.preprocessing.to_dict(),
        "split": {"validation": options.validation, "seed": options.seed},
        "sha256": {path: file.sha256 for path, file in written.items()},
        "bytes": {path: file.bytes for path, file in written.items()},
        "digest": _digest(dataset),
        "packed_seconds": round(packed_seconds, 2),
    }


def _digest(dataset: Dataset) -> str:
    """SHA-256 over the class list and every class's pictures: equal for equal datasets."""
    digests = {
        name: sorted(picture.digest for picture in dataset.pictures[name])
        for name in dataset.classes
    }
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
