"""Whatever fails, its run says why, and whoever asked to be told is told once."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from droplens.aws import events, tags
from droplens.aws.events import UnexpectedEvent
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.domain.text import MAX_SENTENCE
from droplens.journey.failure_reasons import FailureReporter
from droplens.journey.failures import Failures
from droplens.state.cards import Cards
from tests.support.aws_account import Cloud
from tests.support.builders import card, go_live
from tests.support.crashes import crash_in
from tests.support.recorded_events import recorded

RUN = RunKey("cars", "20261122-120000-610e99")  # that of the recorded events
NAME = f"droplens--cars-{RUN.run_id}"
JOB = "9d1b6c52-7e4f-4a2c-8d5b-3f0e6a9c1b77"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:{{kind}}/{NAME}"
TAGS = tags.tag_list(RUN)


@pytest.fixture
def failing(cloud: Cloud) -> Cloud:
    """An account with the recorded run in progress, and an endpoint of its own."""
    cloud.runs().open(RUN, {"version": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"})
    cloud.runs().note(RUN, batch_job_id=JOB, endpoint=NAME)
    for made in cloud.sagemaker.made.values():
        made[NAME] = {}
    for kind in ("training-job", "endpoint"):
        cloud.sagemaker.tags[ARN.format(kind=kind)] = TAGS
    return cloud


def report(cloud: Cloud, event: Any) -> RunKey | None:
    reporter = FailureReporter(
        bucket=cloud.bucket,
        cards=Cards(cloud.bucket),
        batch=cloud.batch,
        sagemaker=cloud.sagemaker,
    )
    return reporter.report(event, cloud.invocation())


def known(cloud: Cloud, run: RunKey = RUN) -> Run:
    found = cloud.runs().get(run)
    assert found is not None
    return found


def gave_up(event: Any, condition: str = "RetriesExhausted") -> dict[str, Any]:
    """What Lambda sends of a function that failed on `event` for the last time."""
    return {
        "requestContext": {"condition": condition},
        "requestPayload": event,
        "responsePayload": {"errorType": "ClientError", "errorMessage": "AccessDenied"},
    }


def test_a_failed_packing_says_what_batch_says(failing: Cloud, repo_root: Path) -> None:
    assert report(failing, recorded(repo_root, "batch-failed")) == RUN
    error = known(failing).record["error"]
    assert known(failing).status is Status.FAILED
    assert (error["stage"], error["code"]) == ("pack", "packing.failed")
    assert error["message"] == "Batch: Essential container in task exited, exit code 1"


def test_what_the_job_itself_said_comes_first(failing: Cloud, repo_root: Path) -> None:
    said = b'{"message": "datasets/cars/ has one class, audi: a classifier needs two"}'
    failing.put(f"packed/cars/{RUN.run_id}/failure.json", said)
    report(failing, recorded(repo_root, "batch-failed"))
    error = known(failing).record["error"]
    assert error["code"] == "packing.dataset"
    assert error["message"].startswith("datasets/cars/ has one class, audi")
    assert "exit code 1" in error["message"]
    [notice] = failing.notices()
    assert notice["subject"] == "Droplens: cars failed at pack"
    assert "has one class, audi" in notice["message"]
    assert RUN.run_id in notice["message"]


def test_a_job_that_never_started_has_no_exit_code(failing: Cloud, repo_root: Path) -> None:
    event = recorded(repo_root, "batch-failed")
    event["detail"].update(statusReason="CannotPullContainerError", attempts=[], container={})
    report(failing, event)
    message = known(failing).record["error"]["message"]
    assert message == "Batch: CannotPullContainerError, no exit code"


OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"


@pytest.mark.parametrize(
    ("exit_code", "said"), [(137, ""), (1, OUT_OF_MEMORY), (None, OUT_OF_MEMORY)]
)
def test_a_packing_that_was_killed_for_memory_names_the_parameter_that_gives_more(
    failing: Cloud, repo_root: Path, exit_code: int | None, said: str
) -> None:
    event = recorded(repo_root, "batch-failed")
    container = {"reason": said} if exit_code is None else {"exitCode": exit_code, "reason": said}
    event["detail"].update(attempts=[{"container": container}], container=container)
    report(failing, event)
    message = known(failing).record["error"]["message"]
    assert message.endswith("the stack's parameter PackingMemoryMiB")


@pytest.mark.parametrize(
    "said",
    [
        "ClientError: Please use an instance type with more memory, or reduce the size of job.",
        "AlgorithmError: , exit code: 137",
        "AlgorithmError: Exit Code: 137",
    ],
)
def test_a_training_that_was_killed_for_memory_names_the_parameter_that_gives_more(
    failing: Cloud, repo_root: Path, said: str
) -> None:
    failing.sagemaker.jobs[NAME] = {"FailureReason": said}
    report(failing, recorded(repo_root, "training-failed"))
    message = known(failing).record["error"]["message"]
    assert message.startswith(said)
    assert message.endswith("the stack's parameter TrainingInstanceType")


# --- a packing in shards


ARRAY = "3b7e9f10-5c2d-4e8a-b1f6-7a9d0c4e2f58"
JOIN = "c06d2a71-94be-4f37-8e15-2b8f6d3a9c40"
OF_SHARDS = ["batch-array-child-failed", "batch-array-failed", "batch-dependent-failed"]
FAILED_CHILD = {
    "jobId": f"{ARRAY}:1",
    "jobName": "cars-shards",
    "arrayProperties": {"index": 1},
    "statusReason": "Essential container in task exited",
    "container": {"exitCode": 75},
}


@pytest.fixture
def in_shards(failing: Cloud) -> Cloud:
    """The run in progress is packed by an array and a job that joins its shards."""
    failing.runs().note(RUN, batch_job_id=JOIN, batch_array_id=ARRAY, packing_shards=4)
    return failing


@pytest.mark.parametrize("order", list(itertools.permutations(OF_SHARDS)))
def test_a_failed_shard_is_one_failure_with_its_own_words_whatever_is_told_first(
    in_shards: Cloud, repo_root: Path, order: tuple[str, ...]
) -> None:
    said = b'{"message": "Could not read s3://b/datasets/cars/audi/7.jpg: SlowDown"}'
    in_shards.put(f"packed/cars/{RUN.run_id}/failure.json", said)
    ended = {**FAILED_CHILD, "jobId": f"{ARRAY}:3", "arrayProperties": {"index": 3}}
    del ended["container"]  # a child that was ended before it ran
    in_shards.batch.failed_children = [ended, FAILED_CHILD]
    for name in order:
        assert report(in_shards, recorded(repo_root, name)) == RUN
    error = known(in_shards).record["error"]
    assert (error["stage"], error["code"]) == ("pack", "packing.failed")
    assert error["message"] == (
        "Could not read s3://b/datasets/cars/audi/7.jpg: SlowDown "
        "(Batch, child 1: Essential container in task exited, exit code 75)"
    )
    assert len(in_shards.notices()) == 1


def test_a_shard_whose_container_never_ran_is_named_with_batch_s_reason(
    in_shards: Cloud, repo_root: Path
) -> None:
    in_shards.batch.failed_children = [
        {
            **FAILED_CHILD,
            "statusReason": "Task failed to start",
            "container": {"reason": "CannotPullContainerError"},
        }
    ]
    report(in_shards, recorded(repo_root, "batch-dependent-failed"))
    assert known(in_shards).record["error"]["message"] == (
        "Batch, child 1: Task failed to start; CannotPullContainerError, no exit code"
    )


def test_shards_that_nobody_will_join_are_removed_also_those_that_came_later(
    in_shards: Cloud, repo_root: Path
) -> None:
    prefix = f"packed/cars/{RUN.run_id}/"
    kept = {f"{prefix}failure.json", f"{prefix}train/train.rec", "packed/cars/other/work/a"}
    for key in kept - {f"{prefix}failure.json"}:
        in_shards.put(key)
    in_shards.put(f"{prefix}failure.json", b'{"message": "why"}')
    in_shards.put(f"{prefix}work/0-of-4/train.rec")
    report(in_shards, recorded(repo_root, "batch-array-child-failed"))
    assert set(in_shards.keys("packed/")) == kept
    in_shards.put(f"{prefix}work/2-of-4/train.rec")
    report(in_shards, recorded(repo_root, "batch-array-failed"))
    assert set(in_shards.keys("packed/")) == kept


def test_a_late_failure_leaves_the_shards_of_a_run_that_goes_on(
    in_shards: Cloud, repo_root: Path
) -> None:
    in_shards.put(f"packed/cars/{RUN.run_id}/work/0-of-4/train.rec")
    in_shards.runs().end(RUN, Status.LIVE)
    report(in_shards, recorded(repo_root, "batch-array-child-failed"))
    assert len(in_shards.keys("packed/")) == 1


def test_an_array_that_was_ended_before_it_had_children_says_why(
    in_shards: Cloud, repo_root: Path
) -> None:
    event = recorded(repo_root, "batch-array-failed")
    event["detail"]["statusReason"] = "stopped by hand"
    report(in_shards, event)
    message = known(in_shards).record["error"]["message"]
    assert message == "Batch: stopped by hand, no exit code"


def test_a_failed_join_speaks_for_itself(in_shards: Cloud, repo_root: Path) -> None:
    said = b'{"message": "30 % of the pictures cannot be used"}'
    in_shards.put(f"packed/cars/{RUN.run_id}/failure.json", said)
    event = recorded(repo_root, "batch-dependent-failed")
    event["detail"]["container"]["exitCode"] = 1
    event["detail"]["statusReason"] = "Essential container in task exited"
    report(in_shards, event)
    error = known(in_shards).record["error"]
    assert error["code"] == "packing.dataset"
    assert error["message"].startswith("30 % of the pictures cannot be used (Batch: Essential")


def test_a_child_of_another_array_is_nobody_s_failure(in_shards: Cloud, repo_root: Path) -> None:
    event = recorded(repo_root, "batch-array-child-failed")
    event["detail"]["jobId"] = "another-array:1"
    assert report(in_shards, event) is None
    assert known(in_shards).status is Status.PACKING


def test_a_shard_that_fails_before_its_run_knows_its_jobs_is_told_all_the_same(
    cloud: Cloud, repo_root: Path
) -> None:
    cloud.runs().open(RUN, {"version": "v"})
    assert report(cloud, recorded(repo_root, "batch-array-child-failed")) == RUN
    assert known(cloud).status is Status.FAILED


@pytest.mark.parametrize(
    "changes",
    [
        {"jobId": "another-job"},
        {"parameters": {}},
        {"parameters": {"classifier": "", "run_id": ""}},
        {"parameters": {"classifier": "cars", "run_id": "20250101-000000-000000"}},
    ],
    ids=["a clone", "no parameters", "empty parameters", "unknown run"],
)
def test_a_foreign_job_is_nobody_s_failure(
    failing: Cloud, repo_root: Path, changes: dict[str, Any]
) -> None:
    event = recorded(repo_root, "batch-failed")
    event["detail"].update(changes)
    assert report(failing, event) is None
    assert known(failing).status is Status.PACKING
    assert failing.notices() == []


def test_a_failed_training_says_what_sagemaker_says(failing: Cloud, repo_root: Path) -> None:
    reason = "ClientError: mini_batch_size is larger than the dataset, exit code: 2"
    failing.sagemaker.jobs[NAME] = {"FailureReason": reason}
    assert report(failing, recorded(repo_root, "training-failed")) == RUN
    error = known(failing).record["error"]
    assert (error["stage"], error["code"], error["message"]) == (
        "train",
        "training.failed",
        reason,
    )
    assert reason in failing.notices()[0]["message"]


def test_a_stopped_training_is_an_end_too(failing: Cloud, repo_root: Path) -> None:
    failing.sagemaker.jobs[NAME] = {}
    event = recorded(repo_root, "training-failed")
    event["detail"]["TrainingJobStatus"] = "Stopped"
    report(failing, event)
    error = known(failing).record["error"]
    assert error["code"] == "training.stopped"
    assert error["message"] == "the training job ended as Stopped"


def test_a_failed_endpoint_is_told_and_removed(failing: Cloud, repo_root: Path) -> None:
    failing.sagemaker.made["Endpoint"][NAME] = {"FailureReason": "The container did not answer"}
    assert report(failing, recorded(repo_root, "endpoint-failed")) == RUN
    error = known(failing).record["error"]
    assert (error["stage"], error["code"]) == ("deploy", "endpoint.failed")
    assert error["message"] == "The container did not answer"
    assert failing.sagemaker.made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}


def test_a_failed_endpoint_that_is_gone_is_told_all_the_same(
    failing: Cloud, repo_root: Path
) -> None:
    del failing.sagemaker.made["Endpoint"][NAME]
    report(failing, recorded(repo_root, "endpoint-failed"))
    assert known(failing).record["error"]["message"] == "the endpoint is gone"


@pytest.mark.parametrize("name", ["training-failed", "endpoint-failed"])
def test_a_resource_without_tags_of_ours_belongs_to_no_run(
    failing: Cloud, repo_root: Path, name: str
) -> None:
    failing.sagemaker.tags = {}
    assert report(failing, recorded(repo_root, name)) is None
    assert known(failing).status is Status.PACKING
    assert failing.notices() == []
    assert failing.sagemaker.endpoints == {NAME}


FUNCTIONS = [
    ("s3-dataset-marker", "pack"),
    ("batch-succeeded", "train"),
    ("training-completed", "deploy"),
    ("endpoint-in-service", "promote"),
]


@pytest.mark.parametrize(("name", "stage"), FUNCTIONS)
def test_a_function_that_gave_up_ends_its_run(
    failing: Cloud, repo_root: Path, name: str, stage: str
) -> None:
    assert report(failing, gave_up(recorded(repo_root, name))) == RUN
    error = known(failing).record["error"]
    assert (error["stage"], error["code"]) == (stage, "function.failed")
    assert error["message"] == "ClientError: AccessDenied (RetriesExhausted)"
    assert len(failing.notices()) == 1
    assert failing.sagemaker.endpoints == set()


def test_the_recorded_failure_of_a_function(failing: Cloud, repo_root: Path) -> None:
    assert report(failing, recorded(repo_root, "lambda-on-failure")) == RUN
    assert "ModelNotReadyException" in known(failing).record["error"]["message"]


def test_an_event_that_never_reached_its_function_has_no_response(
    failing: Cloud, repo_root: Path
) -> None:
    record = {**gave_up(recorded(repo_root, "batch-succeeded"), "EventAgeExceeded")}
    record["responsePayload"] = None
    report(failing, record)
    message = known(failing).record["error"]["message"]
    assert message == "error: no message (EventAgeExceeded)"


@pytest.mark.parametrize("name", ["s3-dataset-archive", "s3-picture"])
def test_a_function_that_gave_up_without_a_run_is_told_of_with_its_event(
    failing: Cloud, repo_root: Path, name: str
) -> None:
    event = recorded(repo_root, name)
    assert report(failing, gave_up(event)) is None
    [notice] = failing.notices()
    assert notice["subject"] == "Droplens: a function failed"
    assert event["detail"]["object"]["key"] in notice["message"]
    assert known(failing).status is Status.PACKING


def test_a_promotion_that_gave_up_after_its_switch_leaves_the_live_model_alone(
    failing: Cloud, cards: Cards, repo_root: Path
) -> None:
    live = go_live(cards, card(RUN.run_id))
    failing.runs().claim(RUN, Stage.PROMOTE)
    for _ in range(2):
        report(failing, gave_up(recorded(repo_root, "endpoint-in-service")))
    assert failing.sagemaker.endpoints == {live.endpoint} == {NAME}
    run = known(failing)
    assert run.status is Status.LIVE
    assert float(run.record["accuracy"]) == 0.9
    assert run.record["error"]["code"] == "promotion.unfinished"
    [notice] = failing.notices()
    assert "The model is live" in notice["message"]


@pytest.mark.parametrize(
    "event", [gave_up, lambda event: event], ids=["the function's", "the endpoint's"]
)
def test_a_live_run_is_never_harmed_by_a_late_failure(
    failing: Cloud, cards: Cards, repo_root: Path, event: Any
) -> None:
    go_live(cards, card(RUN.run_id))
    failing.runs().end(RUN, Status.LIVE)
    report(failing, event(recorded(repo_root, "endpoint-failed")))
    assert known(failing).status is Status.LIVE
    assert failing.sagemaker.endpoints == {NAME}
    assert failing.notices() == []


@pytest.mark.parametrize("name", ["batch-failed", "training-failed", "endpoint-failed"])
def test_a_failure_told_twice_is_notified_once(failing: Cloud, repo_root: Path, name: str) -> None:
    failing.sagemaker.jobs[NAME] = {"FailureReason": "first"}
    report(failing, recorded(repo_root, name))
    first = known(failing).record["error"]
    failing.sagemaker.jobs[NAME] = {"FailureReason": "second"}
    report(failing, recorded(repo_root, name))
    report(failing, gave_up(recorded(repo_root, "endpoint-in-service")))
    assert known(failing).record["error"] == first
    assert len(failing.notices()) == 1


def test_a_notice_cut_off_by_a_crash_goes_out_with_the_next_try(
    failing: Cloud, repo_root: Path
) -> None:
    event = recorded(repo_root, "batch-failed")
    with crash_in(Failures, "publish"):
        report(failing, event)
    report(failing, event)
    report(failing, event)
    assert len(failing.notices()) == 1


def test_an_event_of_another_kind_is_unexpected(failing: Cloud, repo_root: Path) -> None:
    with pytest.raises(UnexpectedEvent, match="Object Created"):
        report(failing, recorded(repo_root, "s3-picture"))


def test_a_subject_is_ascii_and_fits_sns(cloud: Cloud) -> None:
    cloud.failures().publish("Ä" + "x" * 200, "Grüße")
    [notice] = cloud.notices()
    assert notice["subject"] == "?" + "x" * 99
    assert notice["message"] == "Grüße"


# --- a model that was live, and is to come back


@pytest.fixture
def restoring(failing: Cloud) -> Cloud:
    """An account in which the recorded run, replaced by another, is being restored."""
    failing.runs().end(RUN, Status.LIVE)
    assert failing.runs().restore(RUN, "20261123-120000-aaaaaa", 2)
    return failing


def test_an_endpoint_that_cannot_be_made_again_ends_the_rollback_and_is_told_once(
    restoring: Cloud, repo_root: Path
) -> None:
    restoring.sagemaker.made["Endpoint"][NAME] = {"FailureReason": "no room"}
    for _ in range(2):
        assert report(restoring, recorded(repo_root, "endpoint-failed")) == RUN
    assert known(restoring).status is Status.REPLACED
    assert restoring.sagemaker.endpoints == set()
    [notice] = restoring.notices()
    assert notice["subject"] == "Droplens: rollback of cars failed"
    assert "could not be restored: no room." in notice["message"]


def test_a_rollback_that_was_given_up_is_told_and_can_be_gone_on_with(
    restoring: Cloud, repo_root: Path
) -> None:
    assert report(restoring, gave_up(recorded(repo_root, "endpoint-in-service"))) == RUN
    assert known(restoring).status is Status.RESTORING
    [notice] = restoring.notices()
    assert "make rollback (rollback-local on the local cloud) retries it" in notice["message"]


def test_a_sweep_that_was_given_up_is_told_of_the_live_run(failing: Cloud) -> None:
    failing.runs().end(RUN, Status.LIVE)
    live = go_live(Cards(failing.bucket), card(RUN.run_id))
    switched = events.ModelSwitched(
        classifier="cars", run_id=RUN.run_id, generation=live.generation, reclassify="none"
    )
    event = gave_up(events.switched_event(switched))
    for _ in range(2):
        assert report(failing, event) == RUN
    assert known(failing).status is Status.LIVE
    assert known(failing).record["error"]["code"] == "promotion.unfinished"
    [notice] = failing.notices()
    assert "what follows its switch was not finished" in notice["message"]


def test_an_approval_that_could_not_be_followed_is_told_of_its_run(
    failing: Cloud, repo_root: Path
) -> None:
    event = recorded(repo_root, "model-approved")
    failing.sagemaker.packages[event["detail"]["ModelPackageArn"]] = {
        "CustomerMetadataProperties": tags.tag_map(TAGS)
    }
    assert report(failing, gave_up(event)) == RUN
    assert known(failing).status is Status.FAILED
    assert known(failing).record["error"]["stage"] == "promote"


# --- what strangers wrote, in what people read


FORGED = 'cars\n{"level": "INFO"}\n\nYour account is suspended: evil.example\x1b[2J\u202e'


@pytest.mark.parametrize("said", [FORGED, "c" * 600_000, FORGED * 10_000])
def test_a_run_is_ended_whatever_its_job_said(failing: Cloud, repo_root: Path, said: str) -> None:
    failing.put(f"packed/cars/{RUN.run_id}/failure.json", json.dumps({"message": said}).encode())
    report(failing, recorded(repo_root, "batch-failed"))
    run = known(failing)
    assert run.status is Status.FAILED
    message = run.record["error"]["message"]
    assert message.startswith(said[:4])
    assert message.isprintable()
    assert len(message) <= MAX_SENTENCE
    [notice] = failing.notices()
    # Our own paragraphs, and no more.
    assert notice["message"].count("\n\n") == 2
    assert len(notice["message"].split("\n")) == 5


@pytest.mark.parametrize("body", [b"{}", b"[", b"\xff", b"null", b"[" * 100_000, b'{"message": 1}'])
def test_a_run_is_ended_whatever_stands_for_its_failure(
    failing: Cloud, repo_root: Path, body: bytes
) -> None:
    failing.put(f"packed/cars/{RUN.run_id}/failure.json", body)
    report(failing, recorded(repo_root, "batch-failed"))
    assert known(failing).status is Status.FAILED
    assert len(failing.notices()) == 1


def test_a_subject_is_one_line_whatever_it_names(cloud: Cloud) -> None:
    cloud.failures().publish(
        "Droplens: foo\r\nBcc: all\x00\u202e failed", "a\x1bb\nc\r" + "x" * 10**6
    )
    [notice] = cloud.notices()
    assert notice["subject"] == "Droplens: foo  Bcc: all?? failed"
    assert notice["message"].startswith("a\ufffdb\nc x")
    assert len(notice["message"].encode()) < 256 * 1024
