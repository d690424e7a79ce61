"""Puts labels of people into the bucket as corrections, by copies within it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from batch_prep.sources.labels import Labels
from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.upload import THREADS


@dataclass(frozen=True, slots=True)
class Imported:
    """copied: pictures that are corrections now; missing: keys of pictures that are not there;
    replaced: earlier corrections of the same pictures in other classes, which were removed."""

    copied: int
    missing: list[str]
    replaced: int


def import_labels(
    bucket: Bucket, classifier: str, labels: Labels, done: Callable[[], None]
) -> Imported:
    """Copy each labelled picture to its class; the last label of a picture holds.

    done: called for each. Raises CommandError for a label that no folder can have.
    """
    wanted = {
        source: layout.correction_key(classifier, label, source)
        for source, (label, _, _) in labels.rows.items()
    }
    for label in dict.fromkeys(label for label, _, _ in labels.rows.values()):
        if label.startswith(".") or "/" in label or "\\" in label:
            raise CommandError(
                f"{label!r} cannot be a folder, so pictures cannot be corrected to it",
                "nothing was copied; rename the class",
                ExitCode.BAD_INPUT,
            )
    before: dict[str, list[str]] = {}
    for entry in bucket.entries(layout.corrections_prefix(classifier)):
        before.setdefault(entry.key.rpartition("/")[2], []).append(entry.key)
    missing: list[str] = []
    replaced: list[str] = []

    def copy(source: str) -> None:
        client: Any = bucket.client
        key = wanted[source]
        try:
            bucket.copy(source, key)
        except ObjectMissing:
            missing.append(source)
            return
        for former in before.get(key.rpartition("/")[2], []):
            if former != key:
                client.delete_object(Bucket=bucket.name, Key=former)
                replaced.append(former)

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(copy, wanted):
            done()
    return Imported(len(wanted) - len(missing), sorted(missing), len(replaced))
