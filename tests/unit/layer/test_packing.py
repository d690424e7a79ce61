"""A completed dataset gives one run and one packing job, whatever its event does."""

import random
from pathlib import Path

import pytest

from droplens import packing
from droplens.events import ObjectCreated
from droplens.runs import RunKey, Runs, Status
from droplens.settings import PackingSettings
from tests.unit.layer.account import BUCKET, Cloud
from tests.unit.layer.made import crash_in

SETTINGS = PackingSettings(
    bucket=BUCKET,
    runs_table="runs",
    stack="droplens",
    failure_topic="topic",
    job_queue="arn:aws:batch:us-east-1:123456789012:job-queue/droplens-packing",
    job_definition="arn:aws:batch:us-east-1:123456789012:job-definition/droplens-batch-prep:3",
    image_size=224,
)


def completed(cloud: Cloud, key: str, body: bytes = b"") -> ObjectCreated:
    """Store the object that completes a dataset, and say what its event says."""
    answer = cloud.put(key, body)
    return ObjectCreated(BUCKET, key, answer["ETag"].strip('"'), answer["VersionId"], len(body))


def start(cloud: Cloud, event: ObjectCreated, runs: Runs | None = None) -> RunKey | None:
    runs = runs or cloud.runs()
    return packing.start_packing(
        event, cloud.bucket, runs, cloud.batch, cloud.failures(runs), SETTINGS
    )


@pytest.mark.parametrize(
    ("key", "source"),
    [
        ("datasets/cars/_READY", f"s3://{BUCKET}/datasets/cars/"),
        ("datasets/cars.tar.gz", f"s3://{BUCKET}/datasets/cars.tar.gz"),
        ("datasets/cars/labels.jsonl", f"s3://{BUCKET}/datasets/cars/labels.jsonl"),
    ],
)
def test_a_completed_dataset_is_packed(cloud: Cloud, key: str, source: str) -> None:
    event = completed(cloud, key)
    run = start(cloud, event)
    assert run is not None
    [job] = cloud.batch.jobs
    assert job["jobName"] == f"droplens-cars-{run.run_id}"
    assert job["jobQueue"] == SETTINGS.job_queue
    assert job["jobDefinition"] == SETTINGS.job_definition
    assert job["parameters"] == {
        "classifier": "cars",
        "run_id": run.run_id,
        "source": source,
        "destination": f"s3://{BUCKET}/packed/cars/{run.run_id}/",
        "shorter_side": "256",
    }
    record = cloud.runs().get(run)
    assert record is not None
    assert record.status is Status.PACKING
    assert record.facts["batch_job_id"] == "job-0"
    assert record.facts["dataset"]["version"] == event.version_id
    assert cloud.notices() == []


def test_events_in_any_order_and_number_give_one_job_for_each_version(cloud: Cloud) -> None:
    first = completed(cloud, "datasets/cars/_READY")
    second = completed(cloud, "datasets/cars/_READY", b"again")
    deliveries = [first, second] * 4
    random.Random(3).shuffle(deliveries)
    runs = {start(cloud, event, cloud.runs(f"request-{n}")) for n, event in enumerate(deliveries)}
    assert len(runs) == 2
    assert len(cloud.batch.jobs) == 2


def test_a_retry_after_a_crash_finds_the_job_that_was_submitted(cloud: Cloud) -> None:
    event, runs = completed(cloud, "datasets/cars/_READY"), cloud.runs()
    with crash_in(cloud.batch, "submit_job", after=True):
        start(cloud, event, runs)
    run = start(cloud, event, runs)
    assert run is not None
    assert len(cloud.batch.jobs) == 1
    record = runs.get(run)
    assert record is not None
    assert record.facts["batch_job_id"] == "job-0"


def test_a_retry_after_a_crash_before_the_submission_submits(cloud: Cloud) -> None:
    event, runs = completed(cloud, "datasets/cars/_READY"), cloud.runs()
    with crash_in(cloud.batch, "submit_job"):
        start(cloud, event, runs)
    start(cloud, event, runs)
    assert len(cloud.batch.jobs) == 1


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("datasets/Cars/_READY", "'Cars'"),
        ("datasets/my cars.zip", "'my cars'"),
        ("datasets/a/b/_READY", "'a/b'"),
        ("datasets/Autos für alle.zip", "'Autos für alle'"),
    ],
)
def test_a_name_that_cannot_be_is_told_once_and_stands_in_a_run(
    cloud: Cloud, key: str, named: str
) -> None:
    event = completed(cloud, key)
    runs = [start(cloud, event, cloud.runs(f"request-{n}")) for n in range(3)]
    assert runs[0] is not None
    assert len(set(runs)) == 1
    record = cloud.runs().get(runs[0])
    assert record is not None
    assert record.status is Status.FAILED
    error = record.facts["error"]
    assert (error["stage"], error["code"]) == ("pack", "classifier.name")
    assert error["message"].startswith(f"{key}: {named} cannot be a classifier's name")
    [notice] = cloud.notices()
    assert "at most 31 characters" in notice["message"]
    assert notice["subject"].isascii()
    assert cloud.batch.jobs == []


def test_a_stack_whose_name_cannot_be_used_is_told(cloud: Cloud) -> None:
    event, runs = completed(cloud, "datasets/cars.zip"), cloud.runs()
    settings = PackingSettings(
        **{name: getattr(SETTINGS, name) for name in SETTINGS.__dataclass_fields__}
        | {"stack": "Droplens"}
    )
    packing.start_packing(event, cloud.bucket, runs, cloud.batch, cloud.failures(runs), settings)
    assert "'Droplens'" in cloud.notices()[0]["message"]


def test_a_marker_without_a_classifier_is_told_where_it_belongs(cloud: Cloud) -> None:
    assert start(cloud, completed(cloud, "datasets/_READY")) is None
    assert cloud.batch.jobs == []
    assert "datasets/cars/_READY" in cloud.notices()[0]["message"]


def test_a_withdrawn_dataset_opens_no_run(cloud: Cloud) -> None:
    event = completed(cloud, "datasets/cars/_READY")
    cloud.s3.delete_object(Bucket=BUCKET, Key=event.key, VersionId=event.version_id)
    assert start(cloud, event) is None
    assert cloud.batch.jobs == []
    assert not cloud.runs().any_of("cars")


def test_a_marker_deleted_only_by_name_still_has_its_version_and_is_packed(cloud: Cloud) -> None:
    event = completed(cloud, "datasets/cars/_READY")
    cloud.s3.delete_object(Bucket=BUCKET, Key=event.key)
    assert start(cloud, event) is not None


@pytest.mark.parametrize("key", ["datasets/cars/audi/more.zip", "datasets/cars/a.jpg"])
def test_an_archive_among_the_pictures_is_a_file_like_others(cloud: Cloud, key: str) -> None:
    assert start(cloud, completed(cloud, key)) is None
    assert cloud.batch.jobs == []


@pytest.mark.parametrize(("seen", "packed"), [(224, 256), (288, 329), (96, 110), (512, 585)])
def test_pictures_are_packed_with_the_usual_margin(seen: int, packed: int) -> None:
    assert packing.packed_side(seen) == packed


def test_the_job_s_parameters_are_those_of_the_job_definition(repo_root: Path) -> None:
    template = (repo_root / "template.yaml").read_text()
    for name in ("classifier", "run_id", "source", "destination", "shorter_side"):
        assert f"Ref::{name}" in template
