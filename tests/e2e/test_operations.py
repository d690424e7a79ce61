"""The runbook on a running cloud: what alarms mean is caused, seen in its logs, and told.

The local cloud does not make metrics of log lines, nor events of alarms: these two steps of
CloudWatch are taken here, with what the functions really logged.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.alarms import ALARMS
from tests.support.cloudwatch import printed
from tests.support.deployed_cloud import Cloud
from tests.support.drawn_images import drawing
from tests.support.expanded_template import matches

CLASSIFY_LOG = "/aws/lambda/droplens-classify-image"


def logged(cloud: Cloud, group: str) -> str:
    """Every line of a log group."""
    logs = cloud.client("logs")
    lines = []
    for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
        lines += [line for event in page["events"] for line in event["message"].splitlines()]
    return "\n".join(lines)


def alarms(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """The deployed alarms, by their names in the template."""
    found = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return {
        name: alarm
        for alarm in found
        for name in ALARMS
        if alarm["AlarmName"] == f"droplens--{name}"
    }


def raised(cloud: Cloud, output: str) -> set[str]:
    """The alarms that go off by the metrics in `output`, as the local cloud decides on them."""
    cloudwatch = cloud.client("cloudwatch")
    for (namespace, name, dimensions), values in printed(output).items():
        cloudwatch.put_metric_data(
            Namespace=namespace,
            MetricData=[
                {
                    "MetricName": name,
                    "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
                    "Values": values,
                }
            ],
        )
    return {name for name, alarm in alarms(cloud).items() if alarm["StateValue"] == "ALARM"}


@pytest.fixture
def notices(cloud: Cloud) -> str:
    """A queue that listens to the topic of failures."""
    return cloud.listen_to_failures("operations-notices")


@pytest.fixture
def no_faults_after(cloud: Cloud) -> Iterator[None]:
    """No faults are injected after the test."""
    yield
    cloud.localcloud("faults")


def test_alarms_and_dashboard_are_deployed(cloud: Cloud) -> None:
    assert alarms(cloud).keys() == set(ALARMS)
    found = cloud.client("cloudwatch").get_dashboard(DashboardName="droplens-us-east-1")
    queue = cloud.outputs["PictureQueueUrl"].rpartition("/")[2]
    assert f'"QueueName", "{queue}"' in found["DashboardBody"]
    assert len(json.loads(found["DashboardBody"])["widgets"]) == 9


@pytest.mark.usefixtures("live_patterns", "no_faults_after")
def test_a_throttled_endpoint_is_counted_raised_and_told(cloud: Cloud, notices: str) -> None:
    assert alarms(cloud)["EndpointErrors"]["StateValue"] != "ALARM"
    before = len(logged(cloud, CLASSIFY_LOG))
    cloud.localcloud("faults", "--throttle", "1")
    keys = {f"input/patterns/throttled {seed}.jpg" for seed in range(4)}
    for seed, key in enumerate(sorted(keys)):
        cloud.put(key, drawing("rings", 700 + seed))

    def retried(output: str) -> set[str]:
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return {line["key"] for line in lines if line.get("message") == "picture will be retried"}

    def failing() -> str | None:
        new = logged(cloud, CLASSIFY_LOG)[before:]
        metric = ("Droplens", "PicturePostponed", (("service", "droplens"),))
        # One picture may fail twice before another one fails for the first time.
        return new if sum(printed(new).get(metric, [])) >= 4 and keys <= retried(new) else None

    output = cloud.eventually(failing, "a retry of each of the four pictures")
    assert {"EndpointErrors", "PicturesKeepFailing"} <= raised(cloud, output)

    alarm = alarms(cloud)["EndpointErrors"]
    event = {
        "source": "aws.cloudwatch",
        "detail-type": "CloudWatch Alarm State Change",
        "detail": {
            "alarmName": alarm["AlarmName"],
            "configuration": {"description": alarm["AlarmDescription"]},
            "state": {"value": "ALARM", "reason": alarm["StateReason"]},
        },
    }
    rules = cloud.client("events").list_rules()["Rules"]
    [rule] = [
        rule
        for rule in rules
        if "EventPattern" in rule and matches(json.loads(rule["EventPattern"]), event)
    ]
    [target] = cloud.client("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]
    cloud.client("lambda").invoke(
        FunctionName=target["Arn"], InvocationType="Event", Payload=json.dumps(event).encode()
    )

    def told() -> dict[str, Any] | None:
        sqs = cloud.client("sqs")
        for message in sqs.receive_message(QueueUrl=notices).get("Messages", []):
            body: dict[str, Any] = json.loads(message["Body"])
            if alarm["AlarmName"] in body["Subject"]:
                return body
        return None

    assert "docs/operations.md, EndpointErrors" in cloud.eventually(told, "a notice")["Message"]

    # What the entry says to do: the cause goes, and the pictures are answered by themselves.
    cloud.localcloud("faults")
    for seed in range(4):
        result = cloud.result(f"results/patterns/throttled {seed}.jpg.json")
        assert result["status"] == "classified"


def test_a_day_of_unfamiliar_pictures_raises_its_alarm(cloud: Cloud) -> None:
    """By metrics of such a day, which tests/infrastructure/test_runbook.py makes of pictures."""

    def state_after(unfamiliar: int) -> str:
        values = {
            "PictureUnfamiliar": [1.0] * unfamiliar + [0.0] * (50 - unfamiliar),
            "UnfamiliarExpected": [0.01] * 50,
        }
        cloud.client("cloudwatch").put_metric_data(
            Namespace="Droplens",
            MetricData=[
                {
                    "MetricName": name,
                    "Dimensions": [{"Name": "service", "Value": "droplens"}],
                    "Values": of_name,
                }
                for name, of_name in values.items()
            ],
        )
        return str(alarms(cloud)["PicturesUnfamiliar"]["StateValue"])

    # One of fifty, and of a hundred two, are not too many; then half of the last fifty are.
    assert [state_after(count) for count in (1, 1, 25)] == ["OK", "OK", "ALARM"]


def test_a_failure_that_cannot_be_reported_is_kept(cloud: Cloud) -> None:
    nonsense = {"detail-type": "Nothing that is known", "source": "aws.batch", "detail": {}}
    cloud.client("lambda").invoke(
        FunctionName="droplens-report-failure",
        InvocationType="Event",
        Payload=json.dumps(nonsense).encode(),
    )

    def kept() -> dict[str, Any] | None:
        answer = cloud.client("sqs").receive_message(QueueUrl=cloud.outputs["EventDlqUrl"])
        return next(iter(answer.get("Messages", [])), None)

    record = json.loads(cloud.eventually(kept, "Lambda's record in the queue")["Body"])
    assert record["requestPayload"] == nonsense
    assert "Nothing that is known" in json.dumps(record["responsePayload"])
