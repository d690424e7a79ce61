"""The services that the layer talks to, in this process: moto's, and small fakes for the others."""

from collections.abc import Iterator
from threading import Lock
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from droplens.cards import Cards
from droplens.storage import Bucket
from tests.unit.layer.account import BUCKET, Cloud
from tests.unit.layer.fakes import ACCOUNT


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A fresh account. moto takes one request at a time, as DynamoDB and S3 do for one item."""
    lock, answer = Lock(), BotocoreStubber.__call__

    def one_at_a_time(self: BotocoreStubber, *args: Any, **kwargs: Any) -> Any:
        with lock:
            return answer(self, *args, **kwargs)

    monkeypatch.setattr(BotocoreStubber, "__call__", one_at_a_time)
    monkeypatch.setenv("MOTO_ACCOUNT_ID", ACCOUNT)
    with mock_aws():
        s3, sqs, sns = boto3.client("s3"), boto3.client("sqs"), boto3.client("sns")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        table = boto3.resource("dynamodb").create_table(
            TableName="runs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "classifier", "AttributeType": "S"},
                {"AttributeName": "run_id", "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "classifier", "KeyType": "HASH"},
                {"AttributeName": "run_id", "KeyType": "RANGE"},
            ],
        )
        topic = sns.create_topic(Name="failures")["TopicArn"]
        notices = sqs.create_queue(QueueName="notices")["QueueUrl"]
        sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:us-east-1:{ACCOUNT}:notices"
        )
        pictures = sqs.create_queue(QueueName="pictures")["QueueUrl"]
        yield Cloud(s3, table, sqs, sns, topic, notices, pictures, Bucket(s3, BUCKET))


@pytest.fixture
def cards(cloud: Cloud) -> Cards:
    """The model cards of the account."""
    return Cards(cloud.bucket)
