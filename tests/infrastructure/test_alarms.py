"""Alarms look at metrics that exist, and say what to do."""

import json
import math
from typing import Any

import pytest

from droplens.classify.drift import expected_share
from tests.support.alarms import ALARMS, COUNTED
from tests.support.cloudwatch import Metric, all_watched, goes_off
from tests.support.expanded_template import STACK, Stack, matches

ESSENTIAL = ALARMS[:7]


def test_there_are_no_other_alarms_and_each_is_reported(
    stack: Stack, events: dict[str, dict[str, Any]]
) -> None:
    pattern = stack.properties("ReportFailureAlarmRaised")["EventPattern"]
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    assert sorted(alarms) == sorted(ALARMS)
    raised = events["alarm-raised"]
    for name, alarm in alarms.items():
        assert alarm["AlarmName"] == f"{STACK}--{name}"
        raised["detail"]["alarmName"] = alarm["AlarmName"]
        assert matches(pattern, raised)


def test_the_essential_ones_are_fewer_and_without_a_dashboard(stack: Stack) -> None:
    fewer = Stack(stack.template, parameters={"Monitoring": "essential"})
    assert sorted(fewer.of_type("AWS::CloudWatch::Alarm")) == sorted(ESSENTIAL)
    assert fewer.of_type("AWS::CloudWatch::Dashboard") == {}
    assert len(stack.of_type("AWS::CloudWatch::Dashboard")) == 1


@pytest.mark.parametrize("name", ALARMS)
def test_silence_is_no_alarm_and_an_alarm_says_what_it_means(stack: Stack, name: str) -> None:
    alarm = stack.properties(name)
    assert alarm["TreatMissingData"] == "notBreaching"
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    assert alarm["AlarmDescription"].endswith(f" docs/operations.md, {name}.")
    assert "AlarmActions" not in alarm  # the topic's key would let none of them through


@pytest.mark.parametrize(
    ("name", "queue", "metric", "above"),
    [
        ("PicturesGivenUp", "PictureDlq", "ApproximateNumberOfMessagesVisible", 0),
        ("EventsGivenUp", "EventDlq", "ApproximateNumberOfMessagesVisible", 0),
        ("PicturesWaitLong", "PictureQueue", "ApproximateAgeOfOldestMessage", 3600),
    ],
)
def test_a_queue_is_watched(stack: Stack, name: str, queue: str, metric: str, above: int) -> None:
    alarm = stack.properties(name)
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", metric)
    [dimension] = alarm["Dimensions"]
    assert dimension == {"Name": "QueueName", "Value": stack.attribute(queue, "QueueName")}
    assert (alarm["Statistic"], alarm["Threshold"]) == ("Maximum", above)


def test_our_own_metrics_are_watched_under_the_stack_s_name(stack: Stack) -> None:
    watched = [
        metric
        for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()
        for metric in all_watched(alarm)
    ]
    own = [(name, dimensions) for space, name, dimensions in watched if space == "Droplens"]
    assert {name for name, _ in own} == COUNTED
    assert {dimensions for _, dimensions in own} == {(("service", STACK),)}


def test_the_share_of_rejected_pictures_is_an_average(stack: Stack) -> None:
    alarm: dict[str, Any] = stack.properties("PicturesMostlyRejected")
    assert (alarm["Statistic"], alarm["Threshold"]) == ("Average", 0.2)
    assert alarm["EvaluationPeriods"] > 1


UNFAMILIAR: Metric = ("Droplens", "PictureUnfamiliar", (("service", STACK),))
EXPECTED: Metric = ("Droplens", "UnfamiliarExpected", (("service", STACK),))


def unfamiliar_raised(stack: Stack, unfamiliar: int, pictures: int, expected: float) -> bool:
    """Whether PicturesUnfamiliar goes off on a day with so many pictures."""
    values = [1.0] * unfamiliar + [0.0] * (pictures - unfamiliar)
    metrics = {UNFAMILIAR: values, EXPECTED: [expected] * pictures}
    return goes_off(stack.properties("PicturesUnfamiliar"), metrics)


@pytest.mark.parametrize(
    ("unfamiliar", "pictures", "expected", "raised"),
    [
        (99, 99, 0.01, False),  # too few pictures
        (100, 100, 0.01, True),
        (5, 100, 0.01, False),
        (6, 100, 0.01, True),
        (50, 1000, 0.05, False),
        (79, 1000, 0.05, True),
        (0, 1000, 0.0, False),
    ],
)
def test_unfamiliar_pictures_raise_the_alarm_beyond_what_was_expected(
    stack: Stack, unfamiliar: int, pictures: int, expected: float, raised: bool
) -> None:
    assert unfamiliar_raised(stack, unfamiliar, pictures, expected) is raised


def probabilities(count: int, share: float) -> list[float]:
    """The binomial distribution of `count` draws."""
    return [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("validation", [30, 100, 400])
@pytest.mark.parametrize("pictures", [100, 300])
def test_pictures_like_the_dataset_s_seldom_raise_it(
    stack: Stack, share: float, validation: int, pictures: int
) -> None:
    """Over all that a validation of so many pictures may show, and all that a day may bring."""
    by_count = probabilities(pictures, share)
    false_alarms = 0.0
    for shown, chance in enumerate(probabilities(validation, share)):
        if chance < 1e-9:
            continue
        expected = expected_share(shown / validation, validation)
        fewest = next(
            (
                count
                for count in range(pictures + 1)
                if unfamiliar_raised(stack, count, pictures, expected)
            ),
            pictures + 1,
        )
        false_alarms += chance * sum(by_count[fewest:])
    assert false_alarms < 1 / 200


def test_a_budget_is_asked_for_by_its_amount_and_writes_to_the_address(stack: Stack) -> None:
    assert not stack.holds({"Condition": "HasBudget"})
    asked = Stack(json.loads(json.dumps(stack.template)))
    asked.template["Parameters"]["MonthlyBudgetUsd"]["Default"] = 20
    assert asked.holds({"Condition": "HasBudget"})
    rule = asked.template["Rules"]["BudgetIsToldToSomebody"]
    assert asked.holds(rule["RuleCondition"])
    [assertion] = rule["Assertions"]
    assert not asked.holds(assertion["Assert"])
    asked.template["Parameters"]["NotificationEmail"]["Default"] = "me@example.com"
    assert asked.holds(assertion["Assert"])
    assert asked.template["Resources"]["Budget"]["Condition"] == "HasBudget"
    budget = asked.properties("Budget")
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 20, "Unit": "USD"}
    assert "CostFilters" not in budget["Budget"]
    for one in budget["NotificationsWithSubscribers"]:
        [subscriber] = one["Subscribers"]
        assert subscriber == {"SubscriptionType": "EMAIL", "Address": "me@example.com"}
