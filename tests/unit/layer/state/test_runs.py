"""Runs against a real conditional store: claims, ends, and what late or parallel events do."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from droplens.domain.run import IN_PROGRESS, Progress, Run, RunKey, Stage, Status, packing_progress
from droplens.state.runs import Runs
from tests.support.aws_account import Cloud
from tests.support.aws_fakes import refusal
from tests.support.builders import RUN

DATASET = {"key": "datasets/cars/", "version": "v1", "etag": "e1"}


@pytest.fixture
def runs(cloud: Cloud) -> Runs:
    """The table as request-1 sees it, with one open run."""
    runs = cloud.runs()
    assert runs.open(RUN, DATASET)
    return runs


def known(runs: Runs) -> Run:
    run = runs.get(RUN)
    assert run is not None
    return run


def test_an_opened_run_is_being_packed(runs: Runs) -> None:
    run = known(runs)
    assert run.status is Status.PACKING
    assert run.status in IN_PROGRESS
    assert run.record["dataset"] == DATASET
    assert run.record["created_at"] == "2026-11-22T12:00:00+00:00"


def test_a_run_is_opened_once(runs: Runs) -> None:
    assert not runs.open(RUN, {"key": "another"})
    assert known(runs).record["dataset"] == DATASET


def test_there_is_no_run_that_nobody_opened(cloud: Cloud) -> None:
    runs = cloud.runs()
    assert runs.get(RUN) is None
    assert not runs.claim(RUN, Stage.TRAIN)
    assert not runs.end(RUN, Status.FAILED)
    assert not runs.replace(Run(RUN, Status.LIVE), by="x")
    assert not runs.restore(RUN, "x", 1)
    runs.note(RUN, fact=1)
    runs.finish(RUN, Stage.PACK)
    assert runs.get(RUN) is None


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        (Stage.PACK, Status.PACKING),
        (Stage.TRAIN, Status.TRAINING),
        (Stage.DEPLOY, Status.DEPLOYING),
        (Stage.PROMOTE, Status.MEASURING),
    ],
)
def test_a_claim_says_where_the_run_stands(runs: Runs, stage: Stage, status: Status) -> None:
    assert runs.claim(RUN, stage)
    assert known(runs).status is status


def test_the_first_claim_of_a_stage_says_when_it_began(cloud: Cloud, runs: Runs) -> None:
    assert runs.claim(RUN, Stage.TRAIN)
    cloud.clock.turn(60)
    assert runs.claim(RUN, Stage.TRAIN)
    assert runs.claim(RUN, Stage.DEPLOY)
    record = known(runs).record
    assert record["begun_train"] == "2026-11-22T12:00:00+00:00"
    assert record["begun_deploy"] == "2026-11-22T12:01:00+00:00"


@pytest.mark.parametrize("stage", Stage)
def test_a_claimed_stage_is_not_another_s(cloud: Cloud, runs: Runs, stage: Stage) -> None:
    assert runs.claim(RUN, stage)
    assert not cloud.runs("request-2").claim(RUN, stage)


@pytest.mark.parametrize("stage", Stage)
def test_a_retry_of_the_same_request_takes_its_stage_up_again(runs: Runs, stage: Stage) -> None:
    assert runs.claim(RUN, stage)
    assert runs.claim(RUN, stage)


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_that_was_let_go_is_anybody_s(cloud: Cloud, runs: Runs, stage: Stage) -> None:
    second = cloud.runs("request-2")
    runs.claim(RUN, stage)
    second.release(RUN, stage)
    assert not second.claim(RUN, stage)  # only the holder can let go
    runs.release(RUN, stage)
    assert second.claim(RUN, stage)
    second.finish(RUN, stage)
    second.release(RUN, stage)
    assert not runs.claim(RUN, stage)  # and what is done stays done


@pytest.mark.parametrize("stage", Stage)
def test_a_finished_stage_is_claimed_by_nobody(cloud: Cloud, runs: Runs, stage: Stage) -> None:
    runs.claim(RUN, stage)
    runs.finish(RUN, stage, found=7)
    cloud.clock.turn(10_000)
    assert not runs.claim(RUN, stage)
    assert not cloud.runs("request-2").claim(RUN, stage)
    assert known(runs).record["found"] == 7


def test_a_dead_holder_is_succeeded_once_its_lease_has_run_out(cloud: Cloud, runs: Runs) -> None:
    assert runs.claim(RUN, Stage.PACK)
    second, third = cloud.runs("request-2"), cloud.runs("request-3")
    cloud.clock.turn(900)
    assert not second.claim(RUN, Stage.PACK)
    cloud.clock.turn(1)
    assert second.claim(RUN, Stage.PACK)
    assert not third.claim(RUN, Stage.PACK)
    assert not runs.claim(RUN, Stage.PACK)


@pytest.mark.parametrize("late", [Stage.PACK, Stage.TRAIN, Stage.DEPLOY])
def test_a_late_event_does_not_turn_a_run_back(cloud: Cloud, runs: Runs, late: Stage) -> None:
    assert runs.claim(RUN, Stage.PROMOTE)
    cloud.clock.turn(10_000)
    assert not runs.claim(RUN, late)
    assert known(runs).status is Status.MEASURING


@pytest.mark.parametrize("end", [status for status in Status if status not in IN_PROGRESS])
def test_an_end_is_reached_once_and_nothing_follows_it(runs: Runs, end: Status) -> None:
    assert runs.end(RUN, end, reason="first")
    assert not runs.end(RUN, Status.FAILED, reason="second")
    assert not any(runs.claim(RUN, stage) for stage in Stage)
    run = known(runs)
    assert (run.status, run.record["reason"]) == (end, "first")
    assert run.status not in IN_PROGRESS


def test_only_a_live_run_is_replaced(runs: Runs) -> None:
    assert not runs.replace(known(runs), by="next")
    runs.end(RUN, Status.LIVE, generation=1)
    live = known(runs)
    assert runs.replace(live, by="next")
    assert not runs.replace(live, by="another")
    assert known(runs).status is Status.REPLACED
    assert known(runs).record["replaced_by"] == "next"


def test_a_run_that_went_live_again_is_not_replaced_by_who_saw_it_before(runs: Runs) -> None:
    runs.end(RUN, Status.LIVE, generation=1)
    seen = known(runs)
    assert runs.restore(RUN, "next", 2)
    assert not runs.replace(seen, by="next")
    assert runs.restored(RUN, Status.LIVE, generation=3)
    assert not runs.replace(seen, by="next")
    assert known(runs).status is Status.LIVE


def test_the_endpoint_of_a_restored_run_is_not_retired(runs: Runs) -> None:
    runs.note(RUN, endpoint="first")
    runs.end(RUN, Status.LIVE)
    assert not runs.retire(known(runs))
    runs.replace(known(runs), by="next")
    seen = known(runs)
    runs.restore(RUN, "next", 2)
    assert not runs.retire(seen)
    runs.note(RUN, endpoint="second")
    runs.restored(RUN, Status.REPLACED)
    assert not runs.retire(seen)
    assert "retired" not in known(runs).record
    assert runs.retire(known(runs))
    assert known(runs).record["retired"] is True


def test_a_run_is_restored_once_at_a_time_and_only_if_it_was_live(runs: Runs) -> None:
    assert not runs.restore(RUN, "next", 1)
    runs.end(RUN, Status.LIVE)
    assert runs.restore(RUN, "next", 1)
    assert not runs.restore(RUN, "next", 1)
    assert runs.restored(RUN, Status.REPLACED)
    assert not runs.restored(RUN, Status.LIVE)


def test_who_waits_for_a_person_is_in_progress_and_in_nobody_s_hands(
    cloud: Cloud, runs: Runs
) -> None:
    runs.claim(RUN, Stage.PROMOTE)
    runs.wait(RUN)
    assert known(runs).status is Status.AWAITING
    assert cloud.runs("another").claim(RUN, Stage.PROMOTE)
    assert known(runs).status is Status.MEASURING


def test_facts_of_every_kind_are_kept(runs: Runs) -> None:
    runs.note(RUN, accuracy=0.1, sizes=[1, 2.5], nested={"share": 0.3, "words": ("a",)})
    facts = known(runs).record
    assert float(facts["accuracy"]) == 0.1
    assert [float(size) for size in facts["sizes"]] == [1, 2.5]
    assert float(facts["nested"]["share"]) == 0.3


def test_a_run_is_found_by_its_dataset_s_version(cloud: Cloud, runs: Runs) -> None:
    newer = RunKey("cars", "20261123-000000-ffffff")
    runs.open(newer, {**DATASET, "version": "v2"})
    runs.open(RunKey("birds", "20261124-000000-ffffff"), DATASET)
    found = runs.find_by_dataset("cars", "v1")
    assert found is not None
    assert found.key == RUN
    assert runs.find_by_dataset("cars", "v3") is None


def test_of_two_runs_of_one_dataset_version_the_newer_one_is_found(runs: Runs) -> None:
    newer = RunKey("cars", "20261123-000000-ffffff")
    runs.open(newer, DATASET)
    runs.open(RunKey("cars", "20261124-000000-ffffff"), {**DATASET, "version": "v2"})
    found = runs.find_by_dataset("cars", "v1")
    assert found is not None
    assert found.key == newer


class RecordingTable:
    """A table that keeps what it was asked for."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.requests: list[dict[str, Any]] = []

    def _asked(self, call: Any, request: dict[str, Any]) -> Any:
        self.requests.append(request)
        return call(**request)

    def get_item(self, **request: Any) -> Any:
        return self._asked(self.table.get_item, request)

    def query(self, **request: Any) -> Any:
        return self._asked(self.table.query, request)


def test_what_was_just_written_is_seen_by_whoever_decides_by_it(runs: Runs) -> None:
    """An eventually consistent read might miss it, which moto's table never does."""
    table: Any = RecordingTable(runs.table)
    reading = Runs(table, owner="request-1")
    assert reading.get(RUN) == reading.find_by_dataset("cars", "v1") == reading.of("cars")[0]
    assert [request["ConsistentRead"] for request in table.requests] == [True] * 3


def test_no_more_than_the_newest_run_is_read(runs: Runs) -> None:
    table: Any = RecordingTable(runs.table)
    Runs(table, owner="request-1").newest("cars")
    [request] = table.requests
    assert request["Limit"] == 1


def test_the_newest_run_is_the_one_that_was_opened_last(runs: Runs) -> None:
    for name in ("20261123-000000-ffffff", "20261101-000000-ffffff"):
        runs.open(RunKey("cars", name), {**DATASET, "version": name})
    newest = runs.newest("cars")
    assert newest is not None
    assert newest.key.run_id == "20261123-000000-ffffff"
    assert runs.newest("birds") is None


@pytest.mark.parametrize("status", Status)
def test_a_classifier_is_stranded_whose_newest_run_gave_no_model(
    runs: Runs, status: Status
) -> None:
    runs.note(RUN, status=status.value)
    assert runs.is_stranded("cars") is (status in (Status.FAILED, Status.REFUSED))
    assert not runs.is_stranded("birds")


class Invocation:
    """Lambda's context."""

    aws_request_id = "request-7"

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@pytest.mark.parametrize(("milliseconds", "seconds"), [(61_999, 62), (62_000, 63), (0, 1)])
def test_a_lease_does_not_end_before_its_invocation(
    cloud: Cloud, milliseconds: int, seconds: int
) -> None:
    context: Any = Invocation(milliseconds)
    assert Runs.of_invocation(cloud.table, context).lease_seconds == seconds


def test_an_invocation_holds_its_claims_as_long_as_it_may_run(cloud: Cloud) -> None:
    context: Any = Invocation(61_900)
    runs = Runs.of_invocation(cloud.table, context)
    assert runs.owner == "request-7"
    begun = int(datetime.now(UTC).timestamp())
    runs.open(RUN, DATASET)
    runs.claim(RUN, Stage.PACK)
    claim = known(runs).record["claim_pack"]
    assert claim["owner"] == "request-7"
    assert claim["done"] is False
    # The clock is the real one: it may have gone on since.
    assert begun + 62 <= claim["lease_until"] <= int(datetime.now(UTC).timestamp()) + 62


def test_without_a_lease_given_claims_are_held_for_fifteen_minutes(cloud: Cloud) -> None:
    runs = Runs(cloud.table, owner="request-1", clock=cloud.clock)
    second = Runs(cloud.table, owner="request-2", clock=cloud.clock)
    runs.open(RUN, DATASET)
    assert runs.claim(RUN, Stage.PACK)
    cloud.clock.turn(900)
    assert not second.claim(RUN, Stage.PACK)
    cloud.clock.turn(1)
    assert second.claim(RUN, Stage.PACK)


def test_what_is_done_or_let_go_has_no_lease(runs: Runs) -> None:
    runs.claim(RUN, Stage.PACK)
    assert known(runs).record["claim_pack"]["done"] is False
    runs.finish(RUN, Stage.PACK)
    assert known(runs).record["claim_pack"] == {
        "owner": "request-1",
        "lease_until": 0,
        "done": True,
    }
    runs.claim(RUN, Stage.TRAIN)
    runs.release(RUN, Stage.TRAIN)
    free = {"owner": "request-1", "lease_until": 0, "done": False}
    assert known(runs).record["claim_train"] == free
    runs.claim(RUN, Stage.PROMOTE)
    runs.wait(RUN)
    assert known(runs).record["claim_promote"] == free


# --- runs that wait for a quota or for capacity

WAITS = {"stage": "train", "next_try": 1000}


@pytest.fixture
def waiting(runs: Runs) -> Runs:
    """The run, which waits at its training."""
    runs.claim(RUN, Stage.TRAIN, job="job-1")
    assert runs.hold(RUN, Stage.TRAIN, WAITS, ("job", "job-1"), surplus="endpoint-1")
    return runs


def test_a_run_that_waits_is_on_the_list_with_what_it_waits_for(waiting: Runs) -> None:
    run = known(waiting)
    assert run.status is Status.WAITING
    assert run.record["waits_for"] == WAITS
    assert run.record["to_remove"] == {"endpoint-1"}
    free = {"owner": "request-1", "lease_until": 0, "done": False}
    assert run.record["claim_train"] == free
    assert waiting.needing_attention() == [RUN]


def test_a_run_is_held_only_at_the_stage_and_the_try_that_met_the_limit(runs: Runs) -> None:
    runs.claim(RUN, Stage.TRAIN, job="job-2")
    assert not runs.hold(RUN, Stage.TRAIN, WAITS, ("job", "job-1"))
    assert not runs.hold(RUN, Stage.DEPLOY, WAITS, ("job", "job-2"))
    assert known(runs).status is Status.TRAINING
    assert runs.needing_attention() == []


def test_only_whoever_resumes_the_stage_takes_up_a_run_that_waits(
    cloud: Cloud, waiting: Runs
) -> None:
    second = cloud.runs("request-2")
    assert not second.claim(RUN, Stage.TRAIN)
    assert not second.claim(RUN, Stage.DEPLOY, resuming=True)
    assert second.claim(RUN, Stage.TRAIN, resuming=True)
    assert known(waiting).status is Status.TRAINING
    assert not waiting.claim(RUN, Stage.TRAIN, resuming=True)


def test_a_try_is_begun_by_one(waiting: Runs) -> None:
    seen = known(waiting)
    assert waiting.begin_try(seen, 2000)
    assert known(waiting).record["waits_for"] == {"stage": "train", "next_try": 2000}
    assert not waiting.begin_try(seen, 3000)
    waiting.end(RUN, Status.FAILED)
    assert not waiting.begin_try(known(waiting), 3000)


def test_a_failed_run_that_is_revived_has_forgotten_its_failure(runs: Runs) -> None:
    assert not runs.revive(RUN, WAITS)
    runs.end(RUN, Status.FAILED, error={"code": "x"})
    runs.note(RUN, notified=True, endpoint="kept")
    assert runs.revive(RUN, WAITS)
    run = known(runs)
    assert (run.status, run.record["waits_for"]) == (Status.WAITING, WAITS)
    assert run.record["endpoint"] == "kept"
    assert not run.record.keys() & {"error", "ended_at", "notified"}
    assert runs.needing_attention() == [RUN]


def test_a_run_leaves_the_list_once_nothing_is_to_be_done(waiting: Runs) -> None:
    assert not waiting.needs_none(RUN)
    waiting.end(RUN, Status.FAILED)
    assert not waiting.needs_none(RUN)  # its endpoint is still to be removed
    waiting.is_removed(RUN, "endpoint-1")
    assert "to_remove" not in known(waiting).record
    assert waiting.needs_none(RUN)
    assert waiting.needing_attention() == []


def test_endpoints_to_be_removed_are_kept_until_each_is(runs: Runs) -> None:
    for name in ("one", "two"):
        runs.to_be_removed(RUN, name)
    assert known(runs).record["to_remove"] == {"one", "two"}
    assert runs.needing_attention() == [RUN]
    runs.is_removed(RUN, "one")
    assert known(runs).record["to_remove"] == {"two"}


def test_the_list_is_read_to_its_end(runs: Runs) -> None:
    keys = [RunKey("cars", f"20270101-{number:06}-a") for number in range(12)]
    for key in keys:
        runs.open(key, {})
        runs.to_be_removed(key, "e")
    query, answers = runs.table.query, []

    class Paged:
        """A table that answers with five at a time."""

        def query(self, **request: Any) -> Any:
            answers.append(query(**request, Limit=5))
            return answers[-1]

    table: Any = Paged()
    found = Runs(table, owner="request-1").needing_attention()
    assert sorted(found, key=lambda key: key.run_id) == keys
    assert len(answers) == 3


# --- an endpoint that is made again


def test_a_restored_run_s_other_endpoint_takes_the_place_of_the_one_to_be_removed(
    runs: Runs,
) -> None:
    runs.note(RUN, endpoint="first", retired=True, endpoint_removed=True)
    runs.make_again(known(runs), "first")
    facts = known(runs).record
    assert (facts["endpoint"], facts["retired"], facts["endpoint_removed"]) == (
        "first",
        False,
        False,
    )
    assert "to_remove" not in facts
    assert runs.needing_attention() == []
    runs.make_again(known(runs), "second")
    facts = known(runs).record
    assert (facts["endpoint"], facts["to_remove"]) == ("second", {"first"})
    assert (facts["retired"], facts["endpoint_removed"]) == (False, False)
    assert runs.needing_attention() == [RUN]


def test_an_endpoint_is_on_record_as_removed_only_if_it_is_still_the_run_s(runs: Runs) -> None:
    runs.note(RUN, endpoint="first")
    seen = known(runs)
    runs.note(RUN, endpoint="second")
    runs.endpoint_removed(seen)
    assert "endpoint_removed" not in known(runs).record
    runs.endpoint_removed(known(runs))
    assert known(runs).record["endpoint_removed"] is True


def test_a_change_is_on_record_with_its_time(cloud: Cloud, runs: Runs) -> None:
    cloud.clock.turn(60)
    runs.note(RUN, fact=1)
    facts = known(runs).record
    assert facts["updated_at"] == "2026-11-22T12:01:00+00:00"
    assert facts["created_at"] == "2026-11-22T12:00:00+00:00"
    runs.end(RUN, Status.LIVE)
    assert known(runs).record["ended_at"] == "2026-11-22T12:01:00+00:00"


def test_a_write_that_fails_for_another_reason_is_an_error() -> None:
    class Refusing:
        """A table that may not be written."""

        def put_item(self, **_: Any) -> None:
            raise refusal("AccessDeniedException", "PutItem")

    table: Any = Refusing()
    with pytest.raises(ClientError, match="AccessDenied"):
        Runs(table, owner="request-1").open(RUN, DATASET)


def test_a_classifier_is_known_from_its_first_run_on(runs: Runs) -> None:
    assert runs.any_of("cars")
    assert not runs.any_of("car")


def test_all_runs_of_a_classifier_are_found_however_many(cloud: Cloud, runs: Runs) -> None:
    names = [f"20270101-{number:06}-a" for number in range(12)]
    for name in names:
        # DynamoDB answers with a megabyte at a time.
        runs.open(RunKey("cars", name), {**DATASET, "padding": "x" * 200_000})
    runs.open(RunKey("birds", names[0]), DATASET)
    assert [run.key.run_id for run in runs.of("cars")] == [RUN.run_id, *names]


PART = {"done": Decimal(30), "total": Decimal(100), "at": "2026-11-22T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("item", "progress"),
    [
        ({}, None),
        ({"shards": {}, "packing_shards": Decimal(2)}, None),
        (
            {"progress": {**PART, "stage": "packing"}},
            Progress("packing", 30, 100),
        ),
        ({"progress": {**PART, "stage": "packing", "total": None}}, Progress("packing", 30, None)),
        (
            {"shards": {"0": PART, "1": {**PART, "done": Decimal(50)}}, "packing_shards": 2},
            Progress("packing", 80, 200),
        ),
        # Two of four children have told nothing yet.
        (
            {"shards": {"0": PART, "3": PART}, "packing_shards": Decimal(4)},
            Progress("packing", 60, 400),
        ),
        # Before the run knows how many there are.
        ({"shards": {"0": PART}}, Progress("packing", 30, 100)),
        ({"shards": {"0": PART, "1": {**PART, "total": None}}}, Progress("packing", 60, None)),
        # The join comes after all shards.
        (
            {"shards": {"0": PART}, "progress": {**PART, "stage": "joining"}},
            Progress("joining", 30, 100),
        ),
    ],
)
def test_progress_is_read_from_one_job_or_from_all_shards_together(
    item: dict[str, Any], progress: Progress | None
) -> None:
    assert packing_progress(item) == progress
