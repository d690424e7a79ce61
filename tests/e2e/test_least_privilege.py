"""The whole journey with each function and job under its own role, and nobody turned away."""

import json
from typing import Any

import pytest

from tests.support.deployed_cloud import Cloud
from tests.support.drawn_images import drawing

FUNCTIONS = {
    "build-images",
    "prepare-dataset",
    "start-training",
    "deploy-endpoint",
    "promote-endpoint",
    "rollback",
    "resume-runs",
    "pause-endpoint",
    "classify-image",
    "report-failure",
}
REFUSED = ("AccessDenied", "not authorized to perform")


def lines(cloud: Cloud, group: str) -> list[str]:
    pages = cloud.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


@pytest.mark.usefixtures("live_patterns")
def test_every_function_does_its_work_and_is_refused_nothing(cloud: Cloud) -> None:
    cloud.put("input/patterns/privilege.jpg", drawing("rings", 41))
    cloud.result("results/patterns/privilege.jpg.json")
    cloud.put("datasets/single/rings/1.jpg", drawing("rings", 1))
    cloud.put("datasets/single/_READY", b"")
    assert cloud.ended_run("single")["status"] == "failed"
    answer = cloud.client("lambda").invoke(
        FunctionName=cloud.outputs["RollbackFunctionName"],
        Payload=json.dumps({"classifier": "single"}),
    )
    assert "no live model" in answer["Payload"].read().decode("utf-8")

    answer = cloud.client("lambda").invoke(
        FunctionName=cloud.outputs["ResumeFunctionName"],
        Payload=json.dumps({"source": "aws.events"}),
    )
    assert json.load(answer["Payload"]) == {"tried": []}

    missing = {"detail-type": "Endpoint Missing", "detail": {"classifier": "patterns"}}
    answer = cloud.client("lambda").invoke(
        FunctionName="droplens-pause-endpoint", Payload=json.dumps(missing)
    )
    assert json.load(answer["Payload"]) == {"resumed": None}

    def heard() -> dict[str, list[str]] | None:
        said = {name: lines(cloud, f"/aws/lambda/droplens-{name}") for name in FUNCTIONS}
        return said if all(said.values()) else None

    said: dict[str, list[str]] = cloud.eventually(heard, "a word of every function")
    refused = {name: [it for it in said[name] if any(no in it for no in REFUSED)] for name in said}
    assert refused == {name: [] for name in FUNCTIONS}


def test_the_functions_are_those_of_the_stack(cloud: Cloud) -> None:
    found: list[dict[str, Any]] = cloud.client("lambda").list_functions()["Functions"]
    names = {one["FunctionName"] for one in found}
    assert names == {f"droplens-{name}" for name in FUNCTIONS}
    assert len({one["Role"] for one in found}) == len(names)
