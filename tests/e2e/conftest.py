"""A local cloud of the tests' own, with the real template deployed by the real sam."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.drawn_images import drawing
from tools.contract import RESULT, hold_to

CLASSES = ("checks", "rings", "stripes")
ENDS = {"live", "failed", "refused", "superseded", "replaced"}
# The local cloud encrypts nothing, and asks no key whether it is there.
KEY = "arn:aws:kms:us-east-1:000000000000:key/1a2b3c4d-0000-4000-8000-123456789abc"
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
        done = subprocess.run(
            ["make", *targets],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"make {targets}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def localcloud(self, *words: str) -> str:
        """Run the local cloud's own command line."""
        done = subprocess.run(
            [str(self.root / ".local/venv/cloud/bin/python"), "-m", "localcloud", *words],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"localcloud {words}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

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
        table = self._session.resource("dynamodb", endpoint_url=self.url).Table(
            self.outputs["RunsTableName"]
        )
        answer = table.query(
            KeyConditionExpression="classifier = :c",
            ExpressionAttributeValues={":c": classifier},
            ConsistentRead=True,
        )
        items: list[dict[str, Any]] = answer["Items"]
        return items

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
        hold_to(RESULT, result)
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


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def clouds(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[Any]:
    """Start deployed local clouds, each with a folder and a port of its own."""
    if not (repo_root / ".local/venv/cloud").is_dir():
        pytest.fail("make test makes the environments that the local cloud needs")
    with contextlib.ExitStack() as stack:
        built = tmp_path_factory.mktemp("sam-cache")

        def start(*, deployed: bool = True, **extra: str) -> Cloud:
            folder = tmp_path_factory.mktemp("local")
            port = free_port()
            kept = {
                name: value for name, value in os.environ.items() if not name.startswith("AWS_")
            }
            environment = {
                **kept,
                "DROPLENS_LOCAL": str(folder),
                "DROPLENS_PORT": str(port),
                "PYTHON": sys.executable,
                "SAM_CACHE": str(built),
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                **extra,
            }
            cloud = Cloud(repo_root, environment, f"http://127.0.0.1:{port}")
            stack.callback(cloud.localcloud, "down")
            if deployed:
                # A grown account, which the tests of all else may share.
                cloud.localcloud("quotas", "--published")
                cloud.deploy()
            else:
                cloud.make("up")
            return cloud

        # Session fixtures come before the one that keeps a developer's account out of each test.
        credentials = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        patch = pytest.MonkeyPatch()
        stack.callback(patch.undo)
        for name, value in credentials.items():
            patch.setenv(name, value)
        yield start


@pytest.fixture(scope="session")
def cloud(clouds: Callable[..., Cloud]) -> Cloud:
    """A local cloud that delivers each event once, and evaluates every function's own role."""
    return clouds(DROPLENS_AUTH="true")


@pytest.fixture(scope="session")
def rough_cloud(clouds: Callable[..., Cloud]) -> Cloud:
    """A local cloud that delivers every event up to three times, late, and in any order.

    Datasets of more than 30 pictures are packed in shards there, and it has a key of the user's.
    """
    return clouds(
        DROPLENS_DELIVERY="rough",
        DROPLENS_AUTH="true",
        PARAMETERS=f"PicturesPerPackingJob=30 UseSpot=true KmsKeyArn={KEY}",
    )


@pytest.fixture(scope="session")
def live_patterns(cloud: Cloud) -> dict[str, Any]:
    """The run of a classifier "patterns" that is live, with two pictures dropped before it was."""
    for label in CLASSES[:2]:
        cloud.put(f"input/patterns/early {label}+%2B.jpg", drawing(label, 900))
    cloud.upload_dataset("patterns")
    run = cloud.ended_run("patterns")
    assert run["status"] == "live", run
    return run


@pytest.fixture(scope="session")
def account(clouds: Callable[..., Cloud], tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """A new account: a local cloud with nothing in it, known by AWS's own variables only."""
    cloud = clouds(deployed=False)
    answers = tmp_path_factory.mktemp("saved answers") / "account.toml"
    cloud.environment |= cloud.keys | {"ACCOUNT_CONFIG": str(answers)}
    return cloud
