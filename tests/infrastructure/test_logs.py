"""Whoever reads the logs finds a run by its id and a picture by its key: real handlers' lines."""

import dataclasses
import json
from collections.abc import Callable
from io import StringIO
from types import ModuleType
from typing import Any

import pytest

from droplens.aws.tags import tag_list
from droplens.domain.run import RunKey, Status
from droplens.runtime import telemetry
from droplens.runtime.telemetry import logger
from droplens.runtime.tracing import tracer
from droplens.state.cards import Cards
from tests.support.aws_account import Cloud
from tests.support.aws_fakes import FakeRuntime, refusal
from tests.support.builders import IMAGE, card, go_live, jpeg, model_data, pack, redness
from tests.support.deployed_functions import (
    RECORDED_RUN,
    Context,
    dropped,
    of_run,
    stored_picture,
)
from tests.support.expanded_template import BUCKET

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

RUN = RunKey("cars", RECORDED_RUN)
Load = Callable[[str], ModuleType]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The log lines since the last look."""
    output = StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", output)

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in output.getvalue().splitlines()]
        output.seek(0)
        output.truncate()
        return found

    return lines


def test_every_line_of_every_step_tells_its_run(
    deployed: Cloud,
    load: Load,
    events: dict[str, Any],
    lines: Lines,
) -> None:
    def handled(name: str, event: dict[str, Any]) -> None:
        """The event comes twice, as events do."""
        for number in range(2):
            load(name).handler(event, Context(f"{name}-{number}"))
        told = lines()
        assert told, name
        for line in told:
            assert (line["classifier"], line["run_id"]) == (run.classifier, run.run_id), line
            assert line["correlation_id"] == run.run_id
            assert line["service"] == telemetry.SERVICE
            assert line["function_request_id"].startswith(name)

    marker = dropped(deployed, events["s3-dataset-marker"], b"")
    first = load("PrepareDataset").handler(marker, Context("first"))
    run = RunKey(**first["run"])
    lines()
    handled("PrepareDataset", marker)
    pack(deployed, run)
    deployed.runs().note(run, batch_job_id=events["batch-succeeded"]["detail"]["jobId"])
    handled("StartTraining", of_run(events["batch-succeeded"], run.run_id))
    [job] = deployed.sagemaker.jobs.values()
    job["ModelArtifacts"] = {"S3ModelArtifacts": model_data(run, BUCKET)}
    handled("DeployEndpoint", of_run(events["training-completed"], run.run_id))
    deployed.runs().note(run, image_size=64)
    handled("PromoteEndpoint", of_run(events["endpoint-in-service"], run.run_id))
    [(_, switched)] = deployed.functions.invoked
    handled("PromoteEndpoint", switched)


@pytest.mark.parametrize("name", ["batch-failed", "training-failed", "endpoint-failed"])
def test_every_line_of_a_failure_tells_its_run(
    deployed: Cloud,
    load: Load,
    events: dict[str, Any],
    lines: Lines,
    name: str,
) -> None:
    deployed.runs().open(RUN, {"version": "v"})
    event = events[name]
    for resource in event["resources"]:
        deployed.sagemaker.tags[resource] = tag_list(RUN)
    if name == "training-failed":
        deployed.sagemaker.jobs[event["detail"]["TrainingJobName"]] = {"FailureReason": "no"}
    load("ReportFailure").handler(event, Context("request"))
    told = lines()
    assert "run ended" in [line["message"] for line in told]
    for line in told:
        assert (line["classifier"], line["run_id"]) == (RUN.classifier, RUN.run_id)


def test_a_rollback_tells_the_run_that_comes_back(
    deployed: Cloud,
    load: Load,
    lines: Lines,
) -> None:
    newer = RunKey("cars", "20261123-120000-610e99")
    app = load("Rollback")
    for run in (RUN, newer):
        deployed.runs().open(run, {"version": "v"})
        deployed.runs().note(
            run, endpoint=f"e-{run.run_id}", image=IMAGE, model_data=model_data(run, BUCKET)
        )
        deployed.runs().end(run, Status.LIVE)
        go_live(Cards(deployed.bucket), card(run.run_id))
    app.handler({"classifier": "cars"}, Context("request"))
    told = lines()
    assert told
    assert {line["run_id"] for line in told} == {RUN.run_id}


def test_every_line_of_a_picture_tells_its_key_and_the_answer_its_run(
    deployed: Cloud,
    classify_image: ModuleType,
    events: dict[str, Any],
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classify_image.BACKOFF, "hide", lambda *_: None)
    [message] = events["sqs-picture-batch"]["Records"]

    def handle(**bodies: bytes | None) -> dict[str, dict[str, Any]]:
        records = []
        for number, (name, body) in enumerate(bodies.items()):
            key = f"input/cars/{name}.jpg"
            event = stored_picture(deployed, events["s3-picture"], key, body or b"")
            if body is None:
                deployed.s3.delete_object(Bucket=deployed.bucket.name, Key=key)
            records.append({**message, "messageId": str(number), "body": json.dumps(event)})
        classify_image.handler({"Records": records}, Context("request"))
        return {line["key"]: line for line in lines()}

    told = handle(good=jpeg(), bad=b"no picture", gone=None)
    said = {key.removeprefix("input/cars/"): line["message"] for key, line in told.items()}
    assert said == {
        "good.jpg": "picture classified",
        "bad.jpg": "picture rejected",
        "gone.jpg": "picture no longer exists",
    }
    assert told["input/cars/bad.jpg"]["code"] == "image.unreadable"
    for name in ("good", "bad"):
        assert told[f"input/cars/{name}.jpg"]["run_id"] == RECORDED_RUN

    error = refusal("ThrottlingException", "InvokeEndpoint")
    throttled = dataclasses.replace(
        classify_image.CLASSIFICATION, runtime=FakeRuntime(redness, error=error)
    )
    monkeypatch.setattr(classify_image, "CLASSIFICATION", throttled)
    [line] = handle(later=jpeg()).values()
    assert (line["level"], line["message"]) == ("WARNING", "picture will be retried")
    assert "ThrottlingException" in line["exception"]


def test_a_picture_that_waits_tells_its_key(
    deployed: Cloud,
    load: Load,
    events: dict[str, Any],
    lines: Lines,
) -> None:
    deployed.runs().open(RUN, {"version": "v"})
    app = load("ClassifyImage")
    [message] = events["sqs-picture-batch"]["Records"]
    message["body"] = json.dumps(
        stored_picture(deployed, events["s3-picture"], "input/cars/a.jpg", b".")
    )
    for status in (None, Status.FAILED):
        if status:
            deployed.runs().end(RUN, status)
        app.handler({"Records": [message]}, Context("request"))
    waits, stranded = lines()
    assert waits["key"] == stranded["key"] == "input/cars/a.jpg"
    assert (waits["level"], stranded["level"]) == ("INFO", "WARNING")


def test_a_trace_is_annotated_with_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracer.put_annotation in telemetry.annotators
    annotated: dict[str, str] = {}
    monkeypatch.setattr(telemetry, "annotators", [annotated.__setitem__])
    telemetry.follow(RUN)
    assert annotated == RUN.as_key()
