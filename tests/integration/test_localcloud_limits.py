"""What AWS refuses, the local cloud refuses too: of what MiniStack serves by itself."""

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud import Cloud, eventually

FIVE_WILDCARDS = {
    "detail": {"object": {"key": [{"wildcard": f"datasets/*{end}"} for end in "abcde"]}}
}


def refused(call: Any, **request: Any) -> tuple[str, str]:
    """The (code, message) of the error that the call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_rule_whose_pattern_is_too_complex_is_refused(cloud: Cloud) -> None:
    events = cloud.client("events")
    code, message = refused(
        events.put_rule, Name="complex", EventPattern=json.dumps(FIVE_WILDCARDS)
    )
    assert code == "InvalidEventPatternException"
    assert message.startswith("Rule is too complex - try using fewer wildcard characters")
    assert events.list_rules(NamePrefix="complex")["Rules"] == []


def test_a_stack_with_such_a_rule_rolls_back(cloud: Cloud) -> None:
    formation = cloud.client("cloudformation")
    rule = {"Type": "AWS::Events::Rule", "Properties": {"EventPattern": FIVE_WILDCARDS}}
    formation.create_stack(
        StackName="complex", TemplateBody=json.dumps({"Resources": {"Rule": rule}})
    )

    def failed() -> list[str]:
        events = formation.describe_stack_events(StackName="complex")["StackEvents"]
        return [
            one.get("ResourceStatusReason", "")
            for one in events
            if "FAILED" in one["ResourceStatus"]
        ]

    assert any("Rule is too complex" in reason for reason in eventually("a failure", failed))


def test_a_pattern_that_is_longer_than_a_new_account_may_have_is_refused(cloud: Cloud) -> None:
    pattern = {"source": ["x" * 2048]}
    code, message = refused(
        cloud.client("events").put_rule, Name="long", EventPattern=json.dumps(pattern)
    )
    assert (code, "2048" in message) == ("LimitExceededException", True)


def test_an_operator_that_eventbridge_does_not_know_is_refused(cloud: Cloud) -> None:
    pattern = {"source": [{"endswith": ".zip"}]}
    code, message = refused(
        cloud.client("events").put_rule, Name="unknown", EventPattern=json.dumps(pattern)
    )
    assert code == "InvalidEventPatternException"
    assert "endswith" in message


# ---- SNS, EventBridge, Lambda

ECHO = "def handler(event, context):\n    return event\n"
ANSWER = "def handler(event, context):\n    return 'x' * event\n"
# Invokes itself until it has been told to stop, and keeps the count of its invocations in S3.
LOOP = """
import json, os
import boto3
def handler(event, context):
    s3 = boto3.client("s3")
    s3.put_object(Bucket="loops", Key=f"{event['loop']}/{event['left']:03}", Body=b"")
    if event["left"]:
        payload = json.dumps({**event, "left": event["left"] - 1})
        boto3.client("lambda").invoke(
            FunctionName=context.function_name, InvocationType="Event", Payload=payload)
"""


@pytest.mark.parametrize("subject", ["x" * 101, "two\nlines", "pictüres", " a space", "a\ttab"])
def test_a_subject_that_no_mail_can_have_is_refused(cloud: Cloud, subject: str) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name="subjects")["TopicArn"]
    assert refused(sns.publish, TopicArn=topic, Message="m", Subject=subject) == (
        "InvalidParameter",
        "Invalid parameter: Subject",
    )
    sns.publish(TopicArn=topic, Message="m", Subject="x" * 100)


def test_a_notification_has_a_largest_size(cloud: Cloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name="sizes")["TopicArn"]
    sns.publish(TopicArn=topic, Message="x" * 262144)
    code, _ = refused(sns.publish, TopicArn=topic, Message="x" * 262145)
    assert code == "InvalidParameter"


def test_events_have_a_largest_size_together(cloud: Cloud) -> None:
    events = cloud.client("events")

    def entries(size: int) -> list[dict[str, str]]:
        detail = json.dumps({"x": "y" * size})
        return [{"Source": "s", "DetailType": "t", "Detail": detail} for _ in range(2)]

    assert events.put_events(Entries=entries(130_000))["FailedEntryCount"] == 0
    code, _ = refused(events.put_events, Entries=entries(132_000))
    assert code == "ValidationException"


def test_a_message_and_an_item_have_a_largest_size(cloud: Cloud) -> None:
    sqs, tables = cloud.client("sqs"), cloud.client("dynamodb")
    url = sqs.create_queue(QueueName="sizes")["QueueUrl"]
    refused(sqs.send_message, QueueUrl=url, MessageBody="x" * (1024 * 1024 + 1))
    tables.create_table(
        TableName="sizes",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"k": {"S": "1"}, "v": {"S": "x" * 400 * 1024}}
    code, message = refused(tables.put_item, TableName="sizes", Item=item)
    assert (code, "maximum allowed size" in message) == ("ValidationException", True)


def test_payloads_have_a_largest_size(cloud: Cloud) -> None:
    cloud.function("echo", ECHO)
    functions = cloud.client("lambda")
    large = json.dumps("x" * 262_144)
    assert cloud.invoke("echo", {"x": "y" * 300_000})["x"] == "y" * 300_000
    code, _ = refused(functions.invoke, FunctionName="echo", InvocationType="Event", Payload=large)
    assert code == "RequestEntityTooLargeException"
    code, _ = refused(functions.invoke, FunctionName="echo", Payload=json.dumps("x" * 6_291_456))
    assert code == "RequestEntityTooLargeException"

    cloud.function("answer", ANSWER)
    answer = functions.invoke(FunctionName="answer", Payload=json.dumps(6_300_000))
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "Function.ResponseSizeTooLarge"


def test_environment_variables_have_a_largest_size(cloud: Cloud) -> None:
    too_large = {"Variables": {"A": "x" * 4096}}
    cloud.function("small", ECHO, Environment={"Variables": {"A": "x" * 4000}})
    functions = cloud.client("lambda")
    for call in (
        lambda **more: cloud.function("large", ECHO, **more),
        lambda **more: functions.update_function_configuration(FunctionName="small", **more),
    ):
        code, message = refused(call, Environment=too_large)
        assert (code, "4KB" in message) == ("InvalidParameterValueException", True)


@pytest.mark.parametrize(("setting", "rounds"), [("Terminate", 16), ("Allow", 25)])
def test_a_function_that_invokes_itself_is_stopped_unless_it_may(
    cloud: Cloud, setting: str, rounds: int
) -> None:
    name, s3 = f"loop-{setting.lower()}", cloud.client("s3")
    if setting == "Terminate":
        cloud.bucket("loops")
    cloud.function(name, LOOP, Timeout=20)
    cloud.client("lambda").put_function_recursion_config(FunctionName=name, RecursiveLoop=setting)
    cloud.client("lambda").invoke(FunctionName=name, Payload=json.dumps({"loop": name, "left": 24}))

    def count() -> int:
        return int(s3.list_objects_v2(Bucket="loops", Prefix=name + "/").get("KeyCount", 0))

    eventually(f"{rounds} rounds", lambda: count() >= rounds)
    if setting == "Terminate":
        time.sleep(3)
        assert count() == rounds


def test_a_template_s_function_is_held_to_the_same(cloud: Cloud) -> None:
    formation, functions = cloud.client("cloudformation"), cloud.client("lambda")
    role = cloud.role("template-role", "lambda.amazonaws.com")

    def stack(name: str, **changes: Any) -> None:
        properties = {
            "FunctionName": f"of-{name}",
            "Runtime": "python3.11",
            "Handler": "index.handler",
            "Role": role,
            "Code": {"ZipFile": ECHO},
            **changes,
        }
        function = {"Type": "AWS::Lambda::Function", "Properties": properties}
        body = json.dumps({"Resources": {"Function": function}})
        formation.create_stack(StackName=name, TemplateBody=body)

    def ends(name: str, wanted: str) -> None:
        def ended() -> bool:
            found = formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
            return bool(found == wanted)

        eventually(f"{name}: {wanted}", ended)

    stack("may-loop", RecursiveLoop="Allow")
    stack("may-not-loop")
    stack("too-large", Environment={"Variables": {"A": "x" * 4096}})
    for name, setting in (("may-loop", "Allow"), ("may-not-loop", "Terminate")):
        ends(name, "CREATE_COMPLETE")
        found = functions.get_function_recursion_config(FunctionName=f"of-{name}")
        assert found["RecursiveLoop"] == setting
    ends("too-large", "ROLLBACK_COMPLETE")
    events = formation.describe_stack_events(StackName="too-large")["StackEvents"]
    assert any("4KB limit" in event.get("ResourceStatusReason", "") for event in events)
