"""What preflight asks to be allowed covers what the template makes, and is what IAM knows."""

import fnmatch
import json
import re
from pathlib import Path
from typing import Any

import pytest
from policy_sentry.querying.actions import get_action_data

from droplens_cli.preflight import permissions, policy
from droplens_cli.preflight.chosen import chosen
from tests.support.expanded_template import Stack

ROWS = permissions.table()
EVERY = [
    *((kind, row) for kind, rows in ROWS["types"].items() for row in rows),
    *(("always", row) for row in ROWS["always"]),
    *(("preflight", row) for row in ROWS["preflight"]),
]
# AWS SAM Developer Guide has the deploying identity allowed this; the Service Authorization
# Reference does not list a transform among the action's resources.
TRANSFORM = ":transform/Serverless-"


def test_every_type_of_resource_has_its_actions(stack: Stack, written: dict[str, Any]) -> None:
    """A type that is new in the template, or in what SAM makes of it, needs a row."""
    made = {resource["Type"] for resource in stack.template["Resources"].values()}
    assert made <= ROWS["types"].keys()
    types = {resource["Type"] for resource in written["Resources"].values()}
    assert permissions.types_made(types, ROWS) == made
    assert ROWS["types"].keys() == made, "a row that the template needs no more"


def test_what_is_not_made_needs_no_rights() -> None:
    def types(**given: str) -> set[str]:
        return chosen(given, "droplens").resource_types

    assert "AWS::EC2::VPC" in types()
    assert "AWS::EC2::VPC" not in types(SubnetIds="subnet-1", SecurityGroupIds="sg-1")
    assert "AWS::Budgets::Budget" not in types()
    assert "AWS::Budgets::Budget" in types(MonthlyBudgetUsd="10", NotificationEmail="a@example.org")


@pytest.mark.parametrize(("kind", "row"), EVERY, ids=[f"{k}-{r['resource']}" for k, r in EVERY])
def test_every_action_exists_and_knows_resources_of_that_form(
    kind: str, row: dict[str, Any]
) -> None:
    for action in row["actions"]:
        prefix, name = action.split(":")
        known = get_action_data(prefix, name)
        assert known, f"{kind}: IAM has no action {action}"
        forms = {entry["resource_arn_format"] for entry in known[prefix]}
        if row["resource"] == "*":
            assert "*" in forms, f"{kind}: {action} is allowed on a resource, not on *"
        elif TRANSFORM not in row["resource"]:
            ours = re.sub(r"\$\{\w+\}|\*", "x", row["resource"])
            patterns = [re.sub(r"\$\{\w+\}", "*", form) for form in forms if form != "*"]
            assert any(fnmatch.fnmatchcase(ours, one) for one in patterns), f"{action}: {forms}"


def test_names_that_the_template_gives_match_the_rows(stack: Stack) -> None:
    """A row's pattern that no resource of the template has would allow, and simulate, nothing."""
    named = {
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Batch::JobQueue": "JobQueueName",
        "AWS::CodeBuild::Project": "Name",
        "AWS::CloudWatch::Dashboard": "DashboardName",
    }
    for kind, key in named.items():
        for properties in stack.of_type(kind).values():
            name = properties[key]
            patterns = [
                row["resource"]
                .replace("${Stack}", stack.name)
                .replace("${Region}", stack.region)
                .replace("${Account}", "1")
                for row in ROWS["types"][kind]
            ]
            assert any(
                fnmatch.fnmatchcase(name, re.split(r"[/:]", one, maxsplit=6)[-1])
                for one in patterns
            ), f"{kind} {name}: {patterns}"


def test_the_deployer_s_policy_is_that_of_the_table(repo_root: Path) -> None:
    """make deployer-policy writes it anew."""
    kept = json.loads((repo_root / "docs/deployer-policy.json").read_text("utf-8"))
    assert kept == policy.policy()


def test_the_deployer_s_policy_fits_a_role_and_gives_away_nothing() -> None:
    document = policy.policy()
    # IAM and STS quotas: 10,240 characters without white space for a role's inline policies.
    assert len(json.dumps(document, separators=(",", ":"))) <= 10_240
    for statement in document["Statement"]:
        assert not [action for action in statement["Action"] if "*" in action]
        if "iam:PassRole" in statement["Action"]:
            assert "iam:PassedToService" in statement["Condition"]["StringEquals"]
        if statement["Resource"] == "*":
            reads = re.compile(
                r":(Describe|Get|List|Simulate)|lambda:CreateEventSourceMapping|sns:Unsub"
            )
            assert not [action for action in statement["Action"] if not reads.search(action)]
