"""A packed dataset as batch_prep left it: what was really packed, and in which class order."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackedDataset:
    """The manifest of a run's records.

    classes: names, index = label; train, validation: records in each channel;
    test: records that neither train nor validate: the test accuracy is measured on them;
    shorter_side: of every packed picture, in pixels; bytes: of the .rec files that a training
    reads, together; digest: equal for datasets of equal classes and pictures; warnings: sentences
    on what looks like a mistake in it.
    """

    prefix: str
    classes: tuple[str, ...]
    train: int
    validation: int
    shorter_side: int
    bytes: int
    digest: str
    test: int = 0
    warnings: tuple[str, ...] = ()


def parse_manifest(prefix: str, body: bytes) -> PackedDataset:
    """Read the dataset.json of the records below `prefix`."""
    manifest = json.loads(body)
    return PackedDataset(
        prefix=prefix,
        classes=tuple(manifest["classes"]),
        train=int(manifest["counts"]["train"]),
        validation=int(manifest["counts"]["validation"]),
        shorter_side=int(manifest["preprocessing"]["shorter_side"]),
        bytes=sum(
            int(size)
            for name, size in manifest["bytes"].items()
            if name.endswith(".rec") and not name.startswith("test/")
        ),
        digest=str(manifest["digest"]),
        test=int(manifest["counts"].get("test", 0)),
        warnings=tuple(manifest.get("warnings", ())),
    )
