"""`make demo ACCOUNT=1` from its question to the report, against a local cloud as the account.

The demo does not know: it is told the endpoint by AWS_ENDPOINT_URL, as any AWS client would be.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from droplens_cli.destroy import stack_status
from tests.support.deployed_cloud import CLASSES, Cloud
from tests.support.drawn_images import drawing

BYSTANDER = "droplens-demo-abcdef"


@dataclass
class Demo:
    """One demo as it runs. seen: its lines so far."""

    process: "subprocess.Popen[str]"
    seen: list[str]

    def until(self, words: str) -> None:
        """Read on until a line has these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.append(line)
            if words in line:
                return
        pytest.fail(f"never said {words!r}:\n{self.text}")

    def interrupt(self) -> None:
        """As Ctrl-C in a terminal does: to make and to all that it runs."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Read to the end; returns make's exit code."""
        assert self.process.stdout is not None
        self.seen += self.process.stdout
        return self.process.wait()

    @property
    def text(self) -> str:
        return "".join(self.seen)

    @property
    def stack(self) -> str:
        """The name of its stack."""
        return self.text.partition("This makes the stack ")[2].split()[0]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders."""
    folder = tmp_path_factory.mktemp("pictures") / "shapes"
    for label in CLASSES:
        for index in range(14):
            path = folder / label / f"{index:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(drawing(label, index))
    return folder


@contextlib.contextmanager
def demo(cloud: Cloud, shapes: Path, **variables: str) -> Iterator[Demo]:
    """`make demo ACCOUNT=1` with these variables; ended, if it still runs, when the block is."""
    given = {"ACCOUNT": "1", "DATASET": str(shapes), "METRICS_WAIT": "0", "YES": "1"} | variables
    process = subprocess.Popen(
        ["make", "demo", *(f"{name}={value}" for name, value in given.items() if value)],
        cwd=cloud.root,
        env=cloud.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Demo(process, [])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def reports(cloud: Cloud) -> set[Path]:
    return set((Path(cloud.environment["DROPLENS_LOCAL"]) / "demo-account").glob("report-*.json"))


def newest_report(cloud: Cloud) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(max(reports(cloud)).read_text("utf-8"))
    return document


def assert_nothing_is_left(cloud: Cloud, stack: str) -> None:
    """Seen from outside, not by the demo's own listing."""
    assert stack_status(cloud, stack) == ""
    s3, logs = cloud.client("s3"), cloud.client("logs")
    named: list[str] = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    for bucket in [name for name in named if name.startswith("aws-sam-cli")]:
        named += [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    named += cloud.client("dynamodb").list_tables()["TableNames"]
    named += [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]]
    sagemaker = cloud.client("sagemaker")
    named += [one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]]
    named += [one["ModelName"] for one in sagemaker.list_models()["Models"]]
    repositories = cloud.client("ecr").describe_repositories()["repositories"]
    named += [one["repositoryName"] for one in repositories]
    functions = cloud.client("lambda").list_functions()["Functions"]
    named += [one["FunctionName"] for one in functions]
    assert not [name for name in named if stack in name]


@pytest.fixture
def bystander(account: Cloud) -> Iterator[None]:
    """Another stack, with a name like a demo's; it must be there in the end, with what it holds."""
    formation, s3 = account.client("cloudformation"), account.client("s3")
    body = {"Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}}}
    formation.create_stack(StackName=BYSTANDER, TemplateBody=json.dumps(body))
    account.eventually(
        lambda: stack_status(account, BYSTANDER) == "CREATE_COMPLETE" or None, "the bystander"
    )
    [resource] = formation.list_stack_resources(StackName=BYSTANDER)["StackResourceSummaries"]
    bucket = resource["PhysicalResourceId"]
    s3.put_object(Bucket=bucket, Key="mine", Body=b"mine")
    yield
    assert s3.get_object(Bucket=bucket, Key="mine")["Body"].read() == b"mine"
    s3.delete_object(Bucket=bucket, Key="mine")
    formation.delete_stack(StackName=BYSTANDER)


@pytest.mark.usefixtures("bystander")
def test_the_journey_is_walked_measured_reported_and_removed(account: Cloud, shapes: Path) -> None:
    with demo(account, shapes) as running:
        code = running.end()
    assert code == 0, running.text
    assert "It costs about $" in running.text
    assert "Validation accuracy" in running.text
    document = newest_report(account)
    assert document["error"] is None
    assert document["left"] == []
    assert document["region"] == "us-east-1"
    titles = [step["step"] for step in document["steps"]]
    assert titles == [
        *("Pictures", "Stack", "Upload", "Packing", "Training", "Endpoint", "Measuring"),
        *("Answers", "Checks", "Removal"),
    ]
    outcomes = {check["what"]: check["outcome"] for check in document["checks"]}
    assert "failed" not in outcomes.values()
    for kept in (
        "the template deploys",
        "each picture is answered once",
        "single pictures are answered",
        "dead-letter queues are empty",
        "after removal: buckets",
        "after removal: endpoints",
        "after removal: code in sam's bucket",
    ):
        assert outcomes[kept] == "passed", kept
    # The local cloud keeps no metrics of its services: that is not taken for a promise kept.
    unknown = {what for what, outcome in outcomes.items() if outcome == "unknown"}
    assert "the endpoint's cold start is in CloudWatch" in unknown
    assert any(what.startswith("CloudWatch has the metrics of") for what in unknown)
    measured = {one["what"]: one["value"] for one in document["measures"]}
    for figure in (
        "image build, BatchPrepImage",
        "packing job, running",
        "training job, running",
        "first answer",
        "event delay, picture to result, p95",
        "serverless answer, warm, p50",
        "picture to result, warm, p95",
    ):
        assert measured[figure] >= 0, figure
    page = max(reports(account)).with_suffix(".md").read_text("utf-8")
    for text in (page, json.dumps(document)):
        assert "000000000000" not in text
        assert "arn:aws" not in text
    assert_nothing_is_left(account, running.stack)


def being_made(cloud: Cloud, running: Demo) -> None:
    """Wait until CloudFormation is making the stack. The demo shows sam's newest line now and
    then, so that none of them is sure to be seen."""
    running.until("Stack: starting")
    status = partial(stack_status, cloud, running.stack)
    cloud.eventually(lambda: status() == "CREATE_IN_PROGRESS" or None, "a stack that is made")


def in_training(_: Cloud, running: Demo) -> None:
    running.until("Training:")


@pytest.mark.parametrize("moment", [being_made, pytest.param(in_training, marks=pytest.mark.long)])
def test_ctrl_c_removes_all_and_a_second_one_only_warns(
    account: Cloud, shapes: Path, moment: Callable[[Cloud, Demo], None]
) -> None:
    with demo(account, shapes) as running:
        moment(account, running)
        running.interrupt()
        running.until("Removal: listing")
        running.interrupt()
        code = running.end()
    assert code != 0
    assert "The removal goes on" in running.text
    assert f"REMOVE={running.stack}" in running.text
    assert f"nothing is left of {running.stack}" in running.text
    assert "Traceback" not in running.text
    document = newest_report(account)
    assert document["error"] == "stopped by its user"
    assert document["left"] == []
    assert_nothing_is_left(account, running.stack)


@pytest.mark.long
def test_a_deployment_that_fails_says_why_and_is_removed(
    clouds: Callable[..., Cloud], shapes: Path, tmp_path: Path
) -> None:
    # No image was built before, and none can be: pip may look nowhere.
    cloud = clouds(
        deployed=False,
        DROPLENS_IMAGES=str(tmp_path / "images"),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="",
    )
    cloud.environment |= cloud.keys | {"ACCOUNT_CONFIG": str(tmp_path / "none.toml")}
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):  # sam build may look where it always does
        cloud.environment.pop(name)
        if name in os.environ:
            cloud.environment[name] = os.environ[name]
    with demo(cloud, shapes) as running:
        code = running.end()
    assert code != 0
    assert "the stack could not be made: BatchPrepImage (Custom::ContainerImage)" in running.text
    assert "No matching distribution" in running.text
    assert f"nothing is left of {running.stack}" in running.text
    assert "Traceback" not in running.text
    document = newest_report(cloud)
    assert "No matching distribution" in document["error"]
    assert [step["step"] for step in document["steps"] if step["failed"]] == ["Stack"]
    assert document["left"] == []
    assert_nothing_is_left(cloud, running.stack)


def test_nobody_to_ask_and_nobody_who_agreed_means_that_nothing_is_made(
    account: Cloud, shapes: Path
) -> None:
    with demo(account, shapes, YES="") as running:
        code = running.end()
    assert code != 0
    assert "no terminal to ask at" in running.text
    assert "YES=1" in running.text
    assert stack_status(account, running.stack) == ""
