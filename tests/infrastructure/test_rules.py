"""Each rule lets exactly its own events through, and what it cannot deliver is kept."""

import copy
import json
from typing import Any

import pytest

from droplens.domain import layout
from localcloud.emulator.event_patterns import pattern_complexity, refusal
from tests.support.expanded_template import BUCKET, Stack, matches
from tests.support.incomplete_datasets import NEAR_MISSES

# Rule to the recorded events that it is for; no other event may wake its target.
FOR = {
    "ImageBuilt": {"image-built"},
    "PrepareDatasetDatasetCompleted": {
        "s3-dataset-marker",
        "s3-dataset-archive",
        "s3-dataset-list",
    },
    "PrepareDatasetCorrected": {"s3-correction"},
    "PictureDropped": {"s3-picture"},
    "StartTrainingPacked": {"batch-succeeded", "batch-join-succeeded"},
    "DeployEndpointTrained": {"training-completed"},
    "PromoteEndpointInService": {"endpoint-in-service"},
    "PromoteEndpointDecided": {"model-approved"},
    "ReportFailurePackingFailed": {
        "batch-failed",
        "batch-array-child-failed",
        "batch-array-failed",
        "batch-dependent-failed",
    },
    "ReportFailureAlarmRaised": {"alarm-raised"},
    "ReportFailureTrainingFailed": {"training-failed"},
    "ReportFailureEndpointFailed": {"endpoint-failed"},
    "PauseEndpointMissing": {"endpoint-missing"},
}
BY_THE_CLOCK = {
    "PauseEndpointHourly",
    "ResumeRunsEveryQuarterHour",
    "ResumeRunsLiveAccuracy",
}


@pytest.fixture
def rules(stack: Stack) -> dict[str, dict[str, Any]]:
    """The event rules, filled in."""
    return stack.of_type("AWS::Events::Rule")


def woken(rules: dict[str, dict[str, Any]], event: dict[str, Any]) -> set[str]:
    return {
        name
        for name, rule in rules.items()
        if name not in BY_THE_CLOCK and matches(rule["EventPattern"], event)
    }


def changed(event: dict[str, Any], **detail: Any) -> dict[str, Any]:
    other = copy.deepcopy(event)
    other["detail"].update(detail)
    return other


def stored(event: dict[str, Any], key: str, bucket: str = BUCKET) -> dict[str, Any]:
    return changed(event, bucket={"name": bucket}, object={**event["detail"]["object"], "key": key})


def test_there_is_no_other_rule(rules: dict[str, Any]) -> None:
    assert rules.keys() == FOR.keys() | BY_THE_CLOCK


@pytest.mark.parametrize(("after", "state"), [("0", "DISABLED"), ("50", "ENABLED")])
def test_corrections_wake_somebody_where_they_may_start_a_run(
    stack: Stack, after: str, state: str
) -> None:
    asked = Stack(stack.template, parameters={"RetrainAfterCorrections": after})
    assert asked.properties("PrepareDatasetCorrected")["State"] == state


@pytest.mark.parametrize(("hours", "state"), [("0", "DISABLED"), ("6", "ENABLED")])
def test_idle_endpoints_are_looked_for_where_that_is_asked_for(
    stack: Stack, hours: str, state: str
) -> None:
    asked = Stack(stack.template, parameters={"StopIdleEndpointHours": hours})
    hourly = asked.properties("PauseEndpointHourly")
    assert (hourly["ScheduleExpression"], hourly["State"]) == ("rate(1 hour)", state)
    assert asked.properties("PauseEndpointMissing")["State"] == state
    given = asked.properties("ClassifyImage")["Environment"]["Variables"]
    assert str(given["STOP_IDLE_ENDPOINT_HOURS"]) == hours


def test_runs_that_wait_are_always_looked_after(rules: dict[str, dict[str, Any]]) -> None:
    clock = rules["ResumeRunsEveryQuarterHour"]
    assert clock["ScheduleExpression"] == "rate(15 minutes)"
    assert clock.get("State", "ENABLED") == "ENABLED"


def test_the_live_accuracy_is_published_once_in_each_period_of_its_alarm(
    stack: Stack, rules: dict[str, dict[str, Any]]
) -> None:
    clock = rules["ResumeRunsLiveAccuracy"]
    assert clock["ScheduleExpression"] == "cron(30 * * * ? *)"
    assert clock.get("State", "ENABLED") == "ENABLED"
    assert stack.properties("LiveAccuracyLow")["Period"] == 3600


@pytest.mark.parametrize("rule", FOR)
def test_a_rule_lets_exactly_its_own_recorded_events_through(
    rules: dict[str, Any], events: dict[str, Any], rule: str
) -> None:
    pattern = rules[rule]["EventPattern"]
    assert {name for name, event in events.items() if matches(pattern, event)} == FOR[rule]


@pytest.mark.parametrize(
    "key",
    [
        "datasets/cars/_READY",
        "datasets/Cars/_READY",
        "datasets/cars.zip",
        "datasets/cars.tar",
        "datasets/cars.tar.gz",
        "datasets/cars.tgz",
        "datasets/cars/labels.csv",
        "datasets/cars/labels.jsonl",
        "datasets/cars/labels.json",
        "datasets/Cars/labels.lst",
    ],
)
def test_a_completed_dataset_is_prepared(
    rules: dict[str, Any], events: dict[str, Any], key: str
) -> None:
    assert layout.dataset_source(key) is not None
    event = stored(events["s3-dataset-marker"], key)
    assert woken(rules, event) == {"PrepareDatasetDatasetCompleted"}


@pytest.mark.parametrize(
    "key",
    [
        "datasets/cars/a.jpg",
        "datasets/cars/audi/1.png",
        "datasets/cars/READY.md",
        "datasets/cars/labels.txt",
        "datasets/cars/my-labels.csv",
        "datasets/cars.csv",
        "results/cars/a.jpg.json",
        "results/cars/labels.csv.json",
        "packed/cars/20261122-120000-1a2b3c/dataset.json",
        "packed/cars/20261122-120000-1a2b3c/train.lst",
        "models/cars/live.json",
        "reports/cars/20261122-120000-1a2b3c/index.html",
        "inputs/a.jpg",
        "_READY",
        "labels.csv",
    ],
)
def test_any_other_object_wakes_nobody(
    rules: dict[str, Any], events: dict[str, Any], key: str
) -> None:
    assert woken(rules, stored(events["s3-picture"], key)) == set()


@pytest.mark.parametrize(
    "key",
    [
        "build/trainer/0123456789abcdef.zip",
        "training/cars/20261122-120000-1a2b3c/output/model.tar.gz",
        "datasets/cars/photographs.zip",
        "datasets/labels.csv",
        "packed/cars/_READY",
        "a.zip",
    ],
)
def test_what_only_ends_like_a_dataset_is_passed_over_by_the_function(
    rules: dict[str, Any], events: dict[str, Any], key: str
) -> None:
    """EventBridge cannot ask for a prefix and a suffix of one field but by wildcards."""
    event = stored(events["s3-dataset-marker"], key)
    assert woken(rules, event) == {"PrepareDatasetDatasetCompleted"}
    assert layout.dataset_source(key) is None


@pytest.mark.parametrize("key", NEAR_MISSES)
def test_what_nearly_completes_a_dataset_wakes_whoever_says_so(
    rules: dict[str, Any], events: dict[str, Any], key: str
) -> None:
    event = stored(events["s3-dataset-marker"], key)
    assert woken(rules, event) == {"PrepareDatasetDatasetCompleted"}


def test_a_rule_that_eventbridge_would_find_too_complex_is_found_here(
    rules: dict[str, dict[str, Any]],
) -> None:
    """Two wildcards would be well within what is known to be taken."""
    found = {
        name: pattern_complexity(rule["EventPattern"])
        for name, rule in rules.items()
        if name not in BY_THE_CLOCK
    }
    assert max(found.values()) <= 4, found
    patterns = [json.dumps(rules[name]["EventPattern"]) for name in found]
    assert [refusal(pattern) for pattern in patterns] == [None] * len(patterns)


@pytest.mark.parametrize("key", ["input/a.jpg", "input/cars/a b+c.jpg", "input/datasets/READY"])
def test_every_dropped_object_goes_to_the_queue_alone(
    rules: dict[str, Any], events: dict[str, Any], key: str
) -> None:
    assert woken(rules, stored(events["s3-picture"], key)) == {"PictureDropped"}


@pytest.mark.parametrize("key", ["datasets/cars/_READY", "input/a.jpg"])
def test_another_bucket_s_objects_wake_nobody(
    rules: dict[str, Any], events: dict[str, Any], key: str
) -> None:
    assert woken(rules, stored(events["s3-picture"], key, "another-bucket")) == set()


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("batch-succeeded", {"status": "RUNNING"}),
        ("batch-join-succeeded", {"status": "PENDING"}),
        ("batch-succeeded", {"parameters": {}}),
        ("batch-succeeded", {"jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/other"}),
        ("batch-failed", {"jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/other"}),
        ("training-completed", {"TrainingJobStatus": "InProgress"}),
        ("training-completed", {"TrainingJobName": "another-job"}),
        ("training-completed", {"TrainingJobName": "droplensx-cars"}),
        ("training-failed", {"TrainingJobName": "another-job"}),
        ("endpoint-in-service", {"EndpointStatus": "CREATING"}),
        ("endpoint-in-service", {"EndpointStatus": "DELETING"}),
        ("endpoint-in-service", {"EndpointStatus": "InService"}),
        ("endpoint-in-service", {"EndpointName": "another-endpoint"}),
        ("endpoint-failed", {"EndpointName": "another-endpoint"}),
        ("endpoint-missing", {"bucket": "another-bucket"}),
        ("alarm-raised", {"state": {"value": "OK"}}),
        ("alarm-raised", {"alarmName": "another-alarm"}),
        ("alarm-raised", {"alarmName": "droplens-dev--RunsFail"}),
    ],
)
def test_other_states_and_other_people_s_resources_wake_nobody(
    rules: dict[str, Any], events: dict[str, Any], name: str, detail: dict[str, Any]
) -> None:
    assert woken(rules, changed(events[name], **detail)) == set()


def test_a_stopped_training_is_reported(rules: dict[str, Any], events: dict[str, Any]) -> None:
    event = changed(events["training-failed"], TrainingJobStatus="Stopped")
    assert woken(rules, event) == {"ReportFailureTrainingFailed"}


def test_every_alarm_is_told_of(
    stack: Stack, rules: dict[str, Any], events: dict[str, Any]
) -> None:
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    for name in alarms:
        event = changed(events["alarm-raised"], alarmName=stack.ref(name))
        assert woken(rules, event) == {"ReportFailureAlarmRaised"}


@pytest.mark.parametrize("rule", FOR)
def test_what_a_rule_cannot_deliver_is_tried_for_hours_and_then_kept(
    stack: Stack, rules: dict[str, Any], rule: str
) -> None:
    [target] = rules[rule]["Targets"]
    assert target["DeadLetterConfig"]["Arn"] == stack.attribute("EventDlq", "Arn")
    assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] >= 3600
    assert target["RetryPolicy"]["MaximumRetryAttempts"] >= 10


def test_every_rule_may_invoke_its_function(stack: Stack, rules: dict[str, Any]) -> None:
    allowed = {
        (permission["FunctionName"], permission["SourceArn"])
        for permission in stack.of_type("AWS::Lambda::Permission").values()
        if permission["Principal"] == "events.amazonaws.com"
    }
    functions = {
        stack.attribute(name, "Arn"): stack.ref(name)
        for name in stack.of_type("AWS::Lambda::Function")
    }
    for name, rule in rules.items():
        [target] = rule["Targets"]
        if target["Arn"] in functions:
            assert (functions[target["Arn"]], stack.attribute(name, "Arn")) in allowed


def sender(stack: Stack, policy: str, queue: str) -> dict[str, Any]:
    statements = stack.properties(policy)["PolicyDocument"]["Statement"]
    [statement] = [one for one in statements if one["Effect"] == "Allow"]
    assert statement["Resource"] == stack.attribute(queue, "Arn")
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    return dict(statement["Condition"])


def test_only_eventbridge_may_send_to_the_queues(stack: Stack) -> None:
    rule = stack.attribute("PictureDropped", "Arn")
    assert sender(stack, "PictureQueuePolicy", "PictureQueue") == {
        "ArnEquals": {"aws:SourceArn": rule}
    }
    assert sender(stack, "EventDlqPolicy", "EventDlq") == {
        "StringEquals": {"aws:SourceAccount": "123456789012"}
    }
