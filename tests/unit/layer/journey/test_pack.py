"""A completed dataset gives one run and is packed once, whatever its event does."""

import dataclasses
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.run import RunKey, Status
from droplens.domain.stored_object import ListedObject
from droplens.journey import pack
from tests.support.aws_account import BUCKET, Cloud
from tests.support.crashes import crash_in
from tests.support.incomplete_datasets import NEAR_MISSES
from tests.support.prepare_dataset import SETTINGS, start, stored

EARLIER = datetime(2026, 11, 22, tzinfo=UTC)


def facts_of(cloud: Cloud, run: RunKey | None) -> dict[str, object]:
    assert run is not None
    record = cloud.runs().get(run)
    assert record is not None
    return dict(record.record)


def upload(cloud: Cloud, pictures: int) -> None:
    for number in range(pictures):
        cloud.put(f"datasets/cars/audi/{number:03}.jpg")


@pytest.mark.parametrize(
    ("key", "source"),
    [
        ("datasets/cars/_READY", f"s3://{BUCKET}/datasets/cars/"),
        ("datasets/cars.tar.gz", f"s3://{BUCKET}/datasets/cars.tar.gz"),
        ("datasets/cars/labels.jsonl", f"s3://{BUCKET}/datasets/cars/labels.jsonl"),
    ],
)
def test_a_completed_dataset_is_packed(cloud: Cloud, key: str, source: str) -> None:
    event = stored(cloud, key)
    run = start(cloud, event)
    assert run is not None
    [job] = cloud.batch.jobs
    assert job["jobName"] == f"droplens--cars-{run.run_id}"
    assert job["jobQueue"] == SETTINGS.job_queue
    assert job["jobDefinition"] == SETTINGS.job_definition
    assert job["parameters"] == {
        "classifier": "cars",
        "run_id": run.run_id,
        "source": source,
        "destination": f"s3://{BUCKET}/packed/cars/{run.run_id}/",
        "shorter_side": "256",
        "corrections": "none",
        "step": "all",
        "shards": "auto",
    }
    assert "arrayProperties" not in job
    record = cloud.runs().get(run)
    assert record is not None
    assert record.status is Status.PACKING
    assert record.record["batch_job_id"] == "job-0"
    assert record.record["dataset"]["version"] == event.version_id
    assert cloud.notices() == []


def test_events_in_any_order_and_number_give_one_job_for_each_version(cloud: Cloud) -> None:
    first = stored(cloud, "datasets/cars/_READY")
    second = stored(cloud, "datasets/cars/_READY", b"again")
    deliveries = [first, second] * 4
    random.Random(3).shuffle(deliveries)
    runs = {start(cloud, event, cloud.runs(f"request-{n}")) for n, event in enumerate(deliveries)}
    assert len(runs) == 2
    assert len(cloud.batch.jobs) == 2


def test_a_retry_after_a_crash_finds_the_job_that_was_submitted(cloud: Cloud) -> None:
    event, runs = stored(cloud, "datasets/cars/_READY"), cloud.runs()
    with crash_in(cloud.batch, "submit_job", after=True):
        start(cloud, event, runs)
    run = start(cloud, event, runs)
    assert run is not None
    assert len(cloud.batch.jobs) == 1
    record = runs.get(run)
    assert record is not None
    assert record.record["batch_job_id"] == "job-0"


def test_a_retry_after_a_crash_before_the_submission_submits(cloud: Cloud) -> None:
    event, runs = stored(cloud, "datasets/cars/_READY"), cloud.runs()
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
        ("datasets/foo\nBcc: all.zip", "'foo\\nBcc: all'"),
    ],
)
def test_a_name_that_cannot_be_is_told_once_and_stands_in_a_run(
    cloud: Cloud, key: str, named: str
) -> None:
    event = stored(cloud, key)
    runs = [start(cloud, event, cloud.runs(f"request-{n}")) for n in range(3)]
    assert runs[0] is not None
    assert len(set(runs)) == 1
    record = cloud.runs().get(runs[0])
    assert record is not None
    assert record.status is Status.FAILED
    error = record.record["error"]
    assert (error["stage"], error["code"]) == ("pack", "classifier.name")
    shown = key.replace("\n", " ")
    assert error["message"].startswith(f"{shown}: {named} cannot be a classifier's name")
    [notice] = cloud.notices()
    assert "\n" not in notice["subject"]
    assert "at most 31 characters" in notice["message"]
    assert notice["subject"].isascii()
    assert cloud.batch.jobs == []


def test_a_stack_whose_name_cannot_be_used_is_told(cloud: Cloud) -> None:
    event, runs = stored(cloud, "datasets/cars.zip"), cloud.runs()
    start(cloud, event, runs, stack="Droplens")
    assert "'Droplens'" in cloud.notices()[0]["message"]


def test_a_marker_without_a_classifier_is_told_where_it_belongs(cloud: Cloud) -> None:
    assert start(cloud, stored(cloud, "datasets/_READY")) is None
    assert cloud.batch.jobs == []
    assert "datasets/cars/_READY" in cloud.notices()[0]["message"]


@pytest.mark.parametrize("key", [key for key, (name, _) in NEAR_MISSES.items() if name])
def test_what_nearly_completes_a_dataset_is_told_once_and_stands_in_a_run(
    cloud: Cloud, key: str
) -> None:
    classifier, words = NEAR_MISSES[key]
    event = stored(cloud, key)
    runs = [start(cloud, event, cloud.runs(f"request-{n}")) for n in range(3)]
    assert runs[0] is not None
    assert (len(set(runs)), runs[0].classifier) == (1, classifier)
    record = cloud.runs().get(runs[0])
    assert record is not None
    assert record.status is Status.FAILED
    error = record.record["error"]
    assert (error["stage"], error["code"]) == ("pack", "dataset.incomplete")
    assert error["message"].startswith(f"{key} completes no dataset, so nothing is packed: ")
    assert words in error["message"]
    [notice] = cloud.notices()
    assert words in notice["message"]
    assert cloud.batch.jobs == []


def test_a_near_miss_that_was_taken_back_opens_no_run(cloud: Cloud) -> None:
    event = stored(cloud, "datasets/cars/_ready")
    cloud.s3.delete_object(Bucket=BUCKET, Key=event.key, VersionId=event.version_id)
    assert start(cloud, event) is None
    assert not cloud.runs().any_of("cars")
    assert cloud.notices() == []


def test_a_withdrawn_dataset_opens_no_run(cloud: Cloud) -> None:
    event = stored(cloud, "datasets/cars/_READY")
    cloud.s3.delete_object(Bucket=BUCKET, Key=event.key, VersionId=event.version_id)
    assert start(cloud, event) is None
    assert cloud.batch.jobs == []
    assert not cloud.runs().any_of("cars")


def test_a_marker_deleted_only_by_name_still_has_its_version_and_is_packed(cloud: Cloud) -> None:
    event = stored(cloud, "datasets/cars/_READY")
    cloud.s3.delete_object(Bucket=BUCKET, Key=event.key)
    assert start(cloud, event) is not None


@pytest.mark.parametrize(
    "key",
    [
        "datasets/cars/audi/more.zip",
        "datasets/cars/a.jpg",
        # The rule sees how a key ends, not how it begins.
        "input/cars/labels.csv",
        "input/cars.zip",
        "build/trainer/0123456789abcdef.zip",
        "training/cars/20261122-120000-1a2b3c/output/model.tar.gz",
    ],
)
def test_an_object_that_completes_no_dataset_opens_no_run(cloud: Cloud, key: str) -> None:
    assert start(cloud, stored(cloud, key)) is None
    assert cloud.batch.jobs == []
    assert cloud.notices() == []
    assert not cloud.runs().any_of("cars")


def test_a_large_dataset_is_packed_in_shards_and_joined(cloud: Cloud) -> None:
    upload(cloud, 11)
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    assert run is not None
    array, join = cloud.batch.jobs
    assert array["jobName"] == f"droplens--cars-{run.run_id}-shards"
    assert array["arrayProperties"] == {"size": 3}
    assert "dependsOn" not in array
    assert join["jobName"] == f"droplens--cars-{run.run_id}"
    assert join["dependsOn"] == [{"jobId": array["jobId"]}]
    assert "arrayProperties" not in join
    steps = [(job["parameters"]["step"], job["parameters"]["shards"]) for job in (array, join)]
    assert steps == [("pack", "3"), ("join", "3")]
    same = ("classifier", "run_id", "source", "destination", "shorter_side")
    assert [array["parameters"][name] for name in same] == [
        join["parameters"][name] for name in same
    ]
    facts = facts_of(cloud, run)
    assert (facts["batch_array_id"], facts["batch_job_id"]) == ("job-0", "job-1")
    assert facts["packing_shards"] == 3


@pytest.mark.parametrize(
    ("pictures", "shards"),
    # The completing object is listed too.
    [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3), (14, 3), (15, 4), (40, 4)],
)
def test_each_job_s_worth_of_pictures_is_a_shard_up_to_what_can_run_at_once(
    cloud: Cloud, pictures: int, shards: int
) -> None:
    upload(cloud, pictures)
    cloud.put("datasets/cars/_READY")
    source = layout.DatasetSource("cars", "datasets/cars/")
    assert pack.count_shards(cloud.bucket, source, SETTINGS) == shards


@pytest.mark.parametrize(
    ("key", "jobs"), [("datasets/cars/labels.csv", 2), ("datasets/cars.zip", 1)]
)
def test_listed_pictures_are_counted_and_an_archive_is_one_job(
    cloud: Cloud, key: str, jobs: int
) -> None:
    upload(cloud, 30)
    start(cloud, stored(cloud, key))
    assert len(cloud.batch.jobs) == jobs


class Endless(Bucket):
    """A bucket whose listing never ends. listed: how many objects of it were taken."""

    listed = 0

    def entries(self, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
        for number in count():
            self.listed += 1
            yield ListedObject(f"{prefix}{start_after}{number}", "etag", 1, EARLIER)


def test_counting_stops_at_what_fills_the_largest_array(cloud: Cloud) -> None:
    bucket = Endless(cloud.s3, BUCKET)
    source = layout.DatasetSource("cars", "datasets/cars/")
    assert pack.count_shards(bucket, source, SETTINGS) == 4
    assert bucket.listed == 16


def test_a_dataset_that_takes_too_long_to_count_fills_the_largest_array(cloud: Cloud) -> None:
    bucket, ticks = Endless(cloud.s3, BUCKET), count()
    source = layout.DatasetSource("cars", "datasets/cars/")
    settings = dataclasses.replace(SETTINGS, pictures_per_packing_job=10_000)
    assert pack.count_shards(bucket, source, settings, lambda: float(next(ticks))) == 4
    assert bucket.listed == pack.COUNTING_SECONDS + 1


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_stack_that_runs_one_job_at_a_time_packs_with_one(cloud: Cloud, most: int) -> None:
    upload(cloud, 30)
    start(cloud, stored(cloud, "datasets/cars/_READY"), packing_max_vcpus=most)
    assert len(cloud.batch.jobs) == 1


@pytest.mark.parametrize("submitted", [0, 1, 2])
def test_a_retry_after_a_crash_submits_what_is_missing_of_an_array_and_its_join(
    cloud: Cloud, submitted: int
) -> None:
    upload(cloud, 11)
    event, runs = stored(cloud, "datasets/cars/_READY"), cloud.runs()
    if submitted == 2:
        with crash_in(runs, "finish"):
            start(cloud, event, runs)
    else:
        with crash_in(cloud.batch, "submit_job", after=submitted == 1):
            start(cloud, event, runs)
    assert len(cloud.batch.jobs) == submitted
    if submitted:  # the array's size is known, and what is uploaded later does not change it
        upload(cloud, 40)
    run = start(cloud, event, runs)
    array, join = cloud.batch.jobs
    assert array["arrayProperties"] == {"size": 3}
    assert join["parameters"]["shards"] == "3"
    assert join["dependsOn"] == [{"jobId": array["jobId"]}]
    facts = facts_of(cloud, run)
    assert (facts["batch_array_id"], facts["batch_job_id"]) == ("job-0", "job-1")
    assert facts["packing_shards"] == 3


def test_the_job_s_parameters_are_those_of_the_job_definition(repo_root: Path) -> None:
    template = (repo_root / "template.yaml").read_text()
    for name in (
        "step", "shards", "classifier", "run_id", "source", "destination", "shorter_side",
        "corrections",
    ):  # fmt: skip
        assert f"Ref::{name}" in template


@pytest.mark.parametrize("key", ["datasets/cars/_READY", "datasets/cars.zip"])
def test_a_dataset_larger_than_allowed_is_refused_before_a_job(cloud: Cloud, key: str) -> None:
    upload(cloud, 3)
    least = 0  # below what a parameter may be
    run = start(cloud, stored(cloud, key, b"." * (key.endswith(".zip"))), max_dataset_gib=least)
    if key.endswith("_READY"):  # three empty pictures are not above nothing: one byte is
        assert len(cloud.batch.jobs) == 1
        cloud.put("datasets/cars/audi/000.jpg", b".")
        run = start(cloud, stored(cloud, key, b"again"), max_dataset_gib=least)
    assert run is not None
    record = cloud.runs().get(run)
    assert record is not None
    assert record.status is Status.FAILED
    assert record.record["error"]["code"] == "dataset.too_large"
    assert "MaxDatasetGiB" in record.record["error"]["message"]


@pytest.mark.parametrize(
    ("trainer", "size", "time", "side"),
    [
        ("droplens", 96, 3.0, 110),
        ("droplens", 224, 3.0, 256),
        ("droplens", 288, 3.0, 329),
        ("droplens", 512, 3.0, 585),
        ("droplens", 0, 3.0, 388),
        ("droplens", 0, 1.0, 224),
        ("builtin", 0, 3.0, 256),
    ],
)
def test_records_have_the_pixels_of_the_largest_input_that_may_be_trained(
    trainer: str, size: int, time: float, side: int
) -> None:
    settings = dataclasses.replace(
        SETTINGS, trainer_image=trainer, image_size=size, max_serving_time=time
    )
    assert pack.packed_side(settings) == side
