"""What a demo in an account sees of AWS, and that it takes no silence for a promise kept."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

from demo import checks
from demo.account_report import Outcome, Record
from demo.checks import Examination, first_failure, remove_artefacts, share, verify_removal
from demo.journey import Clients

STACK = "droplens-demo-abc234"
OTHER = "droplens-demo-xyz789"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """Clients of an empty account; nothing is waited for."""
    monkeypatch.setattr(checks, "LEFT_WITHIN", 0.0)
    with mock_aws():
        yield Clients(boto3.Session(region_name="us-east-1"), Config())


@pytest.fixture
def record() -> Record:
    return Record(datetime.now(UTC))


def outcomes(record: Record) -> dict[str, Outcome]:
    return {check.what: check.outcome for check in record.checks}


def silent(_: str) -> None:
    pass


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3.0], 50, 3.0), ([4, 1, 3, 2], 50, 2), ([4, 1, 3, 2], 95, 4), (range(1, 101), 95, 95)],
)
def test_a_percentile_is_one_of_the_values(
    values: list[float], percent: int, expected: float
) -> None:
    assert share(values, percent) == expected


def test_an_empty_account_is_found_empty(clients: Clients, record: Record) -> None:
    assert verify_removal(clients, STACK, record, silent) == []
    found = outcomes(record)
    for kind in ("stacks", "buckets", "tables", "endpoints", "log groups", "queues", "topics"):
        assert found[f"after removal: {kind}"] is Outcome.PASSED
    assert Outcome.FAILED not in found.values()


def test_whatever_bears_the_stack_s_name_is_found_and_nothing_else(
    clients: Clients, record: Record
) -> None:
    for stack in (STACK, OTHER):
        clients.client("s3").create_bucket(Bucket=f"{stack}-bucket-1a2b")
        clients.client("sqs").create_queue(QueueName=f"{stack}-PictureQueue")
        clients.client("sns").create_topic(Name=f"{stack}-Failures")
        logs = clients.client("logs")
        logs.create_log_group(logGroupName=f"/aws/lambda/{stack}-classify-image")
        logs.create_log_group(logGroupName=f"/aws/sagemaker/Endpoints/{stack}--digits-1")
        clients.client("cloudformation").create_stack(
            StackName=stack,
            TemplateBody=json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}),
        )
    left = verify_removal(clients, STACK, record, silent)
    assert f"stacks: {STACK}" in left
    assert f"buckets: {STACK}-bucket-1a2b" in left
    assert f"log groups: /aws/sagemaker/Endpoints/{STACK}--digits-1" in left
    assert sum(one.startswith("queues: ") for one in left) == 1
    assert not [one for one in left if OTHER in one]
    assert outcomes(record)["after removal: topics"] is Outcome.FAILED
    assert outcomes(record)["after removal: tables"] is Outcome.PASSED


def test_what_aws_does_not_list_is_unknown(
    clients: Clients, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = clients.client

    def client(service: str) -> Any:
        made = make(service)
        if service == "sns":
            made.meta.events.register("before-call", refuse)
        return made

    def refuse(**_: Any) -> None:
        raise ClientError(
            {"Error": {"Code": "AccessDenied", "Message": "not allowed to list"}}, "ListTopics"
        )

    monkeypatch.setattr(clients, "client", client)
    assert verify_removal(clients, STACK, record, silent) == []
    [topics] = [one for one in record.checks if one.what == "after removal: topics"]
    assert topics.outcome is Outcome.UNKNOWN
    assert "not allowed to list" in topics.said


def test_of_sam_s_bucket_only_the_stack_s_own_uploads_go(clients: Clients, record: Record) -> None:
    bucket = "aws-sam-cli-managed-default-samclisourcebucket-1"
    body = {
        "Resources": {
            "B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": bucket}},
        },
        "Outputs": {"SourceBucket": {"Value": {"Ref": "B"}}},
    }
    clients.client("cloudformation").create_stack(
        StackName=checks.SAM_STACK, TemplateBody=json.dumps(body)
    )
    s3 = clients.client("s3")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in (f"{STACK}/a", f"{STACK}/a", f"{STACK}/b", f"{STACK}2/a", f"{OTHER}/a", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"code")
    verify_removal(clients, STACK, record, silent)
    assert outcomes(record)["after removal: code in sam's bucket"] is Outcome.FAILED
    assert remove_artefacts(clients, STACK) == 3
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert sorted(one["Key"] for one in versions) == ["c", f"{STACK}2/a", f"{OTHER}/a"]
    assert remove_artefacts(clients, STACK) == 0


def test_without_a_bucket_of_sam_s_nothing_was_uploaded(clients: Clients) -> None:
    assert remove_artefacts(clients, STACK) == 0


class Queues:
    """A client that lists job queues as AWS Batch does after one was deleted."""

    def client(self, _: str) -> Any:
        return self

    def can_paginate(self, _: str) -> bool:
        return False

    def describe_job_queues(self) -> dict[str, Any]:
        gone = {"jobQueueName": f"{STACK}-packing", "status": "DELETED"}
        there = {"jobQueueName": f"{STACK}-other", "status": "DELETING"}
        return {"jobQueues": [gone, there, {"jobQueueName": OTHER, "status": "VALID"}]}


def test_a_queue_that_is_listed_as_deleted_is_not_left() -> None:
    clients: Any = Queues()
    found = checks._listed(
        clients, STACK, "batch", "describe_job_queues", "jobQueues", "jobQueueName"
    )
    assert found == [f"{STACK}-other"]


class Events:
    """A client that pages through stack events, newest first, as CloudFormation lists them."""

    def __init__(self, *events: tuple[str, str, str]) -> None:
        self._events = [
            {
                "LogicalResourceId": name,
                "ResourceType": "AWS::SNS::Topic",
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
            }
            for name, status, reason in reversed(events)
        ]

    def client(self, _: str) -> Any:
        return self

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return [{"StackEvents": self._events[:2]}, {"StackEvents": self._events[2:]}]


def test_the_first_failure_is_the_cause_and_not_what_it_took_along() -> None:
    events: Any = Events(
        ("A", "CREATE_IN_PROGRESS", ""),
        ("B", "CREATE_FAILED", "Resource creation cancelled"),
        ("A", "CREATE_FAILED", "AWS's words"),
        ("stack", "ROLLBACK_FAILED", "the consequence"),
    )
    assert first_failure(events, STACK) == "A (AWS::SNS::Topic): AWS's words"


def test_a_stack_that_is_not_there_has_no_failure(clients: Clients) -> None:
    assert first_failure(clients, STACK) == ""


def alarm(cloudwatch: Any, name: str, namespace: str, metric: str) -> None:
    cloudwatch.put_metric_alarm(
        AlarmName=f"{STACK}--{name}",
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": "service", "Value": STACK}],
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0,
    )


def alarm_of_an_expression(cloudwatch: Any, name: str, metric: str) -> None:
    watched = {
        "Namespace": "Droplens",
        "MetricName": metric,
        "Dimensions": [{"Name": "service", "Value": STACK}],
    }
    statistic = {"Metric": watched, "Period": 300, "Stat": "Sum"}
    cloudwatch.put_metric_alarm(
        AlarmName=f"{STACK}--{name}",
        Metrics=[
            {"Id": "half", "Expression": "count / 2", "ReturnData": True},
            {"Id": "count", "MetricStat": statistic, "ReturnData": False},
        ],
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0,
    )


def point(cloudwatch: Any, namespace: str, metric: str, name: str, value: str) -> None:
    dimensions = [{"Name": name, "Value": value}]
    cloudwatch.put_metric_data(
        Namespace=namespace,
        MetricData=[{"MetricName": metric, "Dimensions": dimensions, "Value": 1.0}],
    )


def test_where_cloudwatch_shows_nothing_metrics_and_alarms_are_unknown(
    clients: Clients, record: Record
) -> None:
    alarm(clients.client("cloudwatch"), "EndpointErrors", "Droplens", "EndpointError")
    Examination(clients, STACK, record, metrics_wait=0)._alarms()
    assert set(outcomes(record).values()) == {Outcome.UNKNOWN}


def test_a_metric_that_every_journey_writes_must_be_there_and_others_may_be_absent(
    clients: Clients, record: Record
) -> None:
    cloudwatch = clients.client("cloudwatch")
    for name, metric in {
        "EndpointErrors": "EndpointError",
        "EndpointSlow": "EndpointLatency",
        "RunsFail": "RunFailed",
    }.items():
        alarm(cloudwatch, name, "Droplens", metric)
    alarm_of_an_expression(cloudwatch, "PicturesUnfamiliar", "PictureUnfamiliar")
    function = f"{STACK}-classify-image"
    point(cloudwatch, "AWS/Lambda", "Invocations", "FunctionName", function)
    point(cloudwatch, "Droplens", "EndpointError", "service", STACK)
    point(cloudwatch, "Droplens", "PictureUnfamiliar", "service", STACK)
    Examination(clients, STACK, record, metrics_wait=0)._alarms()
    found = outcomes(record)
    assert found["CloudWatch has the metric of the alarm EndpointErrors"] is Outcome.PASSED
    assert found["CloudWatch has the metric of the alarm EndpointSlow"] is Outcome.FAILED
    assert found["CloudWatch has the metric of the alarm RunsFail"] is Outcome.UNKNOWN
    assert found["CloudWatch has the metric of the alarm PicturesUnfamiliar"] is Outcome.PASSED
    assert found["none of 4 alarms was raised"] is Outcome.PASSED
    cloudwatch.set_alarm_state(
        AlarmName=f"{STACK}--RunsFail", StateValue="ALARM", StateReason="a run failed"
    )
    again = Record(record.began)
    Examination(clients, STACK, again, metrics_wait=0)._alarms()
    assert outcomes(again)["none of 4 alarms was raised"] is Outcome.FAILED
