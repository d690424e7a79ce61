"""What the template relies on in MiniStack, with our changes to it: held to how AWS behaves."""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud import ACCOUNT, REGION, Cloud, eventually

SQS_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:"


@pytest.fixture(scope="module")
def bucket(cloud: Cloud) -> str:
    """Versioned, and its events go to EventBridge."""
    name = cloud.bucket("pictures")
    s3 = cloud.client("s3")
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    return name


def objects_created(cloud: Cloud, name: str, *keys: dict[str, str]) -> Callable[[], list[Any]]:
    pattern: dict[str, Any] = {"source": ["aws.s3"], "detail-type": ["Object Created"]}
    return cloud.queue_of_events(name, {**pattern, "detail": {"object": {"key": list(keys)}}})


def test_an_object_created_event_names_the_very_version(cloud: Cloud, bucket: str) -> None:
    events = objects_created(cloud, "created", {"prefix": "input/"})
    s3, key = cloud.client("s3"), "input/cars/a photo+1 ä.jpg"
    put = s3.put_object(Bucket=bucket, Key=key, Body=b"12345")
    s3.put_object(Bucket=bucket, Key="elsewhere/x.jpg", Body=b"1")
    (event,) = eventually("the event", events)
    assert (event["source"], event["detail-type"]) == ("aws.s3", "Object Created")
    assert event["resources"] == [f"arn:aws:s3:::{bucket}"]
    detail = event["detail"]
    assert detail["bucket"]["name"] == bucket
    assert detail["object"]["key"] == key  # as it is, not URL-encoded
    assert detail["object"]["size"] == 5
    assert detail["object"]["etag"] == put["ETag"].strip('"')
    assert detail["object"]["version-id"] == put["VersionId"]
    assert int(detail["object"]["sequencer"], 16) >= 0
    assert detail["reason"] == "PutObject"


def test_a_completed_multipart_upload_and_a_copy_are_told_as_well(
    cloud: Cloud, bucket: str
) -> None:
    events = objects_created(cloud, "other-ways", {"prefix": "ways/"})
    s3 = cloud.client("s3")
    target = {"Bucket": bucket, "Key": "ways/large"}
    upload = s3.create_multipart_upload(**target)["UploadId"]
    part = s3.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"x" * 100)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=parts)
    s3.copy_object(Bucket=bucket, Key="ways/copy", CopySource=target)
    eventually("both events", lambda: len(events()) == 2)
    reasons = {e["detail"]["object"]["key"]: e["detail"]["reason"] for e in events()}
    assert reasons == {"ways/large": "CompleteMultipartUpload", "ways/copy": "CopyObject"}


def test_rules_know_wildcards(cloud: Cloud, bucket: str) -> None:
    events = objects_created(
        cloud, "wild", {"wildcard": "datasets/*/_READY"}, {"wildcard": "datasets/*.tar.gz"}
    )
    for key in ("datasets/a/_READY", "datasets/a/x.jpg", "datasets/b.tar.gz", "input/c.tar.gz"):
        cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")
    eventually("two events", lambda: len(events()) == 2)
    keys = {event["detail"]["object"]["key"] for event in events()}
    assert keys == {"datasets/a/_READY", "datasets/b.tar.gz"}


def test_s3_writes_and_reads_on_condition(cloud: Cloud, bucket: str) -> None:
    s3, target = cloud.client("s3"), {"Bucket": bucket, "Key": "results/a.json"}
    first = s3.put_object(**target, Body=b"0123456789", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        s3.put_object(**target, Body=b"other", IfNoneMatch="*")
    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(**target, Body=b"other", IfMatch='"0123456789abcdef0123456789abcdef"')
    s3.put_object(**target, Body=b"0123456789", IfMatch=first["ETag"])
    with pytest.raises(ClientError) as unchanged:
        s3.get_object(**target, IfNoneMatch=first["ETag"])
    assert unchanged.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.get_object(**target, IfMatch='"0123456789abcdef0123456789abcdef"')
    part = s3.get_object(**target, Range="bytes=2-4")
    assert part["Body"].read() == b"234"
    assert part["ContentRange"] == "bytes 2-4/10"
    old = s3.get_object(**target, VersionId=first["VersionId"])
    assert old["ETag"] == first["ETag"]


def test_dynamodb_updates_on_condition(cloud: Cloud) -> None:
    table = cloud.client("dynamodb")
    table.create_table(
        TableName="runs",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    claim = {
        "TableName": "runs",
        "Key": {"id": {"S": "r1"}},
        "UpdateExpression": "SET claims.#s = :now",
        "ConditionExpression": "attribute_exists(id) AND attribute_not_exists(claims.#s)",
        "ExpressionAttributeNames": {"#s": "training"},
        "ExpressionAttributeValues": {":now": {"S": "now"}},
    }
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        table.update_item(**claim)
    table.put_item(TableName="runs", Item={"id": {"S": "r1"}, "claims": {"M": {}}})
    table.update_item(**claim)
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        table.update_item(**claim)


# ---- functions

SEEN = """
import importlib.metadata, os, sys

def handler(event, context):
    return {
        "environment": dict(os.environ),
        "packages": sorted(d.metadata["Name"] for d in importlib.metadata.distributions()),
        "path": sys.path,
        "prefix": sys.prefix,
    }
"""


def test_a_function_sees_what_lambda_has_and_nothing_of_the_developers(
    new_cloud: Callable[[], Cloud],
) -> None:
    leaks = {
        "AWS_PROFILE": "work", "AWS_CA_BUNDLE": "/x", "PYTHONPATH": "/developer",
        "PIP_INDEX_URL": "https://user:secret@example.org", "HTTPS_PROXY": "http://x",
        "SECRET_TOKEN": "s", "VIRTUAL_ENV": "/v",
    }  # fmt: skip
    cloud = new_cloud()
    cloud.up(**leaks)
    cloud.function("seer", SEEN, Environment={"Variables": {"LOG_LEVEL": "DEBUG"}})
    seen = cloud.invoke("seer")
    environment = seen["environment"]
    assert not leaks.keys() & environment.keys()
    assert "secret" not in json.dumps(seen)
    assert environment["LOG_LEVEL"] == "DEBUG"
    assert environment["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == REGION
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "seer"
    assert environment["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{cloud.port}"
    known = {"PATH", "HOME", "TMPDIR", "LANG", "TZ", "LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_"}
    others = {n for n in environment if not n.startswith(("AWS_", "_LAMBDA", "_X_AMZN", "LAMBDA_"))}
    assert others - known - {"LOG_LEVEL", "_MINISTACK_INVOKE_DEPTH"} == set()
    lambdas = {"boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"}
    assert set(seen["packages"]) - {"pip", "setuptools"} == lambdas
    assert os.environ["HOME"] != environment["HOME"]


FLAKY = """
import boto3

def handler(event, context):
    boto3.client("sqs").send_message(QueueUrl=event["queue"], MessageBody=context.function_name)
    raise ValueError("no picture is readable")
"""
LISTENER = """
import boto3, json

def handler(event, context):
    boto3.client("sqs").send_message(
        QueueUrl=event["requestPayload"]["queue"], MessageBody=json.dumps(event))
"""


def test_a_rules_function_is_retried_and_its_failure_goes_to_its_destination(
    cloud: Cloud,
) -> None:
    sqs = cloud.client("sqs")
    queue = sqs.create_queue(QueueName="failures")["QueueUrl"]
    flaky = cloud.function("flaky", FLAKY, Timeout=10)
    listener = cloud.function("listener", LISTENER, Timeout=10)
    cloud.client("lambda").put_function_event_invoke_config(
        FunctionName="flaky",
        Qualifier="$LATEST",
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": listener}},
    )
    rules = cloud.client("events")
    rules.put_rule(Name="flaky", EventPattern=json.dumps({"source": ["test.flaky"]}))
    target = {"Id": "f", "Arn": flaky, "InputPath": "$.detail"}
    rules.put_targets(Rule="flaky", Targets=[target])
    detail = json.dumps({"queue": queue})
    rules.put_events(Entries=[{"Source": "test.flaky", "DetailType": "x", "Detail": detail}])
    bodies: list[str] = []

    def all_came() -> bool:
        for message in sqs.receive_message(QueueUrl=queue).get("Messages", []):
            bodies.append(message["Body"])
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return len(bodies) == 3

    eventually("two attempts and the destination", all_came)
    assert bodies[:2] == ["flaky", "flaky"]
    told = json.loads(bodies[2])
    assert told["requestContext"]["functionArn"].startswith(flaky)
    assert told["requestContext"]["condition"] == "RetriesExhausted"
    assert told["requestPayload"] == {"queue": queue}
    assert "no picture is readable" in told["responsePayload"]["errorMessage"]


BATCHED = """
import json, os, time
from pathlib import Path

def handler(event, context):
    log = Path(os.environ["FOLDER"])
    (log / f"start-{time.monotonic_ns()}-{os.getpid()}").touch()
    time.sleep(0.3)
    (log / f"end-{time.monotonic_ns()}-{os.getpid()}").touch()
    bad = [r["messageId"] for r in event["Records"] if json.loads(r["body"])["bad"]]
    return {"batchItemFailures": [{"itemIdentifier": i} for i in bad]}
"""


def test_a_queue_feeds_a_function_in_parallel_and_only_what_failed_comes_again(
    cloud: Cloud, tmp_path: Any
) -> None:
    sqs = cloud.client("sqs")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": SQS_ARN + "dead", "maxReceiveCount": 2})
    queue = sqs.create_queue(
        QueueName="feeding", Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "1"}
    )["QueueUrl"]
    cloud.function("batched", BATCHED, Environment={"Variables": {"FOLDER": str(tmp_path)}})
    # By a template whose concurrency arrives as text, as a parameter's value does.
    template = {
        "Parameters": {"Most": {"Type": "Number", "Default": 2}},
        "Resources": {
            "Feed": {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {
                    "FunctionName": "batched",
                    "EventSourceArn": SQS_ARN + "feeding",
                    "BatchSize": 1,
                    "FunctionResponseTypes": ["ReportBatchItemFailures"],
                    "ScalingConfig": {"MaximumConcurrency": {"Ref": "Most"}},
                },
            }
        },
    }
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="feed", TemplateBody=json.dumps(template))
    for number in range(6):
        body = json.dumps({"bad": number == 0, "number": number})
        sqs.send_message(QueueUrl=queue, MessageBody=body)

    def dead_letters() -> list[Any]:
        return list(sqs.receive_message(QueueUrl=dead, VisibilityTimeout=0).get("Messages", []))

    (letter,) = eventually("the bad message's end", dead_letters)
    assert json.loads(letter["Body"])["number"] == 0

    def starts() -> int:
        return len(list(tmp_path.glob("start-*")))

    eventually("seven invocations", lambda: len(list(tmp_path.glob("end-*"))) == 7)
    assert starts() == 7  # six messages, and the bad one a second time
    moments = sorted(
        (int(path.name.split("-")[1]), 1 if path.name.startswith("start") else -1)
        for path in tmp_path.iterdir()
    )
    running = most = 0
    for _, step in moments:
        running += step
        most = max(most, running)
    assert most == 2
    stacks.delete_stack(StackName="feed")


REMOVES_ITSELF = """
import boto3, time

def handler(event, context):
    print("my last words")
    boto3.client("lambda").delete_function(FunctionName=context.function_name)
    time.sleep(0.5)
"""


def test_a_function_removed_while_it_runs_writes_no_more_logs(cloud: Cloud) -> None:
    cloud.function("stays", "def handler(e, c): return 1")
    cloud.function("goes", REMOVES_ITSELF)
    cloud.client("lambda").invoke(FunctionName="goes")
    cloud.invoke("stays")
    groups = cloud.client("logs").describe_log_groups()["logGroups"]
    names = {group["logGroupName"] for group in groups}
    assert "/aws/lambda/stays" in names
    assert "/aws/lambda/goes" not in names


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nothing_like_it", "nothing_like_it"),
        ("import os\ndef handler(e, c): os._exit(1)", "died"),
        ("import time\ndef handler(e, c): time.sleep(60)", "timed out"),
    ],
    ids=["import", "crash", "timeout"],
)
def test_a_function_that_breaks_is_an_error_and_the_next_call_is_served(
    cloud: Cloud, code: str, says: str, request: pytest.FixtureRequest
) -> None:
    name = f"breaks-{request.node.callspec.id}"
    cloud.function(name, code, Timeout=1)
    for _ in range(2):
        answer = cloud.client("lambda").invoke(FunctionName=name)
        assert answer["FunctionError"]
        assert says in json.loads(answer["Payload"].read())["errorMessage"]


def test_dead_letters_go_back_to_the_queue_that_they_came_from(cloud: Cloud) -> None:
    sqs = cloud.client("sqs")
    dead = sqs.create_queue(QueueName="given-up")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": SQS_ARN + "given-up", "maxReceiveCount": 1})
    queue = sqs.create_queue(
        QueueName="tried", Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "0"}
    )["QueueUrl"]

    def received(url: str) -> list[tuple[str, str]]:
        found = sqs.receive_message(
            QueueUrl=url, AttributeNames=["All"], MaxNumberOfMessages=10, VisibilityTimeout=0
        ).get("Messages", [])
        return [(m["Body"], m["Attributes"]["ApproximateReceiveCount"]) for m in found]

    sqs.send_message(QueueUrl=queue, MessageBody="picture")
    sqs.send_message(QueueUrl=dead, MessageBody="of no queue")
    assert received(queue) == [("picture", "1")]
    assert received(queue) == []

    sqs.start_message_move_task(SourceArn=SQS_ARN + "given-up")
    assert received(queue) == [("picture", "1")]
    assert [body for body, _ in received(dead)] == ["of no queue"]
    with pytest.raises(ClientError, match="no queue"):
        sqs.start_message_move_task(SourceArn=SQS_ARN + "not-there")
