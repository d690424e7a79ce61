"""What training reports in a model archive: training.json and suspects.jsonl.

Both files are read in one pass through the stream, without storing the archive. The archive is not
trusted: sizes are bounded, and whatever is not as expected is left out.
"""

import json
import math
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing, RetryLater
from droplens.domain.run import RunKey
from droplens.records.manifest import PackedDataset
from droplens.runtime.telemetry import logger

TRAINING_FILE, SUSPECTS_FILE = "training.json", "suspects.jsonl"
TRAIN = "train"
# training.json of 10,000 classes has 1 MB, suspects.jsonl at most as many lines of 120 bytes.
MAX_BYTES = {TRAINING_FILE: 16 * 1024 * 1024, SUSPECTS_FILE: 4 * 1024 * 1024}
MAX_SUSPECTS = 10_000
# An artefact of ours has 8 files; of the largest networks, 0.5 GB.
MAX_FILES = 100
MAX_ARCHIVE_BYTES = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class Suspect:
    """A training record whose label may be wrong.

    record: its id; label, likely: class indices, given and more probable; probability,
    likely_probability: theirs, by a model fitted to all other records.
    """

    record: int
    label: int
    likely: int
    probability: float
    likely_probability: float


@dataclass(frozen=True, slots=True)
class Artefact:
    """training: training.json, or None; suspects: the most suspicious first, None without file."""

    training: Mapping[str, Any] | None = None
    suspects: tuple[Suspect, ...] | None = None


def read_artefact(bucket: Bucket, model_data: str, classes: int) -> Artefact:
    """The reports in a model archive; only our own trainer image writes them.

    model_data: the archive's s3:// URI; classes: their number. An archive or a report that is
    malformed is logged and left out. Raises RetryLater.
    """
    try:
        found = _reports(bucket, model_data)
    except ObjectMissing:
        return Artefact()
    except (BotoCoreError, ClientError) as error:
        raise RetryLater("artefact.unreadable", f"{model_data}: {error}") from error
    except Exception:  # noqa: BLE001  an archive can be broken in many ways
        logger.exception("the model archive could not be read", model_data=model_data)
        return Artefact()
    training, suspects = None, None
    try:
        if TRAINING_FILE in found:
            document = json.loads(found[TRAINING_FILE])
            training = document if isinstance(document, dict) else None
        if SUSPECTS_FILE in found:
            suspects = tuple(_suspects(found[SUSPECTS_FILE], classes))
    except (ValueError, TypeError, KeyError, RecursionError):
        logger.exception("a report of training is malformed", model_data=model_data)
    return Artefact(training, suspects)


def _reports(bucket: Bucket, model_data: str) -> dict[str, bytes]:
    """The contents of both files, by name."""
    found: dict[str, bytes] = {}
    body = bucket.stream(model_data.removeprefix(f"s3://{bucket.name}/"))
    total = 0
    with body, tarfile.open(fileobj=cast(Any, body), mode="r|gz") as archive:
        for number, member in enumerate(archive):
            total += member.size
            if number == MAX_FILES or total > MAX_ARCHIVE_BYTES or len(found) == len(MAX_BYTES):
                break
            name = PurePosixPath(member.name).name
            if name in found or not member.isfile() or member.size > MAX_BYTES.get(name, -1):
                continue
            if (content := archive.extractfile(member)) is not None:
                found[name] = content.read()
    return found


def _suspects(text: bytes, classes: int) -> Iterator[Suspect]:
    """Raises ValueError, TypeError, KeyError."""
    lines = text.splitlines()
    if len(lines) > MAX_SUSPECTS:
        raise ValueError(f"{SUSPECTS_FILE} has {len(lines)} lines")
    for line in lines:
        document = json.loads(line)
        found = Suspect(**{name: document[name] for name in Suspect.__dataclass_fields__})
        numbers = (found.record, found.label, found.likely)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"{SUSPECTS_FILE}: {line[:100]!r}")
        if found.label == found.likely or max(found.label, found.likely) >= classes:
            raise ValueError(f"{SUSPECTS_FILE}: classes of {line[:100]!r}")
        shares = (found.probability, found.likely_probability)
        if not all(
            isinstance(p, (int, float)) and math.isfinite(p) and 0 <= p <= 1 for p in shares
        ):
            raise ValueError(f"{SUSPECTS_FILE}: probabilities of {line[:100]!r}")
        yield found


def named_suspects(
    bucket: Bucket, dataset: PackedDataset, suspects: tuple[Suspect, ...]
) -> list[dict[str, Any]]:
    """The lines of suspects.jsonl beside dataset.json: with the names of files and classes.

    A record that the dataset lists with another class, or not at all, is left out.
    """
    if not suspects:
        return []
    names = _names(bucket, dataset, {each.record: each.label for each in suspects})
    return [
        {
            "channel": TRAIN,
            "record": each.record,
            "name": names[each.record],
            "label": dataset.classes[each.label],
            "likely": dataset.classes[each.likely],
            "probability": each.probability,
            "likely_probability": each.likely_probability,
        }
        for each in suspects
        if each.record in names
    ]


def _names(bucket: Bucket, dataset: PackedDataset, label_of: Mapping[int, int]) -> dict[int, str]:
    """The file names of training records, by id. The list may have millions of lines."""
    found = {}
    listing = bucket.read(f"{dataset.prefix}{TRAIN}/{TRAIN}.lst")[0].decode()
    # Not splitlines(), which also splits at other separators, which a name may contain.
    for line in listing.rstrip("\n").split("\n"):
        record, label, name = line.split("\t")
        if label_of.get(int(record)) == int(float(label)):
            found[int(record)] = name
    return found


def write_suspects(bucket: Bucket, run: RunKey, suspects: list[dict[str, Any]]) -> None:
    """Write suspects.jsonl beside dataset.json; a repetition writes the same."""
    body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in suspects)
    bucket.client.put_object(
        Bucket=bucket.name,
        Key=layout.suspects_key(run.classifier, run.run_id),
        Body=body.encode(),
        ContentType="application/jsonl",
    )
