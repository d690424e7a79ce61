"""Batch inference: made where pictures of other buckets are named, and with their rights only."""

import json
from typing import Any

import pytest

from tests.infrastructure.policies import LARGEST
from tests.infrastructure.roles import (
    ARTEFACT,
    AT,
    CARD,
    FETCH_IMAGE,
    JOB_DEFINITION,
    LOGS,
    PICTURE,
    Call,
    calls,
    unused,
)
from tests.support.expanded_template import Stack, listed, with_parameters

SOURCES = "arn:aws:s3:::photographs/2026/*,arn:aws:s3:::scans/*,arn:aws:s3:::scans"
DEFINITION = JOB_DEFINITION.replace("batch-prep", "inference")
JOB = "${Bucket.Arn}/inference/cars/20261127-120000-1a2b3c"
LISTS = f"{JOB}/images/00000.jsonl.gz"
ROWS = f"{JOB}/rows/00000.jsonl.gz"
MAY: dict[str, list[Call]] = {
    "InferenceRole": [
        *calls(
            "s3:GetObject GetObjectVersion",
            "arn:aws:s3:::photographs/2026/a.jpg",
            "arn:aws:s3:::scans/b.jpg",
        ),
        *calls("s3:GetObject", ARTEFACT, f"{JOB}/job.json", LISTS),
        *calls("s3:PutObject", ROWS),
        *calls("s3:ListBucket", "${Bucket.Arn}", "arn:aws:s3:::scans"),
    ],
    "InferenceExecutionRole": [
        *calls("ecr:GetAuthorizationToken", "*"),
        *calls(FETCH_IMAGE, "${TrainerImages.Arn}"),
        *calls("logs:CreateLogStream PutLogEvents", "${InferenceLogs.Arn}"),
    ],
    "InferencePolicy": [
        *calls("batch:SubmitJob", "${InferenceQueue}", DEFINITION, f"{DEFINITION}:27"),
        *calls("batch:ListJobs DescribeJobs", "*"),
        *calls("s3:ListBucket", "arn:aws:s3:::scans"),
        *calls("s3:GetObject", "arn:aws:s3:::photographs/2026/a.jpg", "arn:aws:s3:::scans/b.jpg"),
    ],
}
NEITHER_MAY = [
    *calls("s3:GetObject", "arn:aws:s3:::photographs/2025/a.jpg", "arn:aws:s3:::scans2/b.jpg"),
    *calls("s3:GetObject", PICTURE, CARD),
    *calls("s3:PutObject DeleteObject", "arn:aws:s3:::photographs/2026/a.jpg"),
    *calls("s3:PutObject", f"{JOB}/job.json", LISTS, PICTURE, ARTEFACT),
    *calls("s3:DeleteObject", ROWS),
    *calls("s3:ListBucket", "arn:aws:s3:::photographs"),
    *calls("dynamodb:GetItem UpdateItem", "${Runs.Arn}"),
    *calls("batch:SubmitJob", "${JobQueue}", JOB_DEFINITION),
    *calls("batch:TerminateJob", f"arn:${{AWS::Partition}}:batch:{AT}:job/1a2b"),
    *calls("batch:RegisterJobDefinition", DEFINITION),
    *calls("logs:CreateLogGroup", f"{LOGS}*"),
]


@pytest.fixture(scope="module")
def inferring(stack: Stack) -> Stack:
    return with_parameters(stack, InferenceSources=SOURCES)


@pytest.mark.parametrize("role", MAY)
def test_a_role_may_do_what_its_part_needs_and_nothing_else(inferring: Stack, role: str) -> None:
    for call in MAY[role]:
        assert call.allowed(inferring, role), call
    for call in [*NEITHER_MAY, *(call for other in MAY if other != role for call in MAY[other])]:
        assert call in MAY[role] or not call.allowed(inferring, role), call
    assert unused(inferring, role, MAY[role]) == []


def test_its_policy_fits_into_iam_s_quota_with_the_longest_sources(inferring: Stack) -> None:
    # A parameter has at most 4,096 bytes.
    source = f"arn:aws:s3:::{'b' * 63}/{'p' * 50}*"
    sources = ",".join([source] * (4096 // (len(source) + 1)))
    long = Stack(
        inferring.template,
        name="a" * 30,
        region="ap-northeast-1",
        parameters={**inferring.parameters, "InferenceSources": sources},
    )
    text = json.dumps(long.properties("InferencePolicy")["PolicyDocument"], separators=(",", ":"))
    assert len(text) <= LARGEST


def test_nothing_of_it_is_made_unless_pictures_are_named(stack: Stack) -> None:
    made = {
        name
        for name, resource in stack.template["Resources"].items()
        if resource.get("Condition") == "Infers"
    }
    assert made == {
        "InferenceQueue",
        "InferenceDefinition",
        "InferenceLogs",
        "InferenceRole",
        "InferenceExecutionRole",
        "InferencePolicy",
    }
    assert not stack.holds("Infers")
    assert not with_parameters(stack, InferenceSources=SOURCES, TrainerImage="builtin").holds(
        "Infers"
    )
    for name in ("InferenceQueueArn", "InferenceDefinitionArn", "InferencePolicyArn"):
        assert stack.template["Outputs"][name]["Condition"] == "Infers"


def test_packing_goes_before_it_on_the_same_computers(inferring: Stack) -> None:
    packing, inference = map(inferring.properties, ("JobQueue", "InferenceQueue"))
    assert packing["ComputeEnvironmentOrder"] == inference["ComputeEnvironmentOrder"]
    assert packing["Priority"] > inference["Priority"]


def test_its_jobs_run_the_trainer_s_image_as_no_root(inferring: Stack) -> None:
    definition = inferring.properties("InferenceDefinition")
    container: dict[str, Any] = definition["ContainerProperties"]
    written = inferring.template["Resources"]["InferenceDefinition"]["Properties"]
    assert written["ContainerProperties"]["Image"] == {"Ref": "TrainerOwnImage"}
    assert container["Command"] == ["classify", "--job", "Ref::job"]
    assert container["User"] == "1000"
    assert definition["RetryStrategy"]["EvaluateOnExit"][0] == {
        "OnExitCode": "1",
        "Action": "EXIT",
    }


def test_no_event_of_its_queue_reaches_a_run(inferring: Stack) -> None:
    queue = inferring.ref("InferenceQueue")
    for rule in inferring.of_type("AWS::Events::Rule").values():
        assert queue not in str(listed(rule))
