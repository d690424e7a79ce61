"""The recorded events are read as AWS publishes them, in each of their forms."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.aws import events
from droplens.aws.events import UnexpectedEvent
from droplens.aws.tags import tag_list, tag_map, tagged_run
from droplens.domain.run import RunKey
from tests.support.recorded_events import recorded

RUN = RunKey("cars", "20261122-120000-610e99")
NAME = "droplens--cars-20261122-120000-610e99"
READERS = {
    "s3-picture": events.object_created,
    "batch-failed": events.packing_ended,
    "training-failed": events.training_ended,
    "endpoint-failed": events.endpoint_changed,
}


def test_a_picture_s_event(repo_root: Path) -> None:
    created = events.object_created(recorded(repo_root, "s3-picture"))
    assert created.key == "input/cars/München 100%25 rot+weiß.jpg"
    assert created.bucket == "droplens-bucket-8k3mwq2ra1xz"
    assert created.etag == "5a105e8b9d40e1329780d62ea2265d8a"
    assert created.version == "Qm7kV0uK9f3yTz1LxWc5hNsR2aGpE8dJ"
    assert created.bytes == 84213


def test_a_queued_message_holds_the_very_event(repo_root: Path) -> None:
    [message] = recorded(repo_root, "sqs-picture-batch")["Records"]
    assert json.loads(message["body"]) == recorded(repo_root, "s3-picture")


@given(key=st.text(min_size=1))
def test_a_key_is_never_decoded(key: str) -> None:
    event = {"detail": {"bucket": {"name": "b"}, "object": {"key": key, "etag": "e"}}}
    assert events.object_created(event).key == key


def test_without_versions_the_etag_tells_versions_apart() -> None:
    event = {"detail": {"bucket": {"name": "b"}, "object": {"key": "k", "etag": '"e"', "size": 3}}}
    created = events.object_created(event)
    assert (created.version_id, created.version, created.bytes) == (None, "e", 3)


def test_a_packed_dataset_s_event(repo_root: Path) -> None:
    packed = events.packing_ended(recorded(repo_root, "batch-succeeded"))
    assert packed is not None
    assert (packed.run, packed.exit_code) == (RUN, 0)


@pytest.mark.parametrize(
    ("name", "step", "child", "waited_for"),
    [
        ("batch-succeeded", "all", None, None),
        ("batch-array-child-succeeded", "pack", 0, None),
        ("batch-array-child-failed", "pack", 1, None),
        ("batch-array-succeeded", "pack", None, "3b7e9f10-5c2d-4e8a-b1f6-7a9d0c4e2f58"),
        ("batch-array-failed", "pack", None, "3b7e9f10-5c2d-4e8a-b1f6-7a9d0c4e2f58"),
        ("batch-join-succeeded", "join", None, "3b7e9f10-5c2d-4e8a-b1f6-7a9d0c4e2f58"),
        ("batch-dependent-failed", "join", None, "3b7e9f10-5c2d-4e8a-b1f6-7a9d0c4e2f58"),
    ],
)
def test_an_event_of_a_packing_in_shards_says_which_part_of_it_ended(
    repo_root: Path, name: str, step: str, child: int | None, waited_for: str | None
) -> None:
    packed = events.packing_ended(recorded(repo_root, name))
    assert packed is not None
    assert packed.run == RUN
    assert (packed.step, packed.child, packed.waited_for) == (step, child, waited_for)


def test_a_failed_packing_s_event_says_each_thing_once(repo_root: Path) -> None:
    packed = events.packing_ended(recorded(repo_root, "batch-failed"))
    assert packed is not None
    assert packed.exit_code == 1
    assert packed.reason == "Essential container in task exited"


def test_a_job_whose_container_never_ran_has_a_reason_and_no_exit_code(repo_root: Path) -> None:
    event = recorded(repo_root, "batch-failed")
    missing = "CannotPullContainerError: batch-prep:latest not found"
    event["detail"]["container"].pop("exitCode")
    event["detail"]["container"]["reason"] = missing
    event["detail"]["attempts"][0]["container"] = {"reason": missing}
    packed = events.packing_ended(event)
    assert packed is not None
    assert packed.exit_code is None
    assert packed.reason == f"Essential container in task exited; {missing}"


def test_the_last_attempt_s_exit_code_is_taken_where_the_job_has_none(repo_root: Path) -> None:
    event = recorded(repo_root, "batch-failed")
    del event["detail"]["container"]["exitCode"]
    event["detail"]["attempts"].append({"container": {"exitCode": 137}})
    packed = events.packing_ended(event)
    assert packed is not None
    assert packed.exit_code == 137


@pytest.mark.parametrize(
    "parameters", [None, {}, {"classifier": "cars"}, {"classifier": "", "run_id": ""}]
)
def test_a_job_that_others_submitted_carries_no_run(repo_root: Path, parameters: Any) -> None:
    event = recorded(repo_root, "batch-failed")
    event["detail"]["parameters"] = parameters
    assert events.packing_ended(event) is None


def test_a_completed_training_s_event(repo_root: Path) -> None:
    trained = events.training_ended(recorded(repo_root, "training-completed"))
    assert (trained.job_name, trained.status) == (NAME, "Completed")
    assert trained.job_arn.endswith(f":training-job/{NAME}")
    assert tagged_run(trained.tags) == RUN


def test_an_endpoint_s_event(repo_root: Path) -> None:
    changed = events.endpoint_changed(recorded(repo_root, "endpoint-in-service"))
    assert (changed.name, changed.status) == (NAME, "IN_SERVICE")
    assert tagged_run(changed.tags) == RUN


@pytest.mark.parametrize(
    "tags",
    [
        {"droplens:classifier": "cars", "droplens:run": RUN.run_id, "team": "x"},
        [
            {"Key": "droplens:classifier", "Value": "cars"},
            {"Key": "droplens:run", "Value": RUN.run_id},
        ],
        [
            {"key": "droplens:run", "value": RUN.run_id},
            {"key": "droplens:classifier", "value": "cars"},
        ],
        tag_list(RUN),
    ],
)
def test_tags_are_read_in_all_of_their_forms(tags: Any) -> None:
    assert tagged_run(tag_map(tags)) == RUN


@pytest.mark.parametrize("tags", [None, {}, [], {"droplens:run": "x"}])
def test_other_tags_name_no_run(tags: Any) -> None:
    assert tagged_run(tag_map(tags)) is None


@pytest.mark.parametrize("name", READERS)
def test_fields_that_are_not_known_are_let_pass(repo_root: Path, name: str) -> None:
    event = recorded(repo_root, name)
    more = copy.deepcopy(event)
    more["detail"]["new-field"] = {"deep": [1]}
    assert READERS[name](more) == READERS[name](event)


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_such_event_is_unexpected(repo_root: Path, name: str) -> None:
    with pytest.raises(UnexpectedEvent):
        READERS[name]({})
    hollow = {"detail": {"parameters": {"classifier": "cars", "run_id": "x"}}}
    with pytest.raises(UnexpectedEvent):
        READERS[name](hollow)


def test_the_kind_of_an_event(repo_root: Path) -> None:
    assert events.detail_type(recorded(repo_root, "s3-picture")) == events.OBJECT_CREATED
    assert events.detail_type(recorded(repo_root, "sqs-picture-batch")) == ""


def test_a_chain_of_invocations_comes_to_its_end() -> None:
    switched = events.ModelSwitched(
        classifier="cars", run_id="run", generation=1, reclassify="none"
    )
    event: dict[str, Any] = {"detail": {}}
    for turn in range(1, events.LONGEST_CHAIN + 1):
        switched = switched.after("input/cars/a.jpg", 7)
        event = events.continued(event)
        assert (switched.turn, event["turn"]) == (turn, turn)
    assert events.model_switched(events.switched_event(switched)) == switched
    with pytest.raises(events.ChainTooLong):
        switched.after("input/cars/b.jpg", 8)
    with pytest.raises(events.ChainTooLong):
        events.continued(event)
