"""Enough new corrections start a run on a whole dataset, once, and they are seldom listed."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from moto.s3.models import s3_backends

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.run import RunKey, Stage, Status
from droplens.domain.stored_object import ListedObject
from droplens.journey import corrections, retrain
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import ACCOUNT
from tests.support.crashes import crash_in
from tests.support.prepare_dataset import correct, start, stored

FOLDER = f"s3://{BUCKET}/corrections/cars/"


def ended(
    cloud: Cloud,
    status: Status = Status.LIVE,
    completed: str = "datasets/cars/_READY",
    **facts: Any,
) -> RunKey:
    """A run of the dataset "cars", which has ended; the clock is turned on."""
    run = start(cloud, stored(cloud, completed))
    assert isinstance(run, RunKey)
    cloud.runs().end(run, status, **facts)
    cloud.clock.turn(600)
    cloud.batch.jobs.clear()
    return run


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
    assert layout.corrections_list_key("cars", run.key.run_id) in cloud.keys("packed/")


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
    events = correct(cloud, "1", body=b"other bytes") + correct(cloud, "5")
    assert start(cloud, events[0]) is None
    assert start(cloud, events[1]) is not None


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
    assert run is not None
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
    assert start(cloud, events[0], retrain_after_corrections=0) is None


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
    start(cloud, stored(cloud, key), retrain_after_corrections=1)
    wanted = 1 if layout.corrected_classifier(key) == "cars" else 0
    assert len(cloud.batch.jobs) == wanted
    assert cloud.notices() == []


# --- how often they are listed


class Listings(Bucket):
    """A bucket that counts the listings of corrections."""

    made = 0

    def entries(self, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
        self.made += prefix.startswith(layout.CORRECTIONS)
        return super().entries(prefix, start_after)


def test_corrections_are_listed_only_when_enough_could_be_new(cloud: Cloud) -> None:
    ended(cloud)
    cloud.bucket = bucket = Listings(cloud.s3, BUCKET)
    for number in range(9):
        [event] = correct(cloud, str(number))
        # Once for the first, which may have come while the run was in progress, and for the ninth.
        assert (start(cloud, event, retrain_after_corrections=9) is None) is (number < 8)
        assert bucket.made == (1 if number < 8 else 3)  # and once more, for the run's own list


def test_an_event_that_comes_again_makes_no_run_due(cloud: Cloud) -> None:
    ended(cloud)
    cloud.bucket = bucket = Listings(cloud.s3, BUCKET)
    [event] = correct(cloud, "1")
    assert [start(cloud, event) for _ in range(7)] == [None] * 7
    assert bucket.made == 4
    events = correct(cloud, "2", "3")
    assert start(cloud, events[0]) or start(cloud, events[1])


def test_events_during_a_listing_count_too(cloud: Cloud) -> None:
    """Recorded is the number of the event that listed, whatever number others have by then."""
    run = ended(cloud)
    first, second = cloud.runs("one"), cloud.runs("two")
    number, at_most = first.count_correction(run)
    assert (number, at_most) == (1, None)
    assert second.count_correction(run) == (2, None)
    first.counted_corrections(run, number, 1)
    assert second.count_correction(run) == (3, 3)


def test_corrections_during_a_run_that_is_resumed_are_counted(cloud: Cloud) -> None:
    failed = ended(cloud, Status.FAILED, error={"stage": "train", "code": "any", "message": "any"})
    assert start(cloud, correct(cloud, "1")[0]) is None
    assert cloud.runs().revive(failed, {"stage": "train", "next_try": 0})
    for event in correct(cloud, "2", "3"):
        assert start(cloud, event) is None
    cloud.runs().end(failed, Status.REFUSED)
    cloud.clock.turn(600)
    assert start(cloud, correct(cloud, "3", body=b"again")[0]) is not None


def test_too_many_start_a_run_that_fails_with_what_to_do(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrections, "MOST_CORRECTIONS", 2)
    ended(cloud)
    events = correct(cloud, "1", "2", "3")
    run = start(cloud, events[0], retrain_after_corrections=100)
    assert run is not None
    record = cloud.runs().get(run)
    assert record is not None
    assert record.error["code"] == "corrections.too_many"
    assert start(cloud, events[1], retrain_after_corrections=100) is None


# --- the dataset must be whole


def newer(key: str) -> None:
    """As if the object had been stored a minute later."""
    found = s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys[key]
    found.last_modified += timedelta(minutes=1)


@pytest.mark.parametrize("last", ["_READY", "labels.csv"])
def test_a_dataset_that_is_being_uploaded_again_is_not_packed(cloud: Cloud, last: str) -> None:
    completed = f"datasets/cars/{last}"
    stored(cloud, "datasets/cars/audi/1.jpg")
    ended(cloud, completed=completed)
    stored(cloud, "datasets/cars/audi/2.jpg")
    newer("datasets/cars/audi/2.jpg")
    events = correct(cloud, "1", "2", "3")
    assert start(cloud, events[0]) is None
    [notice] = cloud.notices()
    assert notice["subject"] == "Droplens: corrections of cars wait"
    assert f"datasets/cars/audi/2.jpg was stored after {completed}" in notice["message"]
    assert [start(cloud, event) for event in events[1:]] == [None, None]
    assert cloud.notices() == []
    # As many again: it is looked at again.
    assert [start(cloud, event) for event in correct(cloud, "4", "5")] == [None, None]
    assert len(cloud.notices()) == 1
    run = start(cloud, stored(cloud, completed, b"again"))
    assert run is not None
    assert cloud.batch.jobs[-1]["parameters"]["corrections"] != "none"
    assert len(cloud.batch.jobs) == 1


@pytest.mark.parametrize("change", ["deleted", "stored again"])
@pytest.mark.parametrize("key", ["datasets/cars/_READY", "datasets/cars.zip"])
def test_nor_is_one_whose_marker_is_another_one_by_now(cloud: Cloud, key: str, change: str) -> None:
    ended(cloud, completed=key)
    if change == "deleted":
        cloud.s3.delete_object(Bucket=BUCKET, Key=key)
    else:
        stored(cloud, key, b"again")
    assert start(cloud, correct(cloud, "1", "2", "3")[0]) is None
    [notice] = cloud.notices()
    assert key in notice["message"]


def test_pictures_beside_an_archive_do_not_matter(cloud: Cloud) -> None:
    ended(cloud, completed="datasets/cars.zip")
    stored(cloud, "datasets/cars/audi/1.jpg")
    newer("datasets/cars/audi/1.jpg")
    assert start(cloud, correct(cloud, "1", "2", "3")[0]) is not None
    assert cloud.notices() == []


def test_a_very_large_dataset_is_looked_at_for_a_limited_time(cloud: Cloud) -> None:
    class Endless(Bucket):
        looked_at = 0

        def entries(self, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
            for number in count():
                self.looked_at += 1
                yield ListedObject(f"{prefix}{start_after}{number}", "etag", 1, moment)

    bucket, ticks = Endless(cloud.s3, BUCKET), count()
    # Of the marker's second: a listing may tell fractions where a head request does not.
    moment = datetime(2026, 11, 22, 12, 0, 0, 600_000, tzinfo=UTC)
    whole = moment.timestamp() // 1
    found = retrain.stored_after(bucket, "datasets/cars/", whole, lambda: float(next(ticks)))
    assert found is None
    assert bucket.looked_at == retrain.LOOKING_SECONDS + 1
    assert retrain.stored_after(bucket, "datasets/cars/", whole - 1) == "datasets/cars/0"
