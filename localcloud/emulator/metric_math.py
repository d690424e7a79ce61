"""CloudWatch's metric math, as far as an alarm of one time series needs it.

Amazon CloudWatch User Guide, "Using math expressions with CloudWatch metrics": arithmetic,
comparisons, AND, OR and IF of metrics and numbers. Every other function is refused, also those that
AWS has: a stack that needs one is not to be tried here with another meaning.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_EXPRESSION = 1024
MOST_METRICS = 10
# PutMetricAlarm takes these or Metrics, not both.
_OF_ONE_METRIC = (
    "Namespace",
    "MetricName",
    "Dimensions",
    "Period",
    "Unit",
    "Statistic",
    "ExtendedStatistic",
)
_ID = re.compile(r"[a-z][A-Za-z0-9_]*")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z]\w*)|(?P<sign>==|!=|<=|>=|&&|\|\||[-+*/^<>(),]))"
)
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}


class ExpressionError(ValueError):
    """CloudWatch, or this part of it, does not accept the expression or the alarm's metrics."""


@dataclass(frozen=True, slots=True)
class Series:
    """One period of a time series. value: None where there is no data point."""

    value: float | None


Value = float | Series


def check_alarm(alarm: Mapping[str, Any]) -> None:
    """RULE: metric-math

    Raises ExpressionError for an alarm with `Metrics` that PutMetricAlarm refuses.
    """
    if both := sorted(alarm.keys() & set(_OF_ONE_METRIC)):
        raise ExpressionError(f"Metrics must not be set together with {', '.join(both)}")
    queries: Sequence[Mapping[str, Any]] = alarm["Metrics"]
    ids = [str(query.get("Id", "")) for query in queries]
    for identifier in ids:
        if not _ID.fullmatch(identifier):
            raise ExpressionError(f"Id {identifier!r} must start with a lowercase letter")
    if len(set(ids)) < len(ids):
        raise ExpressionError("each Id must be unique")
    statistics = [query["MetricStat"] for query in queries if "MetricStat" in query]
    if any(("MetricStat" in query) == ("Expression" in query) for query in queries):
        raise ExpressionError("each entry needs either MetricStat or Expression")
    if not 1 <= len(statistics) <= MOST_METRICS or len(queries) > 2 * MOST_METRICS:
        raise ExpressionError(f"an alarm has one to {MOST_METRICS} metrics")
    if len({statistic["Period"] for statistic in statistics}) > 1:
        raise ExpressionError("all metrics must have one period")
    if sum(query.get("ReturnData", True) for query in queries) != 1:
        raise ExpressionError("exactly one entry must have ReturnData true")
    if any(len(query.get("Expression", "")) > LONGEST_EXPRESSION for query in queries):
        raise ExpressionError(f"an Expression has at most {LONGEST_EXPRESSION} characters")
    evaluate_alarm(queries, lambda _: 1.0)


def evaluate_alarm(
    queries: Sequence[Mapping[str, Any]], statistic: Callable[[Mapping[str, Any]], float | None]
) -> float | None:
    """The value that the alarm compares with its threshold, None where there is none.

    queries: the alarm's Metrics; statistic(MetricStat): its value in the period, None without data.
    Raises ExpressionError.
    """
    values: dict[str, Value] = {
        query["Id"]: Series(statistic(query["MetricStat"]))
        for query in queries
        if "MetricStat" in query
    }
    [watched] = [query for query in queries if query.get("ReturnData", True)]
    waiting = {query["Id"]: query["Expression"] for query in queries if "Expression" in query}
    while waiting:
        ready = [name for name, text in waiting.items() if not _ids(text) & waiting.keys()]
        if not ready:
            raise ExpressionError("expressions refer to each other")
        for name in ready:
            values[name] = evaluate(waiting.pop(name), values)
    found = values[watched["Id"]]
    if not isinstance(found, Series):
        raise ExpressionError("the result must be a time series, not a number")
    return found.value


def evaluate(expression: str, values: Mapping[str, Value]) -> Value:
    """One expression, for one period. Raises ExpressionError."""
    reader = _Reader(expression, values)
    found = reader.either()
    reader.end()
    return found


def _ids(expression: str) -> set[str]:
    return set(_ID.findall(expression))


class _Reader:
    """Reads an expression from left to right: a method for each level of precedence."""

    def __init__(self, text: str, values: Mapping[str, Value]) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._values = values

    def either(self) -> Value:
        return self._chain(self._both, {"OR", "||"}, lambda a, b: float(bool(a) or bool(b)))

    def _both(self) -> Value:
        return self._chain(self._compared, {"AND", "&&"}, lambda a, b: float(bool(a) and bool(b)))

    def _compared(self) -> Value:
        left = self._sum()
        if (sign := self._take(_COMPARISONS.keys())) is None:
            return left
        compare = _COMPARISONS[sign]
        return _combined(left, self._sum(), lambda a, b: float(compare(a, b)))

    def _sum(self) -> Value:
        left = self._product()
        while sign := self._take({"+", "-"}):
            factor = 1 if sign == "+" else -1
            left = _combined(left, self._product(), lambda a, b, factor=factor: a + factor * b)
        return left

    def _product(self) -> Value:
        left = self._negated()
        while sign := self._take({"*", "/"}):
            operation = (lambda a, b: a * b) if sign == "*" else _divided
            left = _combined(left, self._negated(), operation)
        return left

    def _negated(self) -> Value:
        if self._take({"-"}):
            return _combined(0.0, self._negated(), lambda a, b: a - b)
        return self._power()

    def _power(self) -> Value:
        base = self._single()
        return _combined(base, self._negated(), _raised) if self._take({"^"}) else base

    def _single(self) -> Value:
        word = self._next()
        if word == "(":
            inner = self.either()
            self._expect(")")
            return inner
        if word == "IF":
            return self._choice()
        if word[0].isdigit():
            return float(word)
        if word in self._values:
            return self._values[word]
        raise ExpressionError(f"{word!r} is no Id, and no function that is known here")

    def _choice(self) -> Value:
        self._expect("(")
        arguments = [self.either()]
        while self._take({","}):
            arguments.append(self.either())
        self._expect(")")
        if len(arguments) not in (2, 3):
            raise ExpressionError("IF takes a condition and one or two values")
        return _chosen(*arguments)

    def _chain(
        self, part: Callable[[], Value], signs: set[str], operation: Callable[..., float]
    ) -> Value:
        left = part()
        while self._take(signs):
            left = _combined(left, part(), operation)
        return left

    def _take(self, wanted: Any) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at] in wanted:
            return self._next()
        return None

    def _next(self) -> str:
        if self._at == len(self._tokens):
            raise ExpressionError("the expression ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise ExpressionError(f"{token!r} is missing")

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise ExpressionError(f"{self._tokens[self._at]!r} is not expected")


def _tokens(text: str) -> Any:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(f"{text[at:].strip()[:20]!r} is not understood")
        yield found[found.lastgroup or 0]
        at = found.end()


def _combined(left: Value, right: Value, operation: Callable[..., float | None]) -> Value:
    """An operation of numbers and of the data points of time series, of which a missing one is 0
    where the other series has one."""
    series = [value.value for value in (left, right) if isinstance(value, Series)]
    numbers = [
        (value.value or 0.0) if isinstance(value, Series) else value for value in (left, right)
    ]
    if series and all(value is None for value in series):
        return Series(None)
    found = operation(*numbers)
    if series:
        return Series(found)
    if found is None:
        raise ExpressionError("a number is divided by zero")
    return found


def _divided(a: float, b: float) -> float | None:
    return None if b == 0 else a / b


def _raised(a: float, b: float) -> float | None:
    found = None if a == 0 and b < 0 else a**b
    return None if isinstance(found, complex) else found


def _chosen(condition: Value, then: Value, otherwise: Value | None = None) -> Value:
    """IF's result, always a time series."""
    if isinstance(condition, Series):
        if condition.value is None:
            return Series(None)
        if condition.value:
            return Series(then.value or 0.0 if isinstance(then, Series) else then)
    elif not isinstance(then, Series):
        raise ExpressionError("IF of a number needs a time series as its value")
    elif condition:
        return then
    if otherwise is None:
        return Series(None)
    return otherwise if isinstance(otherwise, Series) else Series(otherwise)
