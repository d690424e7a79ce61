"""Batch inference over a real S3 server: rows as results have them, resumed, refused."""

import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest

from droplens.domain.inference_job import (
    IMAGES_PER_PART,
    Image,
    InferenceJob,
    from_lines,
    job_key,
    to_lines,
)
from droplens.domain.result import Response, classified
from droplens.domain.stored_object import ObjectInfo
from droplens.imaging.prepare import ImageError, ImageInfo, Limits
from tests.support.builders import card
from tests.support.drawn_images import drawing
from tests.support.trainer import LABELS
from trainer.inference import job as running
from trainer.inference.objects import Objects
from trainer.inference.rows import Row
from trainer.serving.app import Model

CARD = card(classes=LABELS)
_OBJECT = ObjectInfo("a.jpg", "e", None, 1, datetime(2026, 1, 1, tzinfo=UTC), {})
MODEL = "training/cars/run/job/output/model.tar.gz"


@pytest.fixture(scope="module")
def s3(seaweed: str) -> Any:
    return boto3.client("s3", endpoint_url=seaweed)


@pytest.fixture(autouse=True)
def _server(seaweed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed)


@pytest.fixture
def job_id() -> str:
    return f"20261127-120000-{uuid4().hex[:6]}"


@pytest.fixture(scope="module")
def buckets(s3: Any, probe_base: Path) -> tuple[str, str]:
    """The stack's, which has the model, and that of the images."""
    own, others = (f"{name}-{uuid4().hex}" for name in ("stack", "photographs"))
    for name in (own, others):
        s3.create_bucket(Bucket=name)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(probe_base / "model", ".")
    s3.put_object(Bucket=own, Key=MODEL, Body=archive.getvalue())
    return own, others


def store(s3: Any, buckets: tuple[str, str], job_id: str, keys: list[dict[str, Any]]) -> str:
    """Store a job of these images; returns its address."""
    own, others = buckets
    job = InferenceJob(
        classifier="cars",
        job_id=job_id,
        model=MODEL,
        card=json.loads(CARD.to_json()),
        bucket=others,
        source="",
        images=len(keys),
    )
    for part in range(job.parts):
        some = keys[part * IMAGES_PER_PART : (part + 1) * IMAGES_PER_PART]
        s3.put_object(Bucket=own, Key=job.images_key(part), Body=to_lines(some))
    s3.put_object(Bucket=own, Key=job_key("cars", job_id), Body=job.to_json())
    return f"s3://{own}/{job_key('cars', job_id)}"


def written(s3: Any, own: str, job_id: str) -> list[dict[str, Any]]:
    found = s3.list_objects_v2(Bucket=own, Prefix=f"inference/cars/{job_id}/rows/")
    return [
        row
        for one in found.get("Contents", [])
        for row in from_lines(s3.get_object(Bucket=own, Key=one["Key"])["Body"].read())
    ]


def test_every_object_has_a_row_as_its_result_would_be(
    s3: Any, buckets: tuple[str, str], job_id: str, probe_base: Path
) -> None:
    own, others = buckets
    model = Model.load(probe_base / "model")
    images = {f"a b/{label}+é//{n}.jpg": drawing(label, n) for n, label in enumerate(LABELS)}
    bodies = images | {"notes.txt": b"no image", "empty.jpg": b""}
    for key, body in bodies.items():
        s3.put_object(Bucket=others, Key=key, Body=body)
    keys = [{"key": key, "bytes": len(body)} for key, body in bodies.items()]
    etag = s3.head_object(Bucket=others, Key="empty.jpg")["ETag"].strip('"')
    keys[-1]["etag"] = etag
    keys += [
        {"key": "gone.jpg", "bytes": 5, "etag": etag},
        {"key": "notes.txt", "bytes": 0, "etag": etag},
        {"key": "huge.tif", "bytes": 10**9},
    ]
    assert running.main(store(s3, buckets, job_id, keys), {}) == 0

    rows = written(s3, own, job_id)
    assert [row["key"] for row in rows] == [one["key"] for one in keys]
    for row in rows[: len(images)]:
        info = s3.head_object(Bucket=others, Key=row["key"])
        assert (row["etag"], row["bytes"]) == (info["ETag"].strip('"'), info["ContentLength"])
        prediction = model.predict(images[row["key"]])
        response = Response(prediction.probabilities, prediction.novelty)
        expected = classified(others, _OBJECT, ImageInfo("JPEG", 1, 1), response, CARD)
        assert {name: row[name] for name in expected["prediction"]} == pytest.approx(
            expected["prediction"], abs=1e-5
        )
        assert row["top"][0]["label"] == expected["top"][0]["label"]
    assert [(row["status"], row["error_code"]) for row in rows[len(images) :]] == [
        ("rejected", "image.unreadable"),
        ("rejected", "image.empty"),
        ("rejected", "object.unreadable"),
        ("rejected", "object.changed"),
        ("rejected", "image.too_large"),
    ]
    assert rows[-2]["label"] is None


def test_an_object_that_has_grown_since_it_was_listed_is_not_read(
    s3: Any, buckets: tuple[str, str]
) -> None:
    s3.put_object(Bucket=buckets[1], Key="grown.tif", Body=bytes(Limits().max_bytes + 1))
    with pytest.raises(ImageError, match="more than"):
        Objects.connected().image(buckets[1], Image("grown.tif", 1))


def test_a_part_that_is_done_is_not_done_again(
    s3: Any, buckets: tuple[str, str], job_id: str
) -> None:
    own, others = buckets
    s3.put_object(Bucket=others, Key="a.jpg", Body=drawing("rings", 1))
    keys = [{"key": "gone.jpg", "bytes": 9}] * IMAGES_PER_PART + [{"key": "a.jpg", "bytes": 9}]
    address = store(s3, buckets, job_id, keys)
    done = to_lines([{"key": "earlier"}])
    s3.put_object(Bucket=own, Key=f"inference/cars/{job_id}/rows/00000.jsonl.gz", Body=done)
    assert running.main(address, {}) == 0
    assert [row["key"] for row in written(s3, own, job_id)] == ["earlier", "a.jpg"]


def test_an_image_that_was_forgotten_meanwhile_has_no_row(
    s3: Any, buckets: tuple[str, str], job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, others = buckets
    s3.put_object(Bucket=others, Key="a.jpg", Body=drawing("rings", 1))
    keys = [{"key": "gone.jpg", "bytes": 9}, {"key": "a.jpg", "bytes": 9}]
    address = store(s3, buckets, job_id, keys)
    classify = running.Classifier.rows

    def forgetting(classifier: running.Classifier, images: list[Image]) -> list[Row]:
        rows = classify(classifier, images)
        listed = f"inference/cars/{job_id}/images/00000.jsonl.gz"
        s3.put_object(Bucket=own, Key=listed, Body=to_lines(keys[:1]))
        return rows

    monkeypatch.setattr(running.Classifier, "rows", forgetting)
    assert running.main(address, {}) == 0
    assert [row["key"] for row in written(s3, own, job_id)] == ["gone.jpg"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "other"}, "it is no job"),
        ({"images": 0}, "cannot be read"),
        ({"card": {"schema": "other"}}, "a model card of schema"),
        ({"card": json.loads(card(classes=("x", "y", "z")).to_json())}, "has other classes"),
        ({"model": "notes.txt"}, "cannot be read"),
    ],
)
def test_a_job_that_cannot_be_done_says_why_and_is_not_tried_again(
    s3: Any,
    buckets: tuple[str, str],
    job_id: str,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, Any],
    said: str,
) -> None:
    own, _ = buckets
    store(s3, buckets, job_id, [{"key": "a.jpg", "bytes": 1}])
    s3.put_object(Bucket=own, Key="notes.txt", Body=b"no archive")
    key = job_key("cars", job_id)
    document = json.loads(s3.get_object(Bucket=own, Key=key)["Body"].read()) | change
    s3.put_object(Bucket=own, Key=key, Body=json.dumps(document).encode())
    assert running.main(f"s3://{own}/{key}", {}) == running.FAILED
    assert said in caplog.text


def test_a_fault_of_s3_is_worth_another_attempt(buckets: tuple[str, str]) -> None:
    assert running.main(f"s3://{buckets[0]}/nothing.json", {}) == running.TEMPORARY
