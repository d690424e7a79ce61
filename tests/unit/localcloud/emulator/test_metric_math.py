"""Expressions give what CloudWatch's documentation says, and nothing that it does not define."""

from typing import Any

import pytest

from localcloud.emulator.metric_math import (
    ExpressionError,
    Series,
    check_alarm,
    evaluate,
    evaluate_alarm,
)

VALUES = {"a": Series(6.0), "b": Series(4.0), "zero": Series(0.0), "none": Series(None)}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("a + b * 2", 14),
        ("(a + b) * 2", 20),
        ("a - b - 1", 1),
        ("a / b / 3", 0.5),
        ("-a + b", -2),
        ("b ^ 0.5", 2),
        ("b ^ -1", 0.25),
        ("zero ^ -1", None),
        ("(zero - a) ^ 0.5", None),
        ("a / zero", None),
        ("a + none", 6),
        ("none + none", None),
        ("none + 1", None),
        ("a > b", 1),
        ("a <= b", 0),
        ("none < a", 1),
        ("a == 6 AND b != 6", 1),
        ("a == 5 OR b == 5", 0),
        ("a == 5 || b == 4 && a == 6", 1),
        ("IF(a > 5, 1, 2)", 1),
        ("IF(a < 5, 1, 2)", 2),
        ("IF(a < 5, b, a)", 6),
        ("IF(a < 5, b)", None),
        ("IF(a, none, b)", 0),
        ("IF(none, a, b)", None),
        ("IF(zero, a, none)", None),
        ("IF(1, a, b)", 6),
        ("IF(0, a, 3)", 3),
    ],
)
def test_an_expression_has_its_value(expression: str, value: float | None) -> None:
    assert evaluate(expression, VALUES) == Series(value)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("SQRT(a)", "'SQRT' is no Id"),
        ("if(a > 5, 1, 2)", "'if' is no Id"),
        ("c + 1", "'c' is no Id"),
        ("a +", "ends too early"),
        ("a b", "'b' is not expected"),
        ("(a", "ends too early"),
        ("a $ b", "not understood"),
        ("IF(a)", "one or two values"),
        ("IF(1, 2, 3)", "needs a time series"),
        ("1 / 0 + a", "divided by zero"),
        ("", "ends too early"),
    ],
)
def test_what_is_no_expression_is_refused(expression: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        evaluate(expression, VALUES)


def metric(name: str, **changes: Any) -> dict[str, Any]:
    statistic = {"Metric": {"Namespace": "N", "MetricName": name}, "Period": 60, "Stat": "Sum"}
    return {"Id": name, "MetricStat": {**statistic, **changes}, "ReturnData": False}


SHARE = [metric("part"), metric("whole"), {"Id": "share", "Expression": "part / whole"}]


def test_an_alarm_watches_the_expression_that_it_returns() -> None:
    values = {"part": 1.0, "whole": 4.0}

    def statistic(of: Any) -> float | None:
        return values.get(of["Metric"]["MetricName"])

    percent = [*SHARE[:2], {**SHARE[2], "ReturnData": False}]
    percent += [{"Id": "percent", "Expression": "100 * share"}]
    check_alarm({"Metrics": percent})
    assert evaluate_alarm(SHARE, statistic) == 0.25
    assert evaluate_alarm(percent, statistic) == 25
    values.clear()
    assert evaluate_alarm(SHARE, statistic) is None


@pytest.mark.parametrize(
    ("alarm", "why"),
    [
        ({"Metrics": SHARE, "Period": 60, "MetricName": "m"}, "together with MetricName, Period"),
        ({"Metrics": [{**SHARE[0], "Id": "Part"}, *SHARE[1:]]}, "lowercase"),
        ({"Metrics": [SHARE[0], *SHARE]}, "unique"),
        ({"Metrics": [{**SHARE[0], "Expression": "1"}, *SHARE[1:]]}, "either MetricStat or"),
        ({"Metrics": [{"Id": "part"}, *SHARE[1:]]}, "either MetricStat or"),
        ({"Metrics": SHARE[:2]}, "ReturnData"),
        ({"Metrics": [{**SHARE[0], "ReturnData": True}, *SHARE[1:]]}, "ReturnData"),
        ({"Metrics": [metric("part", Period=300), *SHARE[1:]]}, "one period"),
        ({"Metrics": [*SHARE[:2], {"Id": "s", "Expression": "part+" * 300}]}, "1024 characters"),
        ({"Metrics": [*SHARE[:2], {"Id": "s", "Expression": "SQRT(part)"}]}, "no function"),
        ({"Metrics": [*SHARE[:2], {"Id": "s", "Expression": "1"}]}, "time series"),
        ({"Metrics": [*SHARE[:2], {"Id": "s", "Expression": "s + part"}]}, "each other"),
        ({"Metrics": [{"Id": "s", "Expression": "1"}]}, "one to 10 metrics"),
        (
            {"Metrics": [metric(f"m{n}") for n in range(11)] + [{"Id": "s", "Expression": "m1"}]},
            "one to 10 metrics",
        ),
    ],
)
def test_an_alarm_that_cloudwatch_would_refuse_is_refused(alarm: Any, why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        check_alarm(alarm)
