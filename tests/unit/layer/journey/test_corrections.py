"""A run takes the corrections there are, and enough new ones start a run, once."""

import dataclasses
import json
import random
from typing import Any

import pytest

from droplens.aws.events import ObjectCreated
from droplens.domain import layout
from droplens.domain.run import RunKey, Stage, Status
from droplens.journey import corrections, pack
from droplens.runtime.settings import PackingSettings
from droplens.state.runs import Runs
from tests.support.aws_account import BUCKET, JOURNEY, Cloud
from tests.support.crashes import crash_in

SETTINGS = PackingSettings(
    **JOURNEY,
    job_queue="arn:aws:batch:us-east-1:123456789012:job-queue/droplens-packing",
    job_definition="arn:aws:batch:us-east-1:123456789012:job-definition/droplens-batch-prep:3",
    image_size=224,
    max_serving_time=3.0,
    trainer_image="droplens",
    packing_vcpus=2,
    packing_max_vcpus=8,
    pictures_per_packing_job=5,
    max_dataset_gib=256,
    retrain_after_corrections=3,
)
FOLDER = f"s3://{BUCKET}/corrections/cars/"


def stored(cloud: Cloud, key: str, body: bytes = b"") -> ObjectCreated:
    answer = cloud.put(key, body)
    return ObjectCreated(BUCKET, key, answer["ETag"].strip('"'), answer["VersionId"], len(body))


def start(cloud: Cloud, event: ObjectCreated, runs: Runs | None = None, after: int = 3) -> Any:
    settings = dataclasses.replace(SETTINGS, retrain_after_corrections=after)
    packing = pack.Packing(bucket=cloud.bucket, batch=cloud.batch, settings=settings)
    return packing.start(event, cloud.invocation(runs=runs))


def correct(cloud: Cloud, *names: str, body: bytes = b"x") -> list[ObjectCreated]:
    return [stored(cloud, f"corrections/cars/audi/{name}.jpg", body) for name in names]


def ended(cloud: Cloud, status: Status = Status.LIVE, **facts: Any) -> RunKey:
    """A run of the dataset "cars", which has ended; the clock is turned on."""
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    assert isinstance(run, RunKey)
    cloud.runs().end(run, status, **facts)
    cloud.clock.turn(600)
    cloud.batch.jobs.clear()
    return run


def listed(cloud: Cloud, run: RunKey) -> list[dict[str, Any]]:
    body, _ = cloud.bucket.read(layout.corrections_list_key("cars", run.run_id))
    return [json.loads(line) for line in body.decode().splitlines()]


# --- what a run takes


def test_a_run_takes_the_corrections_that_there_are(cloud: Cloud) -> None:
    [one] = correct(cloud, "ü 1")
    stored(cloud, "corrections/cars/_none/cat.jpg", b"cat")
    stored(cloud, "corrections/cars-2/audi/other.jpg")
    stored(cloud, "corrections/cars/beside.jpg")
    stored(cloud, "corrections/cars/audi/")
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    assert cloud.batch.jobs[0]["parameters"]["corrections"] == FOLDER
    found = {row["path"]: row for row in listed(cloud, run)}
    assert set(found) == {"audi/ü 1.jpg", "_none/cat.jpg"}
    assert found["audi/ü 1.jpg"] == {"path": "audi/ü 1.jpg", "bytes": 1, "etag": one.etag}


def test_without_any_nothing_is_listed(cloud: Cloud) -> None:
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    assert cloud.batch.jobs[0]["parameters"]["corrections"] == pack.NO_CORRECTIONS
    assert cloud.keys(f"packed/cars/{run.run_id}/") == []


def test_the_list_of_a_run_never_changes(cloud: Cloud) -> None:
    correct(cloud, "1")
    event, runs = stored(cloud, "datasets/cars/_READY"), cloud.runs()
    with crash_in(cloud.batch, "submit_job"):
        start(cloud, event, runs)
    correct(cloud, "2")
    run = start(cloud, event, runs)
    assert [row["path"] for row in listed(cloud, run)] == ["audi/1.jpg"]


def test_too_many_fail_the_run_with_what_to_do(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrections, "MOST_CORRECTIONS", 2)
    correct(cloud, "1", "2", "3")
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    record = cloud.runs().get(run)
    assert record is not None
    assert record.status is Status.FAILED
    assert "move the older ones into the dataset" in record.error["message"]


# --- what starts a run


def test_enough_new_ones_start_a_run_on_the_last_dataset(cloud: Cloud) -> None:
    before = ended(cloud)
    events = correct(cloud, "1", "2", "3")
    assert [start(cloud, event) for event in events[:2]] != [None, None]
    [job] = cloud.batch.jobs
    assert job["parameters"]["source"] == f"s3://{BUCKET}/datasets/cars/"
    assert job["parameters"]["corrections"] == FOLDER
    run = cloud.runs().newest("cars")
    assert run is not None
    assert run.key.run_id > before.run_id
    assert run.dataset["after"] == before.run_id
    assert run.status is Status.PACKING
    assert len(listed(cloud, run.key)) == 3


def test_fewer_start_none_and_the_next_counts_them_all(cloud: Cloud) -> None:
    ended(cloud)
    for name in ("1", "2"):
        [event] = correct(cloud, name)
        assert start(cloud, event) is None
    [event] = correct(cloud, "3")
    assert start(cloud, event) is not None


def test_those_that_the_last_run_took_are_not_new_unless_they_changed(cloud: Cloud) -> None:
    correct(cloud, "1", "2", "3")
    ended(cloud)
    [event] = correct(cloud, "4")
    assert start(cloud, event) is None
    correct(cloud, "1", body=b"other bytes")
    [event] = correct(cloud, "5")
    assert start(cloud, event) is not None


def test_events_in_any_order_and_number_start_one_run(cloud: Cloud) -> None:
    ended(cloud)
    deliveries = correct(cloud, *map(str, range(9))) * 3
    random.Random(3).shuffle(deliveries)
    for number, event in enumerate(deliveries):
        start(cloud, event, cloud.runs(f"request-{number}"))
        cloud.clock.turn(7)
    assert len(cloud.batch.jobs) == 1
    assert len(cloud.runs().of("cars")) == 2


def test_two_invocations_that_see_the_same_start_the_same_run(cloud: Cloud) -> None:
    before = ended(cloud)
    first, second = cloud.runs("one"), cloud.runs("two")
    named = first.name_successor(before, "20261122-121000-aaaaaa")
    assert second.name_successor(before, "20261122-121007-bbbbbb") == named
    events = correct(cloud, "1", "2", "3")
    assert start(cloud, events[0], second) == RunKey("cars", named)
    assert start(cloud, events[1], first) in (RunKey("cars", named), None)
    assert len(cloud.batch.jobs) == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("where", ["open", "claim", "finish"])
def test_a_retry_after_a_crash_goes_on_with_the_same_run(
    cloud: Cloud, where: str, after: bool
) -> None:
    ended(cloud)
    events, runs = correct(cloud, "1", "2", "3"), cloud.runs()
    with crash_in(runs, where, after=after):
        start(cloud, events[0], runs)
    start(cloud, events[0], runs)
    assert len(cloud.batch.jobs) == 1
    assert len(cloud.runs().of("cars")) == 2


def test_while_a_run_is_in_progress_none_starts(cloud: Cloud) -> None:
    run = start(cloud, stored(cloud, "datasets/cars/_READY"))
    events = correct(cloud, "1", "2", "3", "4")
    assert start(cloud, events[0]) is None
    cloud.runs().end(run, Status.REFUSED)
    cloud.clock.turn(600)
    assert start(cloud, events[3]) is not None


@pytest.mark.parametrize(("stage", "starts"), [(Stage.PACK, False), (Stage.TRAIN, True)])
def test_a_dataset_that_could_not_be_packed_is_not_tried_again(
    cloud: Cloud, stage: Stage, starts: bool
) -> None:
    error = {"stage": stage.value, "code": "any", "message": "any"}
    ended(cloud, Status.FAILED, error=error)
    events = correct(cloud, "1", "2", "3")
    assert (start(cloud, events[0]) is not None) == starts


def test_by_hand_means_never(cloud: Cloud) -> None:
    ended(cloud)
    events = correct(cloud, "1", "2", "3", "4")
    assert start(cloud, events[0], after=0) is None


@pytest.mark.parametrize(
    "key",
    [
        "corrections/birds/owl/1.jpg",  # no run of that classifier
        "corrections/cars/1.jpg",
        "corrections/Cars!/audi/1.jpg",
        "corrections/cars/audi/",
        "corrections/_READY",
        "corrections/cars/audi/all.zip",
    ],
)
def test_what_is_no_correction_of_a_known_classifier_starts_nothing(cloud: Cloud, key: str) -> None:
    ended(cloud)
    start(cloud, stored(cloud, key), after=1)
    wanted = 1 if layout.corrected_classifier(key) == "cars" else 0
    assert len(cloud.batch.jobs) == wanted
    assert cloud.notices() == []


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
