"""The dashboard shows metrics that exist, of this stack only."""

import json
from typing import Any

import pytest

from droplens.domain.run import Status
from tests.support.alarms import COUNTED
from tests.support.expanded_template import REGION, STACK, Stack

# Droplens' metrics that no alarm watches.
SHOWN_ONLY = {"PictureClassified", "RunLive", "RunRefused", "RunWaiting", "MeasuredAccuracy"}


@pytest.fixture(scope="module")
def widgets(stack: Stack) -> list[dict[str, Any]]:
    """The dashboard's pictures, as CloudWatch reads them."""
    return list(json.loads(stack.properties("Dashboard")["DashboardBody"])["widgets"])


@pytest.fixture(scope="module")
def shown(widgets: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """Namespace, name, dimension and its value of each metric."""
    found = [full_names(metric_rows(widget)) for widget in widgets]
    return {metric for metrics in found for metric in metrics}


def metric_rows(widget: dict[str, Any]) -> list[list[Any]]:
    """The rows of a widget that name a metric."""
    return [row for row in widget["properties"]["metrics"] if isinstance(row[0], str)]


def full_names(rows: list[list[Any]]) -> list[tuple[str, ...]]:
    """Rows of a widget with what they leave out: "." is the part above, "..." all parts before.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
    """
    found: list[tuple[str, ...]] = []
    for row in rows:
        parts = [part for part in row if isinstance(part, str)]
        above = found[-1] if found else ()
        if parts[0] == "...":
            parts = [*above[: 1 - len(parts)], *parts[1:]]
        found.append(tuple(above[at] if part == "." else part for at, part in enumerate(parts)))
    return found


def test_its_name_is_the_stack_s_and_the_region_s(stack: Stack) -> None:
    assert stack.properties("Dashboard")["DashboardName"] == f"{STACK}-{REGION}"


def test_all_that_droplens_counts_is_shown_under_the_stack_s_name(
    shown: set[tuple[str, ...]],
) -> None:
    own = {metric for metric in shown if metric[0] == "Droplens"}
    assert own == {("Droplens", name, "service", STACK) for name in COUNTED | SHOWN_ONLY}
    outcomes = {f"Run{status.value.capitalize()}" for status in Status}
    assert {metric[1] for metric in own if metric[1].startswith("Run")} <= outcomes


def test_probability_and_live_accuracy_are_searched_for_by_classifier(
    stack: Stack, widgets: list[dict[str, Any]]
) -> None:
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html
    expressions = [
        part["expression"]
        for widget in widgets
        for row in widget["properties"]["metrics"]
        for part in row
        if isinstance(part, dict) and "expression" in part
    ]
    schema = "{Droplens,service,classifier}"
    assert expressions == [
        f"""SEARCH('{schema} service="{STACK}" MetricName="{name}"', 'Average')"""
        for name in ("PredictionProbability", "LiveAccuracy")
    ]


def test_every_queue_and_every_function_is_shown(stack: Stack, shown: set[tuple[str, ...]]) -> None:
    depth = "ApproximateNumberOfMessagesVisible"
    for queue in stack.of_type("AWS::SQS::Queue"):
        assert ("AWS/SQS", depth, "QueueName", stack.attribute(queue, "QueueName")) in shown
    for function in stack.of_type("AWS::Lambda::Function"):
        for metric in ("Errors", "Throttles"):
            assert ("AWS/Lambda", metric, "FunctionName", str(stack.ref(function))) in shown


def test_the_dashboard_is_free_of_charge(
    widgets: list[dict[str, Any]], shown: set[tuple[str, ...]]
) -> None:
    # https://aws.amazon.com/cloudwatch/pricing/: three dashboards of at most 50 metrics
    assert len(shown) <= 50
    assert {widget["properties"]["region"] for widget in widgets} == {REGION}
