"""The whole journey with each function and job under its own role, and nobody turned away."""

import json
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.e2e.conftest import Cloud
from tests.e2e.drawn import drawing

FUNCTIONS = {
    "prepare-dataset",
    "start-training",
    "deploy-endpoint",
    "promote-endpoint",
    "rollback",
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


def test_a_stack_s_name_that_could_be_taken_for_another_s_is_refused(
    cloud: Cloud, repo_root: Path
) -> None:
    written = yaml_parse((repo_root / "template.yaml").read_text("utf-8"))
    guard = ("StackNameMustHoldSingleHyphensOnly", "NeverSignalled")
    template = {
        "Conditions": {"NameIsAmbiguous": written["Conditions"]["NameIsAmbiguous"]},
        "Resources": {
            "Topic": {"Type": "AWS::SNS::Topic"},
            **{name: written["Resources"][name] for name in guard},
        },
    }
    cloudformation = cloud.client("cloudformation")

    def end_of(name: str) -> str:
        cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))

        def ended() -> str | None:
            [found] = cloudformation.describe_stacks(StackName=name)["Stacks"]
            return None if found["StackStatus"].endswith("IN_PROGRESS") else found["StackStatus"]

        return str(cloud.eventually(ended, f"the stack {name}"))

    assert end_of("droplens-other") == "CREATE_COMPLETE"
    assert end_of("droplens--other") == "ROLLBACK_COMPLETE"
    told = cloudformation.describe_stack_events(StackName="droplens--other")["StackEvents"]
    failed = {it["LogicalResourceId"] for it in told if it["ResourceStatus"] == "CREATE_FAILED"}
    assert guard[0] in failed
    for name in ("droplens-other", "droplens--other"):
        cloudformation.delete_stack(StackName=name)
