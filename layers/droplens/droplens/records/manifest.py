"""The manifest of a packed dataset, dataset.json."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackedDataset:
    """What batch_prep has packed for a run.

    classes: names, index = label; train, validation, test: records in each channel, of which test
    is used for the test accuracy only; shorter_side: of every packed image, in pixels; bytes: total
    size of the .rec files that the training reads; digest: equal for datasets of equal classes and
    images; aspect_ratio: median width / height of the source images, 1 where an earlier version
    packed them; warnings: sentences on probable mistakes in the dataset.
    """

    prefix: str
    classes: tuple[str, ...]
    train: int
    validation: int
    shorter_side: int
    bytes: int
    digest: str
    test: int = 0
    aspect_ratio: float = 1.0
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
        aspect_ratio=float(manifest.get("aspect_ratios", {}).get("p50", 1)),
        warnings=tuple(manifest.get("warnings", ())),
    )
