"""What a reviewer and an operator may do: by calls that are allowed and calls that are not."""

import json
from pathlib import Path

import pytest

from tests.infrastructure.people import MAY, NOBODY_MAY, PEOPLE, mine
from tests.infrastructure.policies import LARGEST
from tests.infrastructure.roles import KEY, NOBODY_MAY_WITH_KEY, unused
from tests.support.expanded_template import Stack, expanded_in, listed


@pytest.fixture(scope="module", params=["", KEY], ids=["AWS's keys", "the user's key"])
def deployed(request: pytest.FixtureRequest, stack: Stack) -> Stack:
    """The stack as it is with and without a key of the user's."""
    return Stack(stack.template, parameters={"KmsKeyArn": request.param})


def has_key(stack: Stack) -> bool:
    return stack.ref("KmsKeyArn") != ""


def test_every_managed_policy_has_a_table(deployed: Stack) -> None:
    assert sorted(deployed.of_type("AWS::IAM::ManagedPolicy")) == sorted(PEOPLE)
    assert sorted(MAY) == sorted(PEOPLE)


@pytest.mark.parametrize("policy", PEOPLE)
def test_a_person_may_do_all_of_the_table_and_nothing_of_the_other_s(
    deployed: Stack, policy: str
) -> None:
    own = mine(policy, has_key(deployed))
    others = {call for one in PEOPLE for call in mine(one, with_key=True)} - set(own)
    assert [str(call) for call in own if not call.allowed(deployed, policy)] == []
    assert [str(call) for call in others if call.allowed(deployed, policy)] == []
    near = [*NOBODY_MAY, *NOBODY_MAY_WITH_KEY]
    assert [str(call) for call in near if call.allowed(deployed, policy)] == []


@pytest.mark.parametrize("policy", PEOPLE)
def test_no_permission_is_without_use(deployed: Stack, policy: str) -> None:
    assert unused(deployed, policy, mine(policy, has_key(deployed))) == []


def test_an_operator_may_do_all_that_a_reviewer_may() -> None:
    assert set(MAY["ReviewerPolicy"]) < set(MAY["OperatorPolicy"])


@pytest.mark.parametrize("policy", PEOPLE)
def test_nothing_of_another_stack_s_is_within_reach(stack: Stack, policy: str) -> None:
    other = Stack(stack.template, name="droplens-dev")
    for call in mine(policy, with_key=False):
        if call.on(other) != call.on(stack):
            assert not call.allowed(stack, policy, of=other), str(call)
            assert call.allowed(other, policy, of=other), str(call)


@pytest.mark.parametrize("policy", PEOPLE)
def test_the_same_holds_in_every_partition(policy: str, repo_root: Path) -> None:
    for region in ("cn-north-1", "us-gov-west-1"):
        there = expanded_in(region, repo_root)
        own = mine(policy, with_key=False)
        assert [str(call) for call in own if not call.allowed(there, policy)] == []
        assert unused(there, policy, own) == []


@pytest.mark.parametrize("policy", PEOPLE)
def test_a_policy_is_attached_by_the_account_s_owner_only(deployed: Stack, policy: str) -> None:
    made = deployed.properties(policy)
    assert made.keys() == {"Description", "PolicyDocument"}
    # Two stacks cannot both make a policy of one name, and a name needs CAPABILITY_NAMED_IAM.
    for statement in made["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [one for one in listed(statement["Action"]) if "*" in one]
        assert "*" not in listed(statement["Resource"])
    output = deployed.template["Outputs"][f"{policy}Arn"]["Value"]
    assert output == {"Ref": policy}


@pytest.mark.parametrize("policy", PEOPLE)
def test_a_policy_fits_into_iam_s_quota_with_the_longest_names(stack: Stack, policy: str) -> None:
    name = "a" * 30
    long = Stack(stack.template, name=name, region="ap-northeast-1", parameters={"KmsKeyArn": KEY})
    text = json.dumps(long.properties(policy)["PolicyDocument"], separators=(",", ":"))
    # CloudFormation shortens the stack's name in a bucket's, but not below this one's.
    assert len(text) <= LARGEST - 500
