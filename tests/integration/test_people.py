"""Users with one of the template's managed policies, on a local cloud that enforces them.

The stack is a part of the template: what people's commands reach, and two functions that answer.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from droplens.domain import layout
from droplens.domain.inference_job import InferenceJob, from_lines, job_key, to_lines
from droplens.state.reviews import Reviews
from droplens_cli.errors import CommandError
from droplens_cli.stack import Stack
from droplens_cli.target import Target
from tests.support.command import run
from tests.support.drawn_images import drawing
from tests.support.expanded_template import expanded_in
from tests.support.localcloud import ACCOUNT, REGION, Cloud, eventually
from tests.support.repository import ROOT
from tests.support.reviews import review

DENIED = "AWS does not allow it"
KEY = "input/cars/a.jpg"
RESOURCES = ("Bucket", "Runs", "Reviews", "PictureQueue", "PictureDlq", "EventDlq")
POLICIES = ("ReviewerPolicy", "OperatorPolicy")
FUNCTIONS = {"Rollback": "droplens-rollback", "ResumeRuns": "droplens-resume-runs"}
ANSWERING = """
def handler(event, context):
    return {"run": {"classifier": "cars", "run_id": "r"}, "status": "live", "stage": "train"}
"""


def part_of_the_template() -> dict[str, Any]:
    """What the commands reach; functions that the part lacks are named as they would be."""
    written = expanded_in(REGION, ROOT).template
    resources = {name: written["Resources"][name] for name in (*RESOURCES, *POLICIES)}
    outputs = {
        name: output
        for name, output in written["Outputs"].items()
        if output["Value"].get("Ref") in resources
    }
    outputs |= {
        "RollbackFunctionName": {"Value": FUNCTIONS["Rollback"]},
        "ResumeFunctionName": {"Value": FUNCTIONS["ResumeRuns"]},
    }

    def known(value: Any) -> Any:
        if isinstance(value, list):
            return [known(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "Fn::GetAtt" in value and value["Fn::GetAtt"][0] not in resources:
            name = FUNCTIONS.get(value["Fn::GetAtt"][0], value["Fn::GetAtt"][0])
            return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
        return {key: known(one) for key, one in value.items()}

    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Parameters": written["Parameters"],
        "Conditions": written["Conditions"],
        "Resources": known(resources),
        "Outputs": outputs,
    }


@pytest.fixture(scope="module")
def strict(new_cloud: Callable[[], Cloud]) -> Cloud:
    """A local cloud that enforces policies, with that part of the stack."""
    cloud = new_cloud()
    cloud.up(DROPLENS_AUTH="true")
    for name in FUNCTIONS.values():
        cloud.function(name, ANSWERING)
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(
        StackName="droplens",
        TemplateBody=json.dumps(part_of_the_template()),
        Capabilities=["CAPABILITY_IAM"],
    )

    def created() -> bool:
        [stack] = cloudformation.describe_stacks(StackName="droplens")["Stacks"]
        return bool(stack["StackStatus"] == "CREATE_COMPLETE")

    eventually("the stack", created, within=60)
    return cloud


@pytest.fixture(scope="module")
def outputs(strict: Cloud) -> dict[str, str]:
    [stack] = strict.client("cloudformation").describe_stacks(StackName="droplens")["Stacks"]
    return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}


@pytest.fixture(scope="module")
def keys(strict: Cloud, outputs: dict[str, str]) -> dict[str, dict[str, str]]:
    """The variables of AWS clients for a reviewer, an operator and a user without any policy."""
    iam, found = strict.client("iam"), {}
    for name in ("Reviewer", "Operator", "Nobody"):
        iam.create_user(UserName=name)
        if arn := outputs.get(f"{name}PolicyArn"):
            iam.attach_user_policy(UserName=name, PolicyArn=arn)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        found[name] = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{strict.port}",
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": REGION,
        }
    return found


@pytest.fixture
def become(
    keys: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Lets what follows run as one of these users."""

    def become(name: str) -> None:
        for variable, value in keys[name].items():
            monkeypatch.setenv(variable, value)
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
        monkeypatch.delenv("MAKELEVEL", raising=False)

    return become


def refused(*words: str) -> bool:
    """Whether AWS denies the command something that it needs. Raises other errors of it."""
    try:
        run(*words)
    except CommandError as error:
        if DENIED not in error.sentence:
            raise
        return True
    return False


def put(strict: Cloud, outputs: dict[str, str], key: str, body: bytes) -> str:
    """Store an object as the account's owner; returns its version."""
    stored = strict.client("s3").put_object(Bucket=outputs["BucketName"], Key=key, Body=body)
    return str(stored["VersionId"])


def test_each_command_needs_the_policy_that_is_documented(
    strict: Cloud, outputs: dict[str, str], become: Callable[[str], None], tmp_path: Path
) -> None:
    bucket = outputs["BucketName"]
    put(strict, outputs, KEY, drawing("rings", 1))
    result = {
        "schema": "droplens.result.v2",
        "status": "classified",
        "image": {"bucket": bucket, "key": KEY, "etag": "e", "version_id": "v", "bytes": 1},
        "classifier": "cars",
        "prediction": {"label": "rings", "probability": 0.9, "confident": True},
        "top": [{"label": "rings", "probability": 0.9}],
        "model": {"run_id": "r", "endpoint": "e", "accuracy": 0.9},
        "classified_at": "2026-11-22T12:00:00Z",
    }
    put(strict, outputs, layout.result_key(KEY, "cars"), json.dumps(result).encode())
    job = InferenceJob(
        classifier="cars",
        job_id="20261127-120000-1a2b3c",
        model="m",
        card={},
        bucket=bucket,
        source="input/",
        images=1,
    )
    put(strict, outputs, job_key("cars", job.job_id), job.to_json())
    for listed in (job.images_key(0), job.rows_key(0)):
        put(strict, outputs, listed, to_lines([{"key": KEY}]))
    labels, dataset = tmp_path / "labels.jsonl", tmp_path / "dataset"
    labels.write_text(json.dumps({"source-ref": f"s3://{bucket}/{KEY}", "class": "rings"}), "utf-8")
    for label in ("checks", "rings"):
        (dataset / label).mkdir(parents=True)
        (dataset / label / "1.jpg").write_bytes(drawing(label, 2))

    reviewing = [
        ("status",),
        ("results", "cars"),
        ("export", "cars", "--manifest", "-o", str(tmp_path / "tasks.manifest")),
        ("import", str(labels), "--as", "cars"),
    ]
    running = [
        ("upload", str(dataset), "--as", "birds", "--no-check"),
        ("rollback", "cars", "--run", "r"),
        ("resume", "cars"),
        ("forget", KEY, "--yes", "--no-wait"),
    ]
    become("Nobody")
    assert [words for words in [*reviewing, *running] if not refused(*words)] == []
    become("Reviewer")
    assert [words for words in reviewing if refused(*words)] == []
    assert [words for words in running if not refused(*words)] == []
    become("Operator")
    assert [words for words in [*reviewing, *running] if refused(*words)] == []
    left = strict.client("s3").list_object_versions(Bucket=bucket)
    there = {one["Key"] for kind in ("Versions", "DeleteMarkers") for one in left.get(kind, [])}
    assert {
        key for key in there if not key.startswith((layout.DATASETS, layout.INFERENCE))
    } == set()
    rows = strict.client("s3").get_object(Bucket=bucket, Key=job.rows_key(0))["Body"].read()
    assert list(from_lines(rows)) == []


def test_a_reviewer_reviews_and_nobody_else_who_has_no_policy(
    strict: Cloud, outputs: dict[str, str], become: Callable[[str], None]
) -> None:
    version = put(strict, outputs, "input/cars/b.jpg", drawing("rings", 3))
    owner = boto3.resource(
        "dynamodb",
        endpoint_url=f"http://127.0.0.1:{strict.port}",
        region_name=REGION,
        aws_access_key_id=strict.keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=strict.keys["AWS_SECRET_ACCESS_KEY"],
    )
    become("Reviewer")
    reviews = Stack(Target(stack="droplens")).reviews
    assert reviews is not None
    entered = review(key="input/cars/b.jpg", version=version)
    with pytest.raises(ClientError, match="dynamodb:PutItem"):
        reviews.enter(entered)
    assert Reviews(owner.Table(outputs["ReviewsTableName"]), reviews.bucket).enter(entered)

    [claimed] = eventually("a review", lambda: reviews.claim("cars", "ada", 1))
    decided = reviews.decide(claimed, "rings", "ada")
    correction = layout.correction_key("cars", "rings", "input/cars/b.jpg")
    assert reviews.bucket.head(correction)
    reviews.undo(decided, "ada")
    assert not list(reviews.bucket.entries(layout.CORRECTIONS))
    assert reviews.waiting("cars")

    become("Nobody")
    nobody = boto3.Session().resource("dynamodb").Table(outputs["ReviewsTableName"])
    with pytest.raises(ClientError, match="not authorized"):
        Reviews(nobody, reviews.bucket).of_image("input/cars/b.jpg")


def test_an_operator_drops_pictures_and_moves_dead_letters_and_a_reviewer_does_not(
    strict: Cloud, outputs: dict[str, str], become: Callable[[str], None]
) -> None:
    dead = strict.client("sqs").get_queue_attributes(
        QueueUrl=outputs["PictureDlqUrl"], AttributeNames=["QueueArn"]
    )["Attributes"]["QueueArn"]

    def client(service: str) -> Any:
        make: Any = boto3.Session().client  # the default session keeps its first credentials
        return make(service)

    def drop() -> None:
        client("s3").put_object(Bucket=outputs["BucketName"], Key="input/cars/c.jpg")

    def move() -> None:
        client("sqs").start_message_move_task(SourceArn=dead)

    def overwrite() -> None:
        client("s3").put_object(Bucket=outputs["BucketName"], Key="models/cars/live.json")

    become("Reviewer")
    for call in (drop, move, overwrite):
        with pytest.raises(ClientError, match="AccessDenied"):
            call()
    become("Operator")
    drop()
    move()
    with pytest.raises(ClientError, match="AccessDenied"):
        overwrite()
