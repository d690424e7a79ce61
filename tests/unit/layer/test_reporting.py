"""Whatever fails, its run says why, and whoever asked to be told is told once."""

from pathlib import Path
from typing import Any

import pytest

from droplens import events
from droplens.cards import Cards
from droplens.events import UnexpectedEvent
from droplens.failures import Failures
from droplens.reporting import Reporter
from droplens.runs import Run, RunKey, Stage, Status
from tests.unit.layer.account import Cloud
from tests.unit.layer.made import card, crash_in, go_live, recorded

RUN = RunKey("cars", "20261122-120000-610e99")  # that of the recorded events
NAME = f"droplens-cars-{RUN.run_id}"
JOB = "9d1b6c52-7e4f-4a2c-8d5b-3f0e6a9c1b77"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:{{kind}}/{NAME}"
TAGS = events.tag_list(RUN)


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
    runs = cloud.runs()
    return Reporter(cloud.bucket, runs, cloud.sagemaker, cloud.failures(runs)).report(event)


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
    error = known(failing).facts["error"]
    assert known(failing).status is Status.FAILED
    assert (error["stage"], error["code"]) == ("pack", "packing.failed")
    assert error["message"] == "Batch: Essential container in task exited, exit code 1"


def test_what_the_job_itself_said_comes_first(failing: Cloud, repo_root: Path) -> None:
    said = b'{"message": "datasets/cars/ has one class, audi: a classifier needs two"}'
    failing.put(f"packed/cars/{RUN.run_id}/failure.json", said)
    report(failing, recorded(repo_root, "batch-failed"))
    error = known(failing).facts["error"]
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
    message = known(failing).facts["error"]["message"]
    assert message == "Batch: CannotPullContainerError, no exit code"


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
    error = known(failing).facts["error"]
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
    error = known(failing).facts["error"]
    assert error["code"] == "training.stopped"
    assert error["message"] == "the training job ended as Stopped"


def test_a_failed_endpoint_is_told_and_removed(failing: Cloud, repo_root: Path) -> None:
    failing.sagemaker.made["Endpoint"][NAME] = {"FailureReason": "The container did not answer"}
    assert report(failing, recorded(repo_root, "endpoint-failed")) == RUN
    error = known(failing).facts["error"]
    assert (error["stage"], error["code"]) == ("deploy", "endpoint.failed")
    assert error["message"] == "The container did not answer"
    assert failing.sagemaker.made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}


def test_a_failed_endpoint_that_is_gone_is_told_all_the_same(
    failing: Cloud, repo_root: Path
) -> None:
    del failing.sagemaker.made["Endpoint"][NAME]
    report(failing, recorded(repo_root, "endpoint-failed"))
    assert known(failing).facts["error"]["message"] == "the endpoint is gone"


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
    error = known(failing).facts["error"]
    assert (error["stage"], error["code"]) == (stage, "function.failed")
    assert error["message"] == "ClientError: AccessDenied (RetriesExhausted)"
    assert len(failing.notices()) == 1
    assert failing.sagemaker.endpoints == set()


def test_the_recorded_failure_of_a_function(failing: Cloud, repo_root: Path) -> None:
    assert report(failing, recorded(repo_root, "lambda-on-failure")) == RUN
    assert "ModelNotReadyException" in known(failing).facts["error"]["message"]


def test_an_event_that_never_reached_its_function_has_no_response(
    failing: Cloud, repo_root: Path
) -> None:
    record = {**gave_up(recorded(repo_root, "batch-succeeded"), "EventAgeExceeded")}
    record["responsePayload"] = None
    report(failing, record)
    message = known(failing).facts["error"]["message"]
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
    assert float(run.facts["accuracy"]) == 0.9
    assert run.facts["error"]["code"] == "promotion.unfinished"
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
    first = known(failing).facts["error"]
    failing.sagemaker.jobs[NAME] = {"FailureReason": "second"}
    report(failing, recorded(repo_root, name))
    report(failing, gave_up(recorded(repo_root, "endpoint-in-service")))
    assert known(failing).facts["error"] == first
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
    assert "make rollback goes on from there" in notice["message"]


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
    assert known(failing).facts["error"]["code"] == "promotion.unfinished"
    [notice] = failing.notices()
    assert "what follows its switch was not finished" in notice["message"]


def test_an_approval_that_could_not_be_followed_is_told_of_its_run(
    failing: Cloud, repo_root: Path
) -> None:
    event = recorded(repo_root, "model-approved")
    failing.sagemaker.packages[event["detail"]["ModelPackageArn"]] = {
        "CustomerMetadataProperties": events.tag_map(TAGS)
    }
    assert report(failing, gave_up(event)) == RUN
    assert known(failing).status is Status.FAILED
    assert known(failing).facts["error"]["stage"] == "promote"
