"""Two stacks in one account, one called like the other's beginning, keep to their own."""

import json
import re
from itertools import permutations
from typing import Any

import pytest

from tests.support.expanded_template import OWN_NAME, Stack, matches

OTHER = "droplens-dev"


@pytest.fixture(scope="module")
def other(stack: Stack) -> Stack:
    """The same template, deployed once more."""
    return Stack(stack.template, name=OTHER)


def woken(stack: Stack, event: dict[str, Any]) -> set[str]:
    return {name for name, pattern in stack.patterns().items() if matches(pattern, event)}


def test_the_other_s_events_wake_nobody(
    stack: Stack, other: Stack, events: dict[str, dict[str, Any]]
) -> None:
    some = False
    for event in events.values():
        moved = json.loads(re.sub(r"\bdroplens(?=-)", OTHER, json.dumps(event)))
        assert woken(other, moved) == woken(stack, event)
        if moved != event:
            assert woken(stack, moved) == woken(other, event) == set()
            some = some or woken(stack, event) != set()
    assert some


@pytest.mark.parametrize(
    ("name", "deployed"),
    [
        ("droplens", True),
        ("droplens-dev", True),
        ("a-b-c", True),
        ("droplens--dev", False),
        ("droplens---dev", False),
        ("droplens-", False),
        ("droplens--", False),
    ],
)
def test_a_stack_that_could_be_taken_for_another_cannot_be_deployed(
    stack: Stack, name: str, deployed: bool
) -> None:
    queue = Stack(stack.template, name=name).properties("JobQueue")["JobQueueName"]
    # https://docs.aws.amazon.com/batch/latest/APIReference/API_CreateJobQueue.html
    assert bool(re.fullmatch(r"[A-Za-z0-9][\w-]{0,127}", queue, re.ASCII)) == deployed
    if deployed:
        assert queue == f"{name}-packing"


def given_names(stack: Stack) -> dict[str, set[str]]:
    """The names that the template itself gives, by the type of what is called so."""
    found: dict[str, set[str]] = {}
    for logical, resource in stack.template["Resources"].items():
        for key in OWN_NAME:
            if key in resource.get("Properties", {}):
                name = stack.properties(logical)[key]
                found.setdefault(resource["Type"], set()).add(name)
    return found


def test_no_name_given_by_the_template_is_the_other_s(stack: Stack, other: Stack) -> None:
    theirs = given_names(other)
    for kind, names in given_names(stack).items():
        assert not names & theirs[kind]
        assert all(stack.name in name for name in names)


def test_no_other_stack_s_name_makes_two_names_equal(stack: Stack) -> None:
    """As they would, were there a function `dataset` beside `prepare-dataset`."""
    for names in given_names(stack).values():
        ends = [name.partition(stack.name)[2] for name in names]
        assert not [(one, two) for one, two in permutations(ends, 2) if one.endswith(two)]


# Names that a property refers to, or that stand for something else than the resource.
NOT_ITS_OWN = {
    "AttributeName",
    "EventSourceName",
    "MetricName",
    "PolicyName",
    "ServiceName",
    "UserName",
}


def test_there_is_no_other_property_that_names_a_resource(stack: Stack) -> None:
    """Whatever has no name of the template's gets a unique one from CloudFormation."""
    found = {
        key
        for resource in stack.template["Resources"].values()
        for key in resource.get("Properties", {})
        if key.endswith("Name")
    }
    assert found <= {*OWN_NAME, *NOT_ITS_OWN}
