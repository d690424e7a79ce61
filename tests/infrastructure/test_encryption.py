"""What is stored is encrypted, by the user's key where there is one, and travels by TLS alone."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.roles import KEY, MAY, SERVICES_OF_THE_KEY
from tests.support.expanded_template import Stack

BOUNDARY = "arn:aws:iam::123456789012:policy/developers-only"


@pytest.fixture(scope="module")
def keyed(stack: Stack) -> Stack:
    """The stack with the user's key."""
    return Stack(stack.template, parameters={"KmsKeyArn": KEY})


def bucket_encryption(stack: Stack) -> dict[str, Any]:
    [bucket] = stack.of_type("AWS::S3::Bucket").values()
    [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    return dict(rule)


def test_without_a_key_aws_s_own_encrypt_at_no_charge(stack: Stack) -> None:
    assert bucket_encryption(stack) == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    for queue in stack.of_type("AWS::SQS::Queue").values():
        assert queue["SqsManagedSseEnabled"] is True
        assert "KmsMasterKeyId" not in queue
    for topic in stack.of_type("AWS::SNS::Topic").values():
        assert topic["KmsMasterKeyId"] == "alias/aws/sns"
    for table in stack.of_type("AWS::DynamoDB::Table").values():
        assert "SSESpecification" not in table  # else a key of the account's, at a charge
    for group in stack.of_type("AWS::Logs::LogGroup").values():
        assert "KmsKeyId" not in group


def test_with_a_key_it_encrypts_every_store(keyed: Stack) -> None:
    assert bucket_encryption(keyed) == {
        "BucketKeyEnabled": True,
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
    }
    for queue in keyed.of_type("AWS::SQS::Queue").values():
        assert queue["KmsMasterKeyId"] == KEY
        assert "SqsManagedSseEnabled" not in queue
    for topic in keyed.of_type("AWS::SNS::Topic").values():
        assert topic["KmsMasterKeyId"] == KEY
    for table in keyed.of_type("AWS::DynamoDB::Table").values():
        assert table["SSESpecification"] == {
            "SSEEnabled": True,
            "SSEType": "KMS",
            "KMSMasterKeyId": KEY,
        }
    for group in keyed.of_type("AWS::Logs::LogGroup").values():
        assert group["KmsKeyId"] == KEY


@pytest.mark.parametrize("function", ["StartTraining", "DeployEndpoint", "Rollback"])
def test_who_asks_for_instances_is_told_the_key(stack: Stack, keyed: Stack, function: str) -> None:
    for one, expected in ((stack, ""), (keyed, KEY)):
        assert one.properties(function)["Environment"]["Variables"]["KMS_KEY_ARN"] == expected


def test_only_those_use_the_key_who_touch_what_it_encrypts(stack: Stack, keyed: Stack) -> None:
    assert not {"UseKey", "LendKey"} & stack.of_type("AWS::IAM::Policy").keys()
    assert {"UseKey", "LendKey"} <= keyed.of_type("AWS::IAM::Policy").keys()
    policy = keyed.properties("UseKey")
    touching = [
        role
        for role, rows in MAY.items()
        if any(call.action.partition(":")[0] in SERVICES_OF_THE_KEY for call in rows)
    ]
    assert sorted(policy["Roles"]) == sorted(map(keyed.ref, touching))


def test_the_key_s_policy_in_the_docs_lets_every_log_group_use_it(
    keyed: Stack, repo_root: Path
) -> None:
    text = (repo_root / "docs/security.md").read_text("utf-8").replace("STACK", keyed.name)
    [block] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    statements = {statement["Sid"]: statement for statement in json.loads(block)}
    pattern = statements["Logs"]["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    for group in keyed.of_type("AWS::Logs::LogGroup").values():
        arn = f"arn:aws:logs:REGION:ACCOUNT:log-group:{group['LogGroupName']}"
        assert fnmatchcase(arn, pattern)


@pytest.mark.parametrize(
    ("kind", "policy_kind", "refers"),
    [
        ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket"),
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues"),
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics"),
    ],
)
def test_plain_http_is_refused(stack: Stack, kind: str, policy_kind: str, refers: str) -> None:
    refused = set()
    for policy in stack.of_type(policy_kind).values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}:
                assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
                assert statement["Action"] in ("s3:*", "sqs:*", "sns:Publish")
                named = policy[refers]
                refused |= set(named if isinstance(named, list) else [named])
    assert refused == {stack.ref(name) for name in stack.of_type(kind)}


def test_no_role_is_without_the_boundary_that_a_user_asks_for(stack: Stack) -> None:
    bounded = Stack(stack.template, parameters={"PermissionsBoundary": BOUNDARY})
    for role in bounded.of_type("AWS::IAM::Role").values():
        assert role["PermissionsBoundary"] == BOUNDARY
    for role in stack.of_type("AWS::IAM::Role").values():
        assert "PermissionsBoundary" not in role
