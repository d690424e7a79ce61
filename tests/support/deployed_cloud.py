"""A local cloud with the stack deployed, used as a user would."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from droplens.aws.s3 import Bucket
from droplens.state.reviews import Reviews
from tests.support.drawn_images import drawing
from tools.contract import validate_named

CLASSES = ("checks", "rings", "stripes")


ENDS = {"live", "failed", "refused", "superseded", "replaced"}


# The local cloud encrypts nothing, and asks no key whether it is there.
KEY = "arn:aws:kms:us-east-1:000000000000:key/1a2b3c4d-0000-4000-8000-123456789abc"


# What batch inference may read and list.
READABLE = "arn:aws:s3:::photographs/2026/*,arn:aws:s3:::photographs,arn:aws:s3:::inventories/*"


# Corrections that start a run of the shared cloud: more than tests store that want none.
ENOUGH_CORRECTIONS = 12


PATIENCE = 240  # seconds; these machines are noisy


@dataclass
class Cloud:
    """A running local cloud as a user meets it: clients, and the names of the stack's outputs."""

    root: Path
    environment: dict[str, str]
    url: str
    outputs: dict[str, str] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """A boto3 client of the local cloud."""
        config = Config(retries={"mode": "standard", "total_max_attempts": 6})
        return self._session.client(service, endpoint_url=self.url, config=config)

    @cached_property
    def keys(self) -> dict[str, str]:
        """The variables that `localcloud env` prints for AWS clients."""
        printed = self.localcloud("env").splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in printed)

    @cached_property
    def _session(self) -> Any:
        return boto3.Session(
            self.keys["AWS_ACCESS_KEY_ID"],
            self.keys["AWS_SECRET_ACCESS_KEY"],
            region_name=self.keys["AWS_REGION"],
        )

    def make(self, *targets: str) -> str:
        """Run make, in this cloud's environment; returns its output."""
        done = self._run("make", *targets)
        return done.stdout + done.stderr

    def localcloud(self, *words: str) -> str:
        """Run the local cloud's own command line."""
        python = str(self.root / ".local/venv/cloud/bin/python")
        return self._run(python, "-m", "localcloud", *words).stdout

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done

    def deploy(self, **changed: str) -> None:
        """Deploy the stack, or deploy it anew with other settings."""
        self.environment |= changed
        self.make("deploy-local")
        described = self.client("cloudformation").describe_stacks(StackName="droplens")
        self.outputs = {
            output["OutputKey"]: output["OutputValue"]
            for output in described["Stacks"][0]["Outputs"]
        }

    @property
    def bucket(self) -> str:
        return self.outputs["BucketName"]

    def put(self, key: str, body: bytes) -> None:
        self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str) -> bytes | None:
        try:
            body: bytes = self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return body

    def versions(self, key: str) -> int:
        """How often this very key was written."""
        answer = self.client("s3").list_object_versions(Bucket=self.bucket, Prefix=key)
        return sum(version["Key"] == key for version in answer.get("Versions", []))

    def upload_dataset(self, classifier: str, per_class: int = 14, seed: int = 0) -> None:
        """Drawn pictures of three classes, then the marker that completes them."""
        for label in CLASSES:
            for index in range(per_class):
                self.put(
                    f"datasets/{classifier}/{label}/{index:02}.jpg",
                    drawing(label, seed * 1000 + index),
                )
        self.put(f"datasets/{classifier}/_READY", b"")

    def runs(self, classifier: str) -> list[dict[str, Any]]:
        """The classifier's runs, oldest first."""
        answer = self._table("RunsTableName").query(
            KeyConditionExpression="classifier = :c",
            ExpressionAttributeValues={":c": classifier},
            ConsistentRead=True,
        )
        items: list[dict[str, Any]] = answer["Items"]
        return items

    @property
    def reviews(self) -> Reviews:
        """The stack's reviews."""
        return Reviews(self._table("ReviewsTableName"), Bucket(self.client("s3"), self.bucket))

    def _table(self, output: str) -> Any:
        return self._session.resource("dynamodb", endpoint_url=self.url).Table(self.outputs[output])

    def ended_run(self, classifier: str, count: int = 1) -> dict[str, Any]:
        """Wait until the classifier has `count` runs and the newest has ended."""

        def newest() -> dict[str, Any] | None:
            runs = self.runs(classifier)
            done = len(runs) >= count and runs[-1]["status"] in ENDS
            return runs[-1] if done else None

        return self.eventually(newest, f"an ended run of {classifier}")

    def result(self, key: str) -> dict[str, Any]:
        """Wait for a result, and hold it to the published schema."""
        body = self.eventually(lambda: self.get(key), key)
        result: dict[str, Any] = json.loads(body)
        validate_named(result)
        return result

    def eventually(self, look: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Look again and again until there is something to see."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if (found := look()) is not None:
                return found
            time.sleep(0.2)
        pytest.fail(f"waited {patience} s for {what}; runs log: {self._last_words()}")

    def listen_to_failures(self, name: str) -> str:
        """The URL of a new queue of this name, to which the topic of failures is delivered."""
        sqs, topic = self.client("sqs"), self.outputs["FailureTopicArn"]
        queue: str = sqs.create_queue(QueueName=name)["QueueUrl"]
        told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        arn = told["Attributes"]["QueueArn"]
        from_the_topic = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = {"Version": "2012-10-17", "Statement": [from_the_topic]}
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return queue

    def _last_words(self) -> str:
        log = self.root / self.environment["DROPLENS_LOCAL"] / "cloud" / "server.log"
        return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-30:])
