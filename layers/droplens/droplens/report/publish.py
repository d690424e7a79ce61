"""Publication of the report in the bucket."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import RetryLater
from droplens.evaluation.artefact import TRAIN
from droplens.evaluation.measure import VALIDATION
from droplens.records.manifest import PackedDataset
from droplens.report.class_map import ClassMap, Explain
from droplens.report.gallery import SIDE, thumbnail, wanted
from droplens.report.page import render
from droplens.report.suspects import PAIR_SIDE, SHOWN, Suspects, typical_records
from droplens.runtime.telemetry import count, logger
from droplens.state.packed import read_images


def publish(
    bucket: Bucket,
    dataset: PackedDataset,
    evaluation: Mapping[str, Any],
    training: Mapping[str, Any] | None,
    suspects: Sequence[Mapping[str, Any]] = (),
    explain: Explain | None = None,
) -> str | None:
    """Write the report on an evaluated candidate; returns its key, or None if that failed.

    training: training.json, or None; suspects: the lines of suspects.jsonl; explain: the class map
    of a packed image, None for a model that has none. A failure is logged and counted only: it must
    not keep a model from going live.
    """
    key = layout.report_key(evaluation["classifier"], evaluation["run_id"])
    try:
        images = read_images(bucket, dataset.prefix, VALIDATION, wanted(evaluation))
        page = render(
            evaluation,
            dataset=json.loads(bucket.read(f"{dataset.prefix}dataset.json")[0]),
            training=training,
            thumbnails=_thumbnails(images, SIDE),
            maps=_class_maps(images, explain) if explain else None,
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
    likely = read_images(bucket, dataset.prefix, VALIDATION, [*typical.values()])
    given = read_images(bucket, dataset.prefix, TRAIN, [entry["record"] for entry in shown])
    images = _thumbnails(likely, PAIR_SIDE)
    return Suspects(
        shown,
        _thumbnails(given, PAIR_SIDE),
        {label: images[record] for label, record in typical.items()},
    )


def _thumbnails(images: Mapping[int, bytes], side: int) -> dict[int, bytes]:
    return {record: thumbnail(image, side) for record, image in images.items()}


def _class_maps(images: Mapping[int, bytes], explain: Explain) -> dict[int, ClassMap]:
    """By record id; without the rest where one cannot be had."""
    found = {}
    try:
        for record, image in images.items():
            if (class_map := explain(image)) is None:
                break  # the model has none for any image
            found[record] = class_map
    except (RetryLater, ValueError):
        logger.warning("class maps are missing in the report", exc_info=True, maps=len(found))
    return found
