"""Publication of the report in the bucket."""

import json
import tarfile
from collections.abc import Mapping
from typing import Any, cast

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.evaluation.measure import entries
from droplens.records.manifest import PackedDataset
from droplens.records.recordio import parse_record
from droplens.report.gallery import thumbnail, wanted
from droplens.report.page import render
from droplens.runtime.telemetry import count, logger

TRAINING_FILE = "training.json"
# training.json of 10,000 classes has 1 MB; an artefact of ours has 4 files.
MAX_TRAINING_BYTES = 16 * 1024 * 1024
MAX_FILES = 100


def publish(
    bucket: Bucket,
    dataset: PackedDataset,
    evaluation: Mapping[str, Any],
    training: Mapping[str, Any] | None,
) -> str | None:
    """Write the report on an evaluated candidate; returns its key, or None if that failed.

    training: as `read_training` returned it. A failure is logged and counted only: it must not keep
    a model from going live.
    """
    key = layout.report_key(evaluation["classifier"], evaluation["run_id"])
    try:
        page = render(
            evaluation,
            dataset=json.loads(bucket.read(f"{dataset.prefix}dataset.json")[0]),
            training=training,
            thumbnails=_thumbnails(bucket, dataset, wanted(evaluation)),
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


def _thumbnails(bucket: Bucket, dataset: PackedDataset, records: list[int]) -> dict[int, bytes]:
    spans = {entry.record: entry for entry in entries(bucket, dataset)}
    key = f"{dataset.prefix}validation/validation.rec"
    return {
        record: thumbnail(
            parse_record(bucket.read_range(key, spans[record].start, spans[record].end)).payload
        )
        for record in records
    }
