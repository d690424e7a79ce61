"""An AWS account in this process, for the layer's tests."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.classify.classify import META_IMAGE_ETAG
from droplens.domain import layout
from droplens.journey.failures import Failures
from droplens.journey.invocation import Invocation
from droplens.state.reviews import QUEUE_INDEX, SAMPLE_ATTRIBUTES, SAMPLE_INDEX, Reviews
from droplens.state.runs import Runs
from tests.support.aws_fakes import FakeBatch, FakeFunctions, FakeSageMaker, nobody

BUCKET = "droplens-bucket"
# What the settings of every step of a run have in common.
JOURNEY: dict[str, Any] = {
    "bucket": BUCKET,
    "runs_table": "runs",
    "stack": "droplens",
    "failure_topic": "topic",
}
# As the template has it: tests/infrastructure/test_reviews.py.
_TEXT = {"AttributeType": "S"}
REVIEWS_TABLE: dict[str, Any] = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": name, **_TEXT}
        for name in ("image", "review", QUEUE_INDEX, "place", SAMPLE_INDEX)
    ],
    "KeySchema": [
        {"AttributeName": "image", "KeyType": "HASH"},
        {"AttributeName": "review", "KeyType": "RANGE"},
    ],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": QUEUE_INDEX,
            "KeySchema": [
                {"AttributeName": QUEUE_INDEX, "KeyType": "HASH"},
                {"AttributeName": "place", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        },
        {
            "IndexName": SAMPLE_INDEX,
            "KeySchema": [{"AttributeName": SAMPLE_INDEX, "KeyType": "HASH"}],
            "Projection": {
                "ProjectionType": "INCLUDE",
                "NonKeyAttributes": list(SAMPLE_ATTRIBUTES),
            },
        },
    ],
}
MAX_RECEIVES = 50  # the template's maxReceiveCount, which tests/infrastructure holds to this
VISIBILITY_TIMEOUT = 720  # of the queue of images, in seconds; held to the template likewise


@dataclass
class Clock:
    """A clock that stands still until it is turned."""

    now: datetime = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Cloud:
    """One account: bucket, tables, topic with a listening queue, queue of pictures, services."""

    s3: Any
    table: Any
    sqs: Any
    sns: Any
    topic: str
    notice_queue: str
    picture_queue: str
    bucket: Bucket
    reviews_table: Any = None
    clock: Clock = field(default_factory=Clock)
    batch: Any = field(default_factory=FakeBatch)
    sagemaker: Any = field(default_factory=FakeSageMaker)
    functions: Any = field(default_factory=FakeFunctions)

    def runs(self, owner: str = "request-1") -> Runs:
        return Runs(self.table, owner=owner, lease_seconds=900, clock=self.clock)

    def reviews(self, retention_days: int = 0) -> Reviews:
        return Reviews(
            self.reviews_table, self.bucket, retention_days=retention_days, clock=self.clock
        )

    def failures(self, runs: Runs | None = None) -> Failures:
        return Failures(runs or self.runs(), self.sns, self.topic)

    def invocation(
        self,
        owner: str = "request-1",
        invoke: Callable[[object], None] = nobody,
        seconds: float = 900,
        runs: Runs | None = None,
    ) -> Invocation:
        """One with so many seconds left; `invoke` gets the events for other invocations."""
        runs = runs or self.runs(owner)
        return Invocation(
            runs=runs, failures=self.failures(runs), seconds_left=lambda: seconds, invoke=invoke
        )

    def put(self, key: str, body: bytes = b"", **more: Any) -> Any:
        return self.s3.put_object(Bucket=self.bucket.name, Key=key, Body=body, **more)

    def json(self, key: str) -> Any:
        return json.loads(self.bucket.read(key)[0])

    def keys(self, prefix: str = "") -> list[str]:
        return [entry.key for entry in self.bucket.entries(prefix)]

    def versions(self, key: str) -> int:
        answer = self.s3.list_object_versions(Bucket=self.bucket.name, Prefix=key)
        return len(answer.get("Versions", []))

    def results(self) -> list[Any]:
        """Every version of every result that classify_image has written."""
        listed = self.s3.list_object_versions(Bucket=self.bucket.name, Prefix=layout.RESULTS)
        found = []
        for version in listed.get("Versions", []):
            answer = self.s3.get_object(
                Bucket=self.bucket.name, Key=version["Key"], VersionId=version["VersionId"]
            )
            if META_IMAGE_ETAG in answer["Metadata"]:
                found.append(json.loads(answer["Body"].read()))
        return found

    def notices(self) -> list[dict[str, str]]:
        """The notifications sent since the last look."""
        return [
            {"subject": body["Subject"], "message": body["Message"]}
            for body in self._drained(self.notice_queue)
        ]

    def queued(self) -> list[str]:
        """The keys of the pictures put on the queue since the last look, in order."""
        return [body["detail"]["object"]["key"] for body in self._drained(self.picture_queue)]

    def _drained(self, queue: str) -> list[Any]:
        found = []
        while messages := self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return found
