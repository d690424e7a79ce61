"""Publication of the report in the bucket."""

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.evaluation.artefact import TRAIN
from droplens.evaluation.measure import VALIDATION
from droplens.records.manifest import PackedDataset
from droplens.records.recordio import parse_record, read_index
from droplens.report.gallery import SIDE, thumbnail, wanted
from droplens.report.page import render
from droplens.report.suspects import PAIR_SIDE, SHOWN, Suspects, typical_records
from droplens.runtime.telemetry import count, logger


def publish(
    bucket: Bucket,
    dataset: PackedDataset,
    evaluation: Mapping[str, Any],
    training: Mapping[str, Any] | None,
    suspects: Sequence[Mapping[str, Any]] = (),
) -> str | None:
    """Write the report on an evaluated candidate; returns its key, or None if that failed.

    training: training.json, or None; suspects: the lines of suspects.jsonl. A failure is
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
