"""`make destroy` removes what the stack and its journey made, and nothing of another stack."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from droplens.domain.naming import resource_name
from droplens_cli import destroy
from droplens_cli.errors import CommandError
from tests.support.aws_account import REVIEWS_TABLE
from tests.support.command import run

RUN = "20261122-120000-1a2b3c"
TEMPLATE = {
    "Resources": {
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "Properties": {"VersioningConfiguration": {"Status": "Enabled"}},
        },
        "Runs": {
            "Type": "AWS::DynamoDB::Table",
            "DeletionPolicy": "Retain",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [
                    {"AttributeName": "classifier", "AttributeType": "S"},
                    {"AttributeName": "run_id", "AttributeType": "S"},
                ],
                "KeySchema": [
                    {"AttributeName": "classifier", "KeyType": "HASH"},
                    {"AttributeName": "run_id", "KeyType": "RANGE"},
                ],
            },
        },
        "Reviews": {
            "Type": "AWS::DynamoDB::Table",
            "DeletionPolicy": "Retain",
            "Properties": REVIEWS_TABLE,
        },
        "ReviewerPolicy": {
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": "s3:GetObject",
                            "Resource": "arn:aws:s3:::b/*",
                        }
                    ],
                }
            },
        },
    }
}


@pytest.fixture
def session() -> Iterator[Any]:
    """An account with nothing in it."""
    with mock_aws():
        yield boto3.Session(region_name="us-east-1")


def deployed(session: Any, stack: str, classifier: str, mark: str = RUN, **facts: Any) -> str:
    """A stack with one run that has an endpoint and logs; returns the run's resource name.

    mark: the run's id in its names; facts: further ones of its record, as DynamoDB has them.
    """
    cloudformation = session.client("cloudformation")
    cloudformation.create_stack(StackName=stack, TemplateBody=json.dumps(TEMPLATE))
    found = {
        entry["LogicalResourceId"]: entry["PhysicalResourceId"]
        for entry in cloudformation.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    }
    s3 = session.client("s3")
    for body in (b"once", b"twice"):
        s3.put_object(Bucket=found["Bucket"], Key="input/a.jpg", Body=body)
    s3.delete_object(Bucket=found["Bucket"], Key="input/a.jpg")
    s3.create_multipart_upload(Bucket=found["Bucket"], Key="input/large.jpg")
    name = resource_name(stack, classifier, mark)
    item = {"classifier": classifier, "run_id": RUN, "endpoint": name}
    session.client("dynamodb").put_item(
        TableName=found["Runs"],
        Item={**{key: {"S": value} for key, value in item.items()}, **facts},
    )
    session.client("dynamodb").put_item(
        TableName=found["Reviews"], Item={"image": {"S": "input/a.jpg"}, "review": {"S": "cars"}}
    )
    sagemaker = session.client("sagemaker")
    role = "arn:aws:iam::123456789012:role/sagemaker"
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=role, PrimaryContainer={"Image": "image"}
    )
    variant = {
        "VariantName": "main",
        "ModelName": name,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    logs = session.client("logs")
    logs.create_log_group(logGroupName=destroy.ENDPOINT_LOGS + name)
    if not logs.describe_log_groups(logGroupNamePrefix=destroy.TRAINING_LOGS)["logGroups"]:
        logs.create_log_group(logGroupName=destroy.TRAINING_LOGS)
    logs.create_log_stream(logGroupName=destroy.TRAINING_LOGS, logStreamName=f"{name}/algo-1")
    return name


def everything(session: Any) -> dict[str, list[str]]:
    """What stands in the account, by kind."""
    sagemaker, logs = session.client("sagemaker"), session.client("logs")
    stacks = session.client("cloudformation").describe_stacks()["Stacks"]
    groups = logs.describe_log_groups(logGroupNamePrefix=destroy.ENDPOINT_LOGS)["logGroups"]
    streams = logs.describe_log_streams(logGroupName=destroy.TRAINING_LOGS)["logStreams"]
    return {
        "stacks": [stack["StackName"] for stack in stacks],
        "buckets": [bucket["Name"] for bucket in session.client("s3").list_buckets()["Buckets"]],
        "tables": session.client("dynamodb").list_tables()["TableNames"],
        "endpoints": [one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]],
        "configs": [
            one["EndpointConfigName"]
            for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]
        ],
        "models": [one["ModelName"] for one in sagemaker.list_models()["Models"]],
        "logs": [group["logGroupName"] for group in groups],
        "streams": [stream["logStreamName"] for stream in streams],
    }


def agreed(_: str) -> bool:
    return True


def test_nothing_is_left_of_a_stack(session: Any) -> None:
    deployed(session, "droplens", "cars")
    assert all(everything(session).values())
    assert destroy.destroy(session, "droplens", confirmed=agreed) == []
    assert not any(everything(session).values())


@pytest.mark.parametrize(
    ("mark", "facts"),
    [
        (f"{RUN}-3", {}),
        # Of the third try, the record has gone on to the fourth.
        (f"{RUN}-3", {"endpoint": {"S": f"droplens--cars-{RUN}-4"}}),
        (
            f"{RUN}-r7",
            {"endpoint": {"S": "other"}, "to_remove": {"SS": [f"droplens--cars-{RUN}-r7"]}},
        ),
    ],
)
def test_what_each_try_of_a_stage_made_goes_too(
    session: Any, mark: str, facts: dict[str, Any]
) -> None:
    deployed(session, "droplens", "cars", mark, **facts)
    assert destroy.destroy(session, "droplens", confirmed=agreed) == []
    assert not any(everything(session).values())


def test_an_endpoint_that_is_being_made_is_waited_for(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destroy, "POLL_SECONDS", 0)
    name = deployed(session, "droplens", "cars")
    sagemaker = session.client("sagemaker")
    statuses = iter(["Creating", "SystemUpdating", "InService"])
    order: list[str] = []

    def describe(EndpointName: str) -> dict[str, str]:  # noqa: N803  boto3's name
        assert EndpointName == name
        order.append(next(statuses))
        return {"EndpointStatus": order[-1]}

    delete = sagemaker.delete_endpoint
    monkeypatch.setattr(sagemaker, "describe_endpoint", describe, raising=False)

    def delete_now(**request: str) -> None:
        order.append("deleted")
        delete(**request)

    monkeypatch.setattr(sagemaker, "delete_endpoint", delete_now, raising=False)
    account = destroy.Account(session, "droplens")
    account.client = lambda kind: sagemaker if kind == "sagemaker" else session.client(kind)
    account._delete_endpoint(name)
    assert order == ["Creating", "SystemUpdating", "InService", "deleted"]


def test_a_stack_whose_name_begins_alike_stays_whole(session: Any) -> None:
    deployed(session, "droplens-dev", "cars")
    before = everything(session)
    deployed(session, "droplens", "cars")
    assert destroy.destroy(session, "droplens", confirmed=agreed) == []
    assert everything(session) == before


def test_without_agreement_nothing_goes(session: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name = deployed(session, "droplens", "cars")
    before = everything(session)
    with pytest.raises(CommandError, match="nothing was removed"):
        destroy.destroy(session, "droplens", confirmed=lambda _: False)
    assert everything(session) == before
    assert f"endpoint {name}" in capsys.readouterr().out


def test_a_policy_that_somebody_has_is_named_before_anything_goes(session: Any) -> None:
    deployed(session, "droplens", "cars")
    before = everything(session)
    iam = session.client("iam")
    [policy] = iam.list_policies(Scope="Local")["Policies"]
    iam.create_user(UserName="ada")
    iam.attach_user_policy(UserName="ada", PolicyArn=policy["Arn"])
    with pytest.raises(CommandError, match=re.escape(policy["Arn"])) as refused:
        destroy.destroy(session, "droplens", confirmed=agreed)
    assert "list-entities-for-policy" in refused.value.next_step
    assert everything(session) == before
    iam.detach_user_policy(UserName="ada", PolicyArn=policy["Arn"])
    assert destroy.destroy(session, "droplens", confirmed=agreed) == []


def test_what_was_interrupted_is_ended_by_another_run(session: Any) -> None:
    deployed(session, "droplens", "cars")
    removals = [*(account := destroy.Account(session, "droplens")).removals()]
    for thing in [*removals, next(account.tables_and_stack())]:
        thing.remove()
    assert everything(session)["stacks"] == ["droplens"]
    assert destroy.destroy(session, "droplens", confirmed=agreed) == []
    assert not any(everything(session).values())
    assert destroy.destroy(session, "droplens", confirmed=agreed) == []


def test_what_cannot_be_removed_is_named_and_its_stack_stays(
    session: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = deployed(session, "droplens", "cars")
    other = resource_name("droplens", "cars", "20261122-130000-1a2b3c")
    hosting = destroy.Account._hosting

    def one_that_is_not_there(account: destroy.Account) -> Iterator[destroy.Removal]:
        sagemaker = account.client("sagemaker")
        yield destroy.Removal(
            "endpoint", other, lambda: sagemaker.delete_endpoint(EndpointName=other)
        )
        yield from hosting(account)

    monkeypatch.setattr(destroy.Account, "_hosting", one_that_is_not_there)
    assert destroy.destroy(session, "droplens", confirmed=agreed) == [f"endpoint {other}"]
    assert f"endpoint {other} stays" in capsys.readouterr().err
    left = everything(session)
    assert name not in left["endpoints"]
    assert left["stacks"] == ["droplens"]
    assert left["tables"]


def test_a_stack_of_nothing_but_a_change_set_goes(session: Any) -> None:
    cloudformation = session.client("cloudformation")
    cloudformation.create_change_set(
        StackName="droplens",
        ChangeSetName="first",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps(TEMPLATE),
    )
    assert destroy.stack_status(session, "droplens") == "REVIEW_IN_PROGRESS"
    assert destroy.destroy(session, "droplens", confirmed=agreed) == []
    assert destroy.stack_status(session, "droplens") == ""


def test_a_stack_at_which_cloudformation_is_at_work_is_listed_when_that_has_ended(
    session: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = iter(["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"])
    monkeypatch.setattr(destroy, "stack_status", lambda *_: next(told))
    monkeypatch.setattr(destroy, "POLL_SECONDS", 0)
    destroy.settle(session, "droplens")
    assert list(told) == []
    assert "its removal begins when that has ended" in capsys.readouterr().out


def test_without_credentials_it_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    config = tmp_path / "config.toml"
    config.write_text('[default.global.parameters]\nstack_name = "droplens"\n')
    with pytest.raises(CommandError, match="no AWS credentials are set"):
        run("destroy", "--yes", target=("--config", str(config)))


def test_what_a_bucket_holds_is_told_before_it_is_asked(
    session: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(session, "droplens", "cars")
    s3 = session.client("s3")
    for key in ("once", "twice"):
        s3.put_object(Bucket=everything(session)["buckets"][0], Key=key, Body=key.encode())
    with pytest.raises(CommandError, match="nothing was removed"):
        destroy.destroy(session, "droplens", confirmed=lambda _: False)
    [bucket] = [line for line in capsys.readouterr().out.splitlines() if "  bucket " in line]
    assert bucket.endswith(", 2 object versions, 9 bytes")
    monkeypatch.setattr(destroy, "MOST_COUNTED", 2)
    with pytest.raises(CommandError):
        destroy.destroy(session, "droplens", confirmed=lambda _: False)
    assert ", more than 2 object versions, more than 9 bytes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1500, "1.5 kB"), (84_213_000, "84.2 MB"), (5_600 * 1000**3, "5,600.0 GB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert destroy.in_bytes(size) == words
