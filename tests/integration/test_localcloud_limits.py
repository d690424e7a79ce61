"""What AWS refuses, the local cloud refuses too: of what MiniStack serves by itself."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.localcloud_support import Cloud, eventually

FIVE_WILDCARDS = {
    "detail": {"object": {"key": [{"wildcard": f"datasets/*{end}"} for end in "abcde"]}}
}


def refused(call: Any, **request: Any) -> tuple[str, str]:
    """The (code, message) of the error that the call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_rule_whose_pattern_is_too_complex_is_refused(cloud: Cloud) -> None:
    events = cloud.client("events")
    code, message = refused(
        events.put_rule, Name="complex", EventPattern=json.dumps(FIVE_WILDCARDS)
    )
    assert code == "InvalidEventPatternException"
    assert message.startswith("Rule is too complex - try using fewer wildcard characters")
    assert events.list_rules(NamePrefix="complex")["Rules"] == []


def test_a_stack_with_such_a_rule_rolls_back(cloud: Cloud) -> None:
    formation = cloud.client("cloudformation")
    rule = {"Type": "AWS::Events::Rule", "Properties": {"EventPattern": FIVE_WILDCARDS}}
    formation.create_stack(
        StackName="complex", TemplateBody=json.dumps({"Resources": {"Rule": rule}})
    )

    def failed() -> list[str]:
        events = formation.describe_stack_events(StackName="complex")["StackEvents"]
        return [
            one.get("ResourceStatusReason", "")
            for one in events
            if "FAILED" in one["ResourceStatus"]
        ]

    assert any("Rule is too complex" in reason for reason in eventually("a failure", failed))


def test_a_pattern_that_is_longer_than_a_new_account_may_have_is_refused(cloud: Cloud) -> None:
    pattern = {"source": ["x" * 2048]}
    code, message = refused(
        cloud.client("events").put_rule, Name="long", EventPattern=json.dumps(pattern)
    )
    assert (code, "2048" in message) == ("LimitExceededException", True)


def test_an_operator_that_eventbridge_does_not_know_is_refused(cloud: Cloud) -> None:
    pattern = {"source": [{"endswith": ".zip"}]}
    code, message = refused(
        cloud.client("events").put_rule, Name="unknown", EventPattern=json.dumps(pattern)
    )
    assert code == "InvalidEventPatternException"
    assert "endswith" in message
