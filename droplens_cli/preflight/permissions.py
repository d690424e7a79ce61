"""Checks, by IAM's simulation, whether the identity has the permissions for a deployment.

iam:SimulatePrincipalPolicy counts the policies of a user, its groups or a role, a permissions
boundary, and the organisation's service control policies where they have no conditions. It does not
count the policies of a session, or those of resources (IAM User Guide, "IAM policy testing with the
IAM policy simulator"). The needed actions are in actions.json, by type of resource.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from droplens_cli.preflight.account import Account, UnavailableError
from droplens_cli.preflight.chosen import Chosen
from droplens_cli.preflight.findings import Finding, State

TABLE = Path(__file__).with_name("actions.json")
WHAT = "permissions"
# Actions in one request.
CHUNK = 50
# arn:aws:sts::123456789012:assumed-role/Name/session
ASSUMED = re.compile(r"arn:[a-z-]+:sts::\d{12}:assumed-role/(?P<role>[^/]+)/.+")
PRINCIPAL = re.compile(r"arn:[a-z-]+:iam::\d{12}:(user|role)/.+")
ROOT = re.compile(r"arn:[a-z-]+:iam::\d{12}:root")


@dataclass(frozen=True, slots=True)
class Need:
    """Actions on one resource. context: condition keys with the value of this deployment."""

    actions: tuple[str, ...]
    resource: str
    context: tuple[tuple[str, str], ...]


def table() -> dict[str, Any]:
    """actions.json."""
    return dict(json.loads(TABLE.read_text("utf-8")))


def types_made(written: set[str], rows: dict[str, Any]) -> set[str]:
    """The types of resources that are created: SAM expands its own types to several."""
    return {made for kind in written for made in rows["makes"].get(kind, [kind])}


def needs(chosen: Chosen, values: dict[str, str]) -> list[Need]:
    """The permissions that the deployment needs. values: Partition, Region, Account and Stack.

    Raises KeyError for a type of resource that the table does not have.
    """
    rows = table()
    entries = list(rows["always"])
    for kind in sorted(types_made(chosen.resource_types, rows)):
        entries += rows["types"][kind]
    merged: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, None]] = {}
    for entry in entries:
        resource = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], entry["resource"])
        key = (resource, tuple(sorted(entry.get("context", {}).items())))
        merged.setdefault(key, {}).update(dict.fromkeys(entry["actions"]))
    return [
        Need(tuple(actions), resource, context) for (resource, context), actions in merged.items()
    ]


def principal(account: Account, arn: str) -> str:
    """The ARN that IAM can simulate. Raises UnavailableError where there is none.

    The ARN of a role's session lacks the role's path.
    """
    if PRINCIPAL.fullmatch(arn):
        return arn
    assumed = ASSUMED.fullmatch(arn)
    if assumed is None:
        raise UnavailableError(f"IAM does not simulate {arn}")
    try:
        response = account.call("iam", "get_role", RoleName=assumed["role"])
    except UnavailableError as error:
        raise UnavailableError(f"which role this is: {error}") from error
    return str((response or {})["Role"]["Arn"])


def findings(account: Account, chosen: Chosen, arn: str, values: dict[str, str]) -> list[Finding]:
    """One finding for each cause of a denial, and one for what was simulated without a denial."""
    if ROOT.fullmatch(arn):
        return [
            Finding(
                State.NOTE,
                WHAT,
                "the root user may do everything: AWS advises to deploy with an identity of IAM",
            )
        ]
    needed = needs(chosen, values)
    boundary = chosen["PermissionsBoundary"]
    try:
        source = principal(account, arn)
        evaluations = [
            found
            for need in needed
            for found in _simulated(account, source, need, values, boundary)
        ]
    except UnavailableError as error:
        return [Finding(State.UNKNOWN, WHAT, str(error))]
    return list(_findings_by_cause(source, evaluations))


def _simulated(
    account: Account, source: str, need: Need, values: dict[str, str], boundary: str
) -> Iterator[dict[str, Any]]:
    context = {
        "aws:RequestedRegion": values["Region"],
        "iam:PermissionsBoundary": boundary,
        **dict(need.context),
    }
    entries = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in context.items()
        if value
    ]
    # CloudFormation makes its calls as the deploying identity.
    entries.append(
        {
            "ContextKeyName": "aws:CalledVia",
            "ContextKeyValues": ["cloudformation.amazonaws.com"],
            "ContextKeyType": "stringList",
        }
    )
    for start in range(0, len(need.actions), CHUNK):
        yield from account.pages(
            "iam",
            "simulate_principal_policy",
            "EvaluationResults",
            PolicySourceArn=source,
            ActionNames=list(need.actions[start : start + CHUNK]),
            ResourceArns=[need.resource],
            ContextEntries=entries,
        )


def _findings_by_cause(source: str, evaluations: list[dict[str, Any]]) -> Iterator[Finding]:
    """One finding for each cause, with its actions."""
    causes: dict[tuple[State, str], dict[str, None]] = {}
    for one in evaluations:
        if one["EvalDecision"] == "allowed":
            continue
        organisation = one.get("OrganizationsDecisionDetail", {}).get(
            "AllowedByOrganizations", True
        )
        bounded = one.get("PermissionsBoundaryDecisionDetail", {}).get(
            "AllowedByPermissionsBoundary", True
        )
        state = State.FAILS
        if not organisation:
            cause = "a service control policy of the organisation does not allow"
        elif not bounded:
            cause = "the identity's permissions boundary does not allow"
        elif one["EvalDecision"] == "explicitDeny":
            cause = "a policy denies"
        elif one.get("MissingContextValues"):
            state = State.UNKNOWN
            cause = f"depends on {', '.join(sorted(one['MissingContextValues']))}:"
        else:
            cause = "no policy allows"
        causes.setdefault((state, cause), {})[one["EvalActionName"]] = None
    for (state, cause), actions in causes.items():
        do = ("docs/deployer-policy.json has all that is needed",) if state == State.FAILS else ()
        yield Finding(state, WHAT, f"{cause} {_listed(list(actions))}", do=do)
    if not any(state == State.FAILS for state, _ in causes):
        yield Finding(State.OK, WHAT, f"{len(evaluations)} actions of {source} simulated")


def _listed(actions: list[str], most: int = 8) -> str:
    more = len(actions) - most
    return ", ".join(actions[:most]) + (f" and {more} more" if more > 0 else "")
