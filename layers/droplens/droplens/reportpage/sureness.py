"""How far probabilities can be taken at their word, and what to make of that."""

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from droplens.confidence import wilson
from droplens.reportpage.charts import Chart, figure, percent_axis
from droplens.reportpage.markup import Child, Element, element, json_block
from droplens.reportpage.tables import numbers
from droplens.reportpage.wording import percent

Document = Mapping[str, Any]

DRAWN_POINTS = 200  # of a curve that has one for every picture


def sure(evaluation: Document) -> list[Child]:
    """The reliability diagrams, and what share of pictures a threshold leaves to people."""
    calibration = evaluation["calibration"]
    panels = [
        _reliability(calibration[f"bins_{when}"], when, calibration[f"ece_{when}"])
        for when in ("before", "after")
    ]
    how = (
        "No map was fitted: these are the model's own probabilities."
        if calibration["method"] == "none"
        else f"The map ({_parameters(calibration)}) was fitted on {calibration['fitted_on']} other "
        "validation pictures."
    )
    return [
        element(
            "p",
            "A probability is honest if, of all answers given at 80%, 80% are right: dots on the "
            f"diagonal. Judged on {calibration['judged_on']} pictures. {how} On that many, even "
            f"honest ones would show an error of {percent(calibration['ece_noise_floor'])}.",
        ),
        element("div", panels, class_="panels"),
        *_coverage(evaluation),
    ]


def _parameters(calibration: Document) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in calibration["parameters"].items())


def _reliability(bins: Sequence[Document], when: str, error: float) -> Element:
    filled = [each for each in bins if each["count"]]
    total = sum(each["count"] for each in filled)
    title = f"{'Before' if when == 'before' else 'After'} calibration: error {percent(error)}"
    chart = Chart(
        percent_axis("probability that was given"),
        percent_axis("share of right answers"),
        f"{title}. The table below holds its numbers.",
    )
    for each in filled:
        chart.bar(each["low"], each["high"], 0.25 * each["count"] / total, "amount")
    chart.line([(0, 0), (1, 1)], "ideal")
    for each in filled:
        low, high = wilson(round(each["accuracy"] * each["count"]), each["count"])
        chart.line([(each["probability"], low), (each["probability"], high)], "whisker")
    for each in filled:
        radius = 2.5 + 4 * (each["count"] / total) ** 0.5
        chart.dot(each["probability"], each["accuracy"], when, radius)
    rows = (
        [
            f"{each['low']:.0%} to {each['high']:.0%}",
            each["count"],
            percent(each["probability"]),
            percent(each["accuracy"]),
        ]
        for each in filled
    )
    return element(
        "div",
        figure(
            chart.svg,
            element("strong", title),
            ". Larger dots and bars are more answers; whiskers are 95% intervals.",
        ),
        numbers(("Probability", "Answers", "Given on average", "Right"), rows),
    )


def _coverage(evaluation: Document) -> list[Child]:
    points = _thinned(evaluation["coverage"])
    confident = evaluation["confident"]
    if len(points) < 2:
        return []
    lowest = min(precision for _, _, precision in points)
    y = percent_axis(
        "of these, right", max(0.0, floor(min(lowest, confident["precision"]) * 20 - 0.5) / 20)
    )
    chart = Chart(
        percent_axis("pictures answered without a person"),
        y,
        "Precision against coverage: the more answers are taken without a look, the fewer of them "
        "are right. The slider below reads the curve out.",
    )
    chart.line([(0, confident["precision"]), (1, confident["precision"])], "asked")
    chart.line([(share, precision) for _, share, precision in points], "curve")
    start = next(
        (
            number
            for number, (threshold, _, _) in enumerate(points)
            if confident["threshold"] is not None and threshold <= confident["threshold"]
        ),
        len(points) - 1,
    )
    chart.dot(points[start][1], points[start][2], "chosen", 5)
    return [
        element("h3", "What if you asked for more, or for less?"),
        element(
            "div",
            figure(
                chart.svg,
                "Answers from the surest to the least sure. The dashed line is the precision asked "
                f"for, {confident['precision']:.0%}; the dot is where the slider stands.",
            ),
            element(
                "div",
                element("label", "Take answers without a look from a probability of", for_="from"),
                element(
                    "input",
                    type="range",
                    id="from",
                    min=0,
                    max=len(points) - 1,
                    value=start,
                    aria_describedby="taken",
                ),
                element("p", _taken(points[start]), id="taken", aria_live="polite"),
                class_="what-if",
            ),
            json_block("coverage", [[round(value, 5) for value in point] for point in points]),
            class_="panels",
        ),
    ]


def _taken(point: Sequence[float]) -> str:
    threshold, share, precision = point
    return (
        f"From {percent(threshold)} up: {percent(share)} of the pictures are answered without a "
        f"person, {percent(precision)} of them rightly; {percent(1 - share)} are left to look at."
    )


def _thinned(points: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    if len(points) <= DRAWN_POINTS:
        return list(points)
    step = (len(points) - 1) / (DRAWN_POINTS - 1)
    return [points[round(number * step)] for number in range(DRAWN_POINTS)]
