"""Every policy of the expanded template names actions, resources and keys that AWS knows."""

from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.policies import faults, policies
from tests.infrastructure.roles import KEY
from tests.support.expanded_template import Stack, expanded_in


@pytest.mark.parametrize("region", ["us-east-1", "cn-north-1", "us-gov-west-1"])
@pytest.mark.parametrize("key", ["", KEY], ids=["AWS's keys", "the user's key"])
def test_every_policy_is_sound(repo_root: Path, region: str, key: str) -> None:
    template = expanded_in(region, repo_root).template
    stack = Stack(template, region=region, parameters={"KmsKeyArn": key})
    made = [name for name, told in template["Resources"].items() if stack.holds_for(told)]
    found = list(policies({name: stack.properties(name) for name in made}))
    assert len(found) >= 30
    assert [f"{where}: {fault}" for where, policy in found for fault in faults(policy)] == []


def statement(**changes: Any) -> dict[str, Any]:
    sound = {
        "Sid": "S",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::bucket/packed/*",
    }
    return {"Version": "2012-10-17", "Statement": [sound | changes]}


def test_a_sound_statement_has_no_fault() -> None:
    assert faults(statement()) == []
    assert faults(statement(Condition={"Bool": {"aws:SecureTransport": "true"}})) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"Action": "s3:GetObjekt"}, "S: there is no action s3:GetObjekt"),
        ({"Action": ["s3:GetObject", "s4:Get*"]}, "S: there is no action s4:Get*"),
        ({"Resource": "arn:aws:s3:::bucket"}, "S: no action of it takes arn:aws:s3:::bucket"),
        (
            {"Action": ["s3:GetObject", "s3:ListBucket"]},
            "S: s3:ListBucket takes none of ['arn:aws:s3:::bucket/packed/*'], but",
        ),
        (
            {"Resource": ["arn:aws:s3:::b/a", "arn:aws:sqs:us-east-1:123456789012:q"]},
            "S: no action of it takes arn:aws:sqs:us-east-1:123456789012:q",
        ),
        ({"Action": "batch:ListJobs"}, "S: batch:ListJobs takes no resource but *"),
        ({"Resource": "*"}, "S: s3:GetObject on * could name its resource"),
        (
            {"Condition": {"StringEquals": {"s3:prefiks": "a"}}},
            "S: none of its actions knows the condition key s3:prefiks",
        ),
    ],
)
def test_a_fault_is_found(changes: dict[str, Any], fault: str) -> None:
    assert any(found.startswith(fault) for found in faults(statement(**changes)))
