"""What users of the template rely on changes on purpose only."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.expanded_template import Stack
from tools.template_interface import interface

STATEFUL = {"AWS::S3::Bucket", "AWS::DynamoDB::Table"}


def test_parameters_and_outputs_are_those_that_users_know(
    written: dict[str, Any], repo_root: Path
) -> None:
    frozen = json.loads((repo_root / "tests/infrastructure/interface.json").read_text("utf-8"))
    assert interface(written) == frozen, (
        "template.yaml's parameters or outputs changed. Where that is meant: make freeze-interface"
    )


@pytest.mark.parametrize("change", ["removed", "default"])
def test_a_changed_parameter_is_noticed(written: dict[str, Any], change: str) -> None:
    parameters = dict(written["Parameters"])
    if change == "removed":
        del parameters["Epochs"]
    else:
        parameters["Epochs"] = {**parameters["Epochs"], "Default": 31}
    assert interface({**written, "Parameters": parameters}) != interface(written)


def test_what_holds_data_is_kept_by_updates_and_deletion(stack: Stack) -> None:
    holding = {
        name: resource
        for name, resource in stack.template["Resources"].items()
        if resource["Type"] in STATEFUL
    }
    assert {resource["Type"] for resource in holding.values()} == STATEFUL
    for name, resource in holding.items():
        policies = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        assert policies == ("RetainExceptOnCreate", "Retain"), name
