"""A small CloudWatch: metrics from the output of functions, and alarms evaluated on them."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import fmean, median
from typing import Any

from localcloud.emulator.metric_math import check_alarm, evaluate_alarm

Metric = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name and dimensions."""

STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "SampleCount": lambda values: float(len(values)),
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


def all_watched(alarm: Mapping[str, Any]) -> list[Metric]:
    """The metrics that an alarm looks at, more than one where it watches an expression."""
    if "Metrics" not in alarm:
        return [watched(alarm)]
    statistics = [query["MetricStat"] for query in alarm["Metrics"] if "MetricStat" in query]
    return list(dict.fromkeys(watched(statistic["Metric"]) for statistic in statistics))


def goes_off(alarm: Mapping[str, Any], metrics: Mapping[Metric, list[float]]) -> bool:
    """Whether the alarm goes off if each of its periods is like this one."""
    if (value := _value(alarm, metrics)) is None:
        assert alarm["TreatMissingData"] == "notBreaching"
        return False
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    return bool(value > alarm["Threshold"])


def _value(alarm: Mapping[str, Any], metrics: Mapping[Metric, list[float]]) -> float | None:
    def statistic(metric: Metric, name: str) -> float | None:
        values = metrics.get(metric)
        return STATISTICS[name](values) if values else None

    if "Metrics" not in alarm:
        return statistic(watched(alarm), alarm.get("Statistic") or alarm["ExtendedStatistic"])
    check_alarm(alarm)
    return evaluate_alarm(
        alarm["Metrics"], lambda stat: statistic(watched(stat["Metric"]), stat["Stat"])
    )
