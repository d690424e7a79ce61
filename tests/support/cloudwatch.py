"""A small CloudWatch: metrics from the output of functions, and alarms evaluated on them."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import fmean, median
from typing import Any

Metric = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name and dimensions."""

STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Average": fmean,
    "Maximum": max,
    "p50": median,
}
UNITS = {"Count", "Milliseconds", "Percent"}


def printed(output: str) -> dict[Metric, list[float]]:
    """The values of every metric in lines of the embedded metric format.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    found: dict[Metric, list[float]] = defaultdict(list)
    for line in output.splitlines():
        if '"_aws"' not in line:
            continue
        told = json.loads(line)
        for directive in told["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                assert metric["Unit"] in UNITS
                for names in directive["Dimensions"]:
                    dimensions = tuple(sorted((name, told[name]) for name in names))
                    key = (directive["Namespace"], metric["Name"], dimensions)
                    found[key] += told[metric["Name"]]
    return dict(found)


def watched(alarm: Mapping[str, Any]) -> Metric:
    """The metric that an alarm looks at."""
    dimensions = tuple(sorted((one["Name"], one["Value"]) for one in alarm["Dimensions"]))
    return (alarm["Namespace"], alarm["MetricName"], dimensions)


def goes_off(alarm: Mapping[str, Any], metrics: Mapping[Metric, list[float]]) -> bool:
    """Whether the alarm goes off if each of its periods is like this one."""
    values = metrics.get(watched(alarm))
    if not values:
        assert alarm["TreatMissingData"] == "notBreaching"
        return False
    statistic = STATISTICS[alarm.get("Statistic") or alarm["ExtendedStatistic"]]
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    return bool(statistic(values) > alarm["Threshold"])
