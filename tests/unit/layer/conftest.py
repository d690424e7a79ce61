"""The services that the layer talks to, in this process: moto's, and small fakes for the others."""

from collections.abc import Iterator
from threading import Lock
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from droplens.aws.s3 import Bucket
from droplens.state.cards import Cards
from droplens.state.runs import ATTENTION
from tests.support.aws_account import BUCKET, REVIEWS_TABLE, Cloud
from tests.support.aws_fakes import ACCOUNT, REGION
from tools.contract import validate_named


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """What clients are made from; they are kept for all tests, for making one takes a while."""
    return boto3.Session("test", "test", region_name=REGION)


@pytest.fixture(scope="session")
def clients(session: boto3.Session) -> dict[str, Any]:
    """Clients of the services that moto runs."""
    return {name: session.client(name) for name in ("s3", "sqs", "sns")} | {
        "dynamodb": session.resource("dynamodb")
    }


@pytest.fixture
def cloud(clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A fresh account. moto takes one request at a time, as DynamoDB and S3 do for one item.

    Whatever results a test has left in it are held to the published schema.
    """
    lock, answer = Lock(), BotocoreStubber.__call__

    def one_at_a_time(self: BotocoreStubber, *args: Any, **kwargs: Any) -> Any:
        with lock:
            return answer(self, *args, **kwargs)

    monkeypatch.setattr(BotocoreStubber, "__call__", one_at_a_time)
    with mock_aws():
        s3, sqs, sns = clients["s3"], clients["sqs"], clients["sns"]
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        table = clients["dynamodb"].create_table(
            TableName="runs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "classifier", "AttributeType": "S"},
                {"AttributeName": "run_id", "AttributeType": "S"},
                {"AttributeName": ATTENTION, "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "classifier", "KeyType": "HASH"},
                {"AttributeName": "run_id", "KeyType": "RANGE"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": ATTENTION,
                    "KeySchema": [{"AttributeName": ATTENTION, "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        )
        reviews = clients["dynamodb"].create_table(TableName="reviews", **REVIEWS_TABLE)
        topic = sns.create_topic(Name="failures")["TopicArn"]
        notices = sqs.create_queue(QueueName="notices")["QueueUrl"]
        sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:notices"
        )
        pictures = sqs.create_queue(QueueName="pictures")["QueueUrl"]
        account = Cloud(s3, table, sqs, sns, topic, notices, pictures, Bucket(s3, BUCKET), reviews)
        yield account
        for written in account.results():
            validate_named(written)


@pytest.fixture
def cards(cloud: Cloud) -> Cards:
    """The model cards of the account."""
    return Cards(cloud.bucket)
