"""The functions as the template deploys them: their own modules, in an account of moto's."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from droplens.aws.s3 import Bucket
from droplens.runtime import settings
from tests.support.aws_account import REVIEWS_TABLE, Cloud
from tests.support.aws_fakes import FakeRuntime
from tests.support.builders import card, go_live, redness
from tests.support.expanded_template import ACCOUNT, BUCKET, REGION, Stack

FUNCTIONS: dict[str, tuple[str, type[settings.Settings]]] = {
    "BuildImages": ("build_images", settings.BuildingSettings),
    "PrepareDataset": ("prepare_dataset", settings.PackingSettings),
    "StartTraining": ("start_training", settings.TrainingSettings),
    "DeployEndpoint": ("deploy_endpoint", settings.DeploymentSettings),
    "PromoteEndpoint": ("promote_endpoint", settings.PromotionSettings),
    "Rollback": ("rollback", settings.RollbackSettings),
    "ResumeRuns": ("resume_runs", settings.ResumptionSettings),
    "PauseEndpoint": ("pause_endpoint", settings.PausingSettings),
    "ClassifyImage": ("classify_image", settings.ClassificationSettings),
    "ReportFailure": ("report_failure", settings.JourneySettings),
}


RECORDED_RUN = "20261122-120000-610e99"


def variables(stack: Stack, name: str) -> dict[str, str]:
    found = stack.properties(name)["Environment"]["Variables"]
    return {key: str(value) for key, value in found.items()}


@dataclass(frozen=True)
class Context:
    """What Lambda tells a handler of its invocation."""

    aws_request_id: str
    function_name: str = "droplens-promote-endpoint"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:droplens"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@pytest.fixture
def deployed(stack: Stack) -> Iterator[Cloud]:
    """An account with the stack's bucket, tables, topic and queue, under their own names."""
    session = boto3.Session("test", "test", region_name=REGION)
    with mock_aws():
        s3, sqs, sns = session.client("s3"), session.client("sqs"), session.client("sns")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        runs = stack.properties("Runs")
        table = session.resource("dynamodb").create_table(
            TableName=str(stack.ref("Runs")),
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=runs["AttributeDefinitions"],
            KeySchema=runs["KeySchema"],
            GlobalSecondaryIndexes=runs["GlobalSecondaryIndexes"],
        )
        reviews = session.resource("dynamodb").create_table(
            TableName=str(stack.ref("Reviews")), **REVIEWS_TABLE
        )
        topic = sns.create_topic(Name=stack.physical_name("Failures"))["TopicArn"]
        assert topic == stack.ref("Failures")
        notices = sqs.create_queue(QueueName="notices")["QueueUrl"]
        listener = f"arn:aws:sqs:{REGION}:{ACCOUNT}:notices"
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=listener)
        pictures = sqs.create_queue(QueueName=stack.physical_name("PictureQueue"))["QueueUrl"]
        assert pictures == stack.ref("PictureQueue")
        yield Cloud(s3, table, sqs, sns, topic, notices, pictures, Bucket(s3, BUCKET), reviews)


@pytest.fixture
def load(
    stack: Stack, deployed: Cloud, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ModuleType]:
    """Imports a function's module as Lambda does: with the environment that the template gives."""

    def load(name: str) -> ModuleType:
        folder, _ = FUNCTIONS[name]
        for key, value in {**variables(stack, name), "AWS_REGION": REGION}.items():
            monkeypatch.setenv(key, value)
        path = repo_root / "functions" / folder / "app.py"
        spec = importlib.util.spec_from_file_location(f"handler_{folder}", path)
        assert spec is not None
        assert spec.loader is not None
        app = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, app)
        fakes: dict[str, Any] = {
            "batch": deployed.batch,
            "sagemaker": deployed.sagemaker,
            "sagemaker-runtime": FakeRuntime(redness),
            "lambda": deployed.functions,
        }
        real = boto3.client

        def client(service: str, **options: Any) -> Any:
            return fakes[service] if service in fakes else real(service, **options)  # type: ignore[call-overload]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(boto3, "client", client)
            spec.loader.exec_module(app)
        return app

    return load


@pytest.fixture
def classify_image(load: Callable[[str], ModuleType]) -> ModuleType:
    """classify_image, with a live model of classifier cars."""
    app = load("ClassifyImage")
    go_live(app.CARDS.cards, card(RECORDED_RUN))
    return app


def of_run(event: dict[str, Any], run: str) -> dict[str, Any]:
    return dict(json.loads(json.dumps(event).replace(RECORDED_RUN, run)))


def dropped(cloud: Cloud, event: dict[str, Any], body: bytes) -> dict[str, Any]:
    """The event of an object that is really there: with its version and ETag."""
    found = event["detail"]["object"]
    answer = cloud.put(found["key"], body)
    found.update({"version-id": answer["VersionId"], "etag": answer["ETag"].strip('"')})
    return event


def stored_picture(cloud: Cloud, event: dict[str, Any], key: str, body: bytes) -> dict[str, Any]:
    """The recorded event as it is of another picture."""
    other = json.loads(json.dumps(event))
    other["detail"]["object"]["key"] = key
    return dropped(cloud, other, body)
