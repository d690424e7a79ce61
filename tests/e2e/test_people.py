"""Commands of `droplens` as users who have one of the stack's managed policies and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from droplens_cli.errors import CommandError
from tests.support.command import run
from tests.support.deployed_cloud import CLASSES, Cloud
from tests.support.drawn_images import drawing

DENIED = "AWS does not allow it"


@pytest.fixture(scope="module")
def keys(cloud: Cloud) -> dict[str, dict[str, str]]:
    """The variables of AWS clients for a reviewer, an operator and a user without any policy."""
    iam, found = cloud.client("iam"), {}
    for name in ("Reviewer", "Operator", "Nobody"):
        iam.create_user(UserName=name)
        if arn := cloud.outputs.get(f"{name}PolicyArn"):
            iam.attach_user_policy(UserName=name, PolicyArn=arn)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        found[name] = {
            "AWS_ENDPOINT_URL": cloud.url,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
    return found


@pytest.fixture
def become(
    keys: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Lets the commands that follow run as one of these users."""

    def become(name: str) -> None:
        for variable, value in keys[name].items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)

    return become


def refused(*words: str) -> bool:
    """Whether AWS denies the command something that it needs; other errors do not matter here."""
    try:
        run(*words)
    except CommandError as error:
        return DENIED in error.sentence
    return False


@pytest.mark.usefixtures("live_patterns")
def test_each_command_needs_the_policy_that_is_documented_and_no_more(
    cloud: Cloud, become: Callable[[str], None], tmp_path: Path
) -> None:
    cloud.put("input/patterns/people.jpg", drawing("rings", 8101))
    cloud.result("results/patterns/people.jpg.json")
    photo, single = tmp_path / "photo.jpg", tmp_path / "single" / "rings"
    photo.write_bytes(drawing("rings", 8102))
    single.mkdir(parents=True)
    (single / "1.jpg").write_bytes(photo.read_bytes())
    labels = tmp_path / "labels.jsonl"
    row: dict[str, Any] = {"source-ref": f"s3://{cloud.bucket}/input/patterns/people.jpg"}
    labels.write_text(json.dumps(row | {"class": CLASSES[0]}), "utf-8")

    reviewing = [
        ("results", "patterns"),
        ("export", "patterns", "--manifest", "-o", str(tmp_path / "tasks.manifest")),
        ("import", str(labels), "--as", "people"),
    ]
    running = [
        ("upload", str(single.parent), "--as", "people", "--no-check"),
        ("classify", str(photo), "--as", "patterns"),
        ("status",),
        ("rollback", "patterns", "--yes"),
        ("rollback", "patterns", "--run", "20200101-000000-000000"),
        ("resume", "patterns"),
        ("redrive",),
    ]
    become("Nobody")
    assert [words for words in reviewing if not refused(*words)] == []
    become("Reviewer")
    assert [words for words in reviewing if refused(*words)] == []
    assert [words for words in running if not refused(*words)] == []
    become("Operator")
    assert [words for words in [*reviewing, *running] if refused(*words)] == []


@pytest.mark.usefixtures("live_patterns")
def test_an_operator_approves_models_and_moves_dead_letters_and_a_reviewer_does_not(
    cloud: Cloud, become: Callable[[str], None]
) -> None:
    group = {"ModelPackageGroupName": "droplens--patterns"}
    [package, *_] = cloud.client("sagemaker").list_model_packages(**group)[
        "ModelPackageSummaryList"
    ]
    dead = cloud.client("sqs").get_queue_attributes(
        QueueUrl=cloud.outputs["PictureDlqUrl"], AttributeNames=["QueueArn"]
    )["Attributes"]["QueueArn"]

    def approve() -> None:
        boto3.Session().client("sagemaker").update_model_package(
            ModelPackageArn=package["ModelPackageArn"], ModelApprovalStatus="Approved"
        )

    def move() -> None:
        boto3.Session().client("sqs").start_message_move_task(SourceArn=dead)

    become("Reviewer")
    for call in (approve, move):
        with pytest.raises(ClientError, match="AccessDenied"):
            call()
    become("Operator")
    approve()
    move()
