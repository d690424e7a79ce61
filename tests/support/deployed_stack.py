"""A small stack in moto's account, which the commands find by its outputs."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import boto3
import pytest
from moto import mock_aws

from droplens.aws.s3 import Bucket
from droplens.state.reviews import Reviews
from droplens.state.runs import Runs
from droplens_cli.stack import Stack
from tests.support.aws_account import REVIEWS_TABLE

ROLLBACK, RESUME = "droplens-rollback", "droplens-resume-runs"
_TEXT = {"AttributeType": "S"}
TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Bucket": {"Type": "AWS::S3::Bucket"},
        "Runs": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [
                    {"AttributeName": "classifier", **_TEXT},
                    {"AttributeName": "run_id", **_TEXT},
                ],
                "KeySchema": [
                    {"AttributeName": "classifier", "KeyType": "HASH"},
                    {"AttributeName": "run_id", "KeyType": "RANGE"},
                ],
            },
        },
        "Reviews": {"Type": "AWS::DynamoDB::Table", "Properties": REVIEWS_TABLE},
        **{
            name: {"Type": "AWS::SQS::Queue"} for name in ("PictureQueue", "PictureDlq", "EventDlq")
        },
    },
    "Outputs": {
        "BucketName": {"Value": {"Ref": "Bucket"}},
        "RunsTableName": {"Value": {"Ref": "Runs"}},
        "ReviewsTableName": {"Value": {"Ref": "Reviews"}},
        "PictureQueueUrl": {"Value": {"Ref": "PictureQueue"}},
        "PictureDlqUrl": {"Value": {"Ref": "PictureDlq"}},
        "EventDlqUrl": {"Value": {"Ref": "EventDlq"}},
        "RollbackFunctionName": {"Value": ROLLBACK},
        "ResumeFunctionName": {"Value": RESUME},
    },
}


class Functions:
    """Lambda, answering with these in turn."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def invoke(self, **request: Any) -> dict[str, Any]:
        self.asked.append((request["FunctionName"], json.loads(request["Payload"])))
        answer = self.answers.pop(0)
        failed = {"FunctionError": "Unhandled"} if "errorMessage" in answer else {}
        return {"Payload": BytesIO(json.dumps(answer).encode()), **failed}


class Deployed:
    """The stack "droplens", or another one, in an account of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str = "droplens") -> None:
        self.session = boto3.Session(region_name="us-east-1")
        self.session.client("cloudformation").create_stack(
            StackName=name, TemplateBody=json.dumps(TEMPLATE)
        )
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.delenv("MAKELEVEL", raising=False)  # messages name commands as make calls them
        self.monkeypatch = monkeypatch
        [described] = self.session.client("cloudformation").describe_stacks(StackName=name)[
            "Stacks"
        ]
        self.outputs = {one["OutputKey"]: one["OutputValue"] for one in described["Outputs"]}
        self.s3 = self.session.client("s3")
        self.sqs = self.session.client("sqs")
        self.table = self.session.resource("dynamodb").Table(self.outputs["RunsTableName"])
        self.runs = Runs(self.table, owner="test")

    def answering(self, *answers: dict[str, Any]) -> Functions:
        """Let the stack's functions return these responses, in order."""
        functions, others = Functions(*answers), Stack.client
        self.monkeypatch.setattr(
            Stack,
            "client",
            lambda stack, name: functions if name == "lambda" else others(stack, name),
        )
        return functions

    @property
    def bucket(self) -> Bucket:
        """The stack's bucket."""
        return Bucket(self.s3, self.outputs["BucketName"])

    @property
    def reviews(self) -> Reviews:
        """The stack's reviews."""
        table = self.session.resource("dynamodb").Table(self.outputs["ReviewsTableName"])
        return Reviews(table, self.bucket)

    def put(self, key: str, body: bytes = b"x") -> None:
        self.s3.put_object(Bucket=self.outputs["BucketName"], Key=key, Body=body)


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    """The stack "droplens", which was deployed just now."""
    with mock_aws():
        yield Deployed(monkeypatch)
