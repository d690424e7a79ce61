"""Publication of the report in the bucket."""

import json
import tarfile
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.evaluation.measure import VALIDATION
from droplens.records.manifest import PackedDataset
from droplens.records.recordio import parse_record, read_index
from droplens.report.gallery import SIDE, thumbnail, wanted
from droplens.report.page import render
from droplens.report.suspects import PAIR_SIDE, SHOWN, Suspects, typical_records
from droplens.runtime.telemetry import count, logger

TRAIN = "train"
TRAINING_FILE = "training.json"
# training.json of 10,000 classes has 1 MB; an artefact of ours has 4 files.
MAX_TRAINING_BYTES = 16 * 1024 * 1024
MAX_FILES = 100


def publish(
    bucket: Bucket,
    dataset: PackedDataset,
    evaluation: Mapping[str, Any],
    training: Mapping[str, Any] | None,
    suspects: Sequence[Mapping[str, Any]] = (),
) -> str | None:
    """Write the report on an evaluated candidate; returns its key, or None if that failed.

    training: as `read_training` returned it; suspects: the lines of suspects.jsonl. A failure is
    logged and counted only: it must not keep a model from going live.
    """
    key = layout.report_key(evaluation["classifier"], evaluation["run_id"])
    try:
        page = render(
            evaluation,
            dataset=json.loads(bucket.read(f"{dataset.prefix}dataset.json")[0]),
            training=training,
            thumbnails=_thumbnails(bucket, dataset, VALIDATION, wanted(evaluation), SIDE),
            to_check=_to_check(bucket, dataset, evaluation, suspects[:SHOWN]),
        )
        bucket.client.put_object(
            Bucket=bucket.name, Key=key, Body=page, ContentType="text/html; charset=utf-8"
        )
    except Exception:  # noqa: BLE001  a failed report must not fail the promotion
        logger.exception("the report could not be made", key=key)
        count("ReportFailed")
        return None
    return key


def read_training(bucket: Bucket, model_data: str) -> Mapping[str, Any] | None:
    """training.json of a model archive, or None: only our own trainer image writes it.

    model_data: the archive's s3:// URI. An archive that cannot be read is logged, and None: its
    content is shown in the report, but nothing is decided by it.
    """
    try:
        return _training(bucket, model_data)
    except ObjectMissing:
        return None
    except Exception:  # noqa: BLE001  an archive can be broken in many ways
        logger.exception("training.json could not be read", model_data=model_data)
        return None


def _training(bucket: Bucket, model_data: str) -> Mapping[str, Any] | None:
    """Read from the stream, without storing the archive."""
    body = bucket.stream(model_data.removeprefix(f"s3://{bucket.name}/"))
    with body, tarfile.open(fileobj=cast(Any, body), mode="r|gz") as artefact:
        for number, member in enumerate(artefact):
            if number == MAX_FILES:
                break
            found = artefact.extractfile(member) if member.name.endswith(TRAINING_FILE) else None
            if found is not None and member.size <= MAX_TRAINING_BYTES:
                document = json.load(found)
                return document if isinstance(document, dict) else None
    return None


def _to_check(
    bucket: Bucket,
    dataset: PackedDataset,
    evaluation: Mapping[str, Any],
    shown: Sequence[Mapping[str, Any]],
) -> Suspects | None:
    if not shown:
        return None
    typical = typical_records(evaluation, [entry["likely"] for entry in shown])
    images = _thumbnails(bucket, dataset, VALIDATION, [*typical.values()], PAIR_SIDE)
    return Suspects(
        shown,
        _thumbnails(bucket, dataset, TRAIN, [entry["record"] for entry in shown], PAIR_SIDE),
        {label: images[record] for label, record in typical.items()},
    )


def _thumbnails(
    bucket: Bucket,
    dataset: PackedDataset,
    channel: str,
    records: Collection[int],
    side: int,
) -> dict[int, bytes]:
    """By record id, of those of `records` that the channel has."""
    key = f"{dataset.prefix}{channel}/{channel}.rec"
    return {
        record: thumbnail(parse_record(bucket.read_range(key, start, end)).payload, side)
        for record, (start, end) in _spans(bucket, dataset, channel, records).items()
    }


def _spans(
    bucket: Bucket, dataset: PackedDataset, channel: str, records: Collection[int]
) -> dict[int, tuple[int, int]]:
    """The byte ranges of `records`: the index of a training channel may have millions of lines."""
    wanted_records, found = set(records), {}
    stem = f"{dataset.prefix}{channel}/{channel}"
    size = bucket.head(f"{stem}.rec").bytes
    index = read_index(bucket.read(f"{stem}.idx")[0].decode())
    for (record, start), (_, end) in pairwise([*index, (-1, size)]):
        if record in wanted_records:
            found[record] = (start, end)
    return found
