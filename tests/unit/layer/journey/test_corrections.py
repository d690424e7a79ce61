"""A run takes the corrections that there are, and its list of them never changes."""

import json
from typing import Any

import pytest

from droplens.domain import layout
from droplens.domain.run import RunKey, Status
from droplens.journey import corrections, pack
from tests.support.aws_account import BUCKET, Cloud
from tests.support.crashes import crash_in
from tests.support.prepare_dataset import correct, start, stored

FOLDER = f"s3://{BUCKET}/corrections/cars/"


def listed(cloud: Cloud, run: RunKey) -> list[dict[str, Any]]:
    body, _ = cloud.bucket.read(layout.corrections_list_key("cars", run.run_id))
    return [json.loads(line) for line in body.decode().splitlines()]


def test_a_run_takes_the_corrections_that_there_are(cloud: Cloud) -> None:
    [one] = correct(cloud, "ü 1")
    stored(cloud, "corrections/cars/_none/cat.jpg", b"cat")
    stored(cloud, "corrections/cars-2/audi/other.jpg")
    stored(cloud, "corrections/cars/beside.jpg")
    stored(cloud, "corrections/cars/audi/")
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    assert cloud.batch.jobs[0]["parameters"]["corrections"] == FOLDER
    assert run is not None
    found = {row["path"]: row for row in listed(cloud, run)}
    assert set(found) == {"audi/ü 1.jpg", "_none/cat.jpg"}
    assert found["audi/ü 1.jpg"] == {"path": "audi/ü 1.jpg", "bytes": 1, "etag": one.etag}


def test_without_any_nothing_is_listed(cloud: Cloud) -> None:
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    assert cloud.batch.jobs[0]["parameters"]["corrections"] == pack.NO_CORRECTIONS
    assert run is not None
    assert cloud.keys(f"packed/cars/{run.run_id}/") == []


def test_the_list_of_a_run_never_changes(cloud: Cloud) -> None:
    correct(cloud, "1")
    event, runs = stored(cloud, "datasets/cars/_READY"), cloud.runs()
    with crash_in(cloud.batch, "submit_job"):
        start(cloud, event, runs)
    correct(cloud, "2")
    run = start(cloud, event, runs)
    assert run is not None
    assert [row["path"] for row in listed(cloud, run)] == ["audi/1.jpg"]


def test_too_many_fail_the_run_with_what_to_do(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrections, "MOST_CORRECTIONS", 2)
    correct(cloud, "1", "2", "3")
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    assert run is not None
    record = cloud.runs().get(run)
    assert record is not None
    assert record.status is Status.FAILED
    assert "move the older ones into the dataset" in record.error["message"]


@pytest.mark.parametrize(
    ("key", "classifier"),
    [
        ("corrections/cars/audi/1.jpg", "cars"),
        ("corrections/cars/_none/deep/er/1.jpg", "cars"),
        ("corrections/cars/audi/", None),
        ("corrections/cars//1.jpg", None),
        ("corrections//audi/1.jpg", None),
        ("corrections/CARS/audi/1.jpg", None),
        ("datasets/cars/audi/1.jpg", None),
        ("corrections/", None),
    ],
)
def test_a_correction_names_its_classifier(key: str, classifier: str | None) -> None:
    assert layout.corrected_classifier(key) == classifier
