"""The report's section on calibration and the auto-accept threshold."""

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from droplens.report.charts import Chart, figure, percent_axis
from droplens.report.formatting import FEWEST_TO_CHART, exact_percent, percent
from droplens.report.markup import Child, Element, element, json_block
from droplens.report.tables import numbers
from droplens.statistics.intervals import wilson

Document = Mapping[str, Any]

DRAWN_POINTS = 200  # of a curve with one point per image


def confidence(evaluation: Document) -> list[Child]:
    """The reliability diagrams, and the precision-coverage curve with its threshold slider."""
    return [*_calibration(evaluation["calibration"]), *_coverage(evaluation)]


def within_noise(calibration: Document) -> bool:
    """Whether the calibration error is one that perfectly calibrated probabilities may have."""
    return bool(calibration["ece_after"] <= calibration["ece_noise_limit"])


def _calibration(calibration: Document) -> list[Child]:
    judged = calibration["judged_on"]
    if judged < FEWEST_TO_CHART:
        return [
            too_few(
                f"the calibration error and its diagram take {FEWEST_TO_CHART} pictures that the "
                f"probabilities were not fitted on, and there are {judged}"
            )
        ]
    fitted = calibration["method"] != "none"
    panels = [
        _reliability(
            calibration[f"bins_{when}"],
            when,
            f"{title}: ECE {percent(calibration[f'ece_{when}'])}",
        )
        for when, title in (("before", "Before calibration"), ("after", "After calibration"))
        if fitted
    ] or [
        _reliability(
            calibration["bins_after"],
            "after",
            f"The model's own probabilities: ECE {percent(calibration['ece_after'])}",
        )
    ]
    return [
        element(
            "p",
            "A calibrated probability means what it says: of all predictions at a probability of "
            f"{percent(0.8, 0)}, {percent(0.8, 0)} are correct, and the dots lie on the diagonal. "
            f"Judged on {judged:,} pictures, on which perfectly calibrated probabilities would "
            f"show an error of {percent(calibration['ece_noise_floor'])} on average, by chance "
            f"alone. {_what_calibration_did(calibration)}",
        ),
        element("div", panels, class_="panels"),
    ]


def _what_calibration_did(calibration: Document) -> str:
    if calibration["method"] == "none":
        return (
            "These are the model's own probabilities: no map made them better beyond chance."
            if "folds" in calibration
            else "No calibration was fitted: these are the model's own probabilities."
        )
    how = f"The map ({_parameters(calibration)}) was fitted on {calibration['fitted_on']:,} "
    how += (
        "of them; each was judged by a map fitted on other pictures (cross-fitting)."
        if calibration.get("folds")
        else "others."
    )
    gained = calibration["ece_before"] - calibration["ece_after"]
    if abs(gained) <= calibration["ece_noise_floor"]:
        return f"{how} Its effect on the error is within noise: neither a gain nor a harm is shown."
    if gained > 0:
        return f"{how} It lowered the error."
    return f"{how} It raised the error: the model's own probabilities were better calibrated."


def too_few(what: str) -> Element:
    """The text in place of a chart or figure that would show only noise."""
    return element("p", element("strong", "Too few pictures to tell:"), f" {what}.", class_="few")


def _parameters(calibration: Document) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in calibration["parameters"].items())


def _reliability(bins: Sequence[Document], when: str, title: str) -> Element:
    filled = [each for each in bins if each["count"]]
    total = sum(each["count"] for each in filled)
    chart = Chart(
        percent_axis("predicted probability"),
        percent_axis("accuracy"),
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
            f"{percent(each['low'], 0)} to {percent(each['high'], 0)}",
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
            ". Larger dots and bars are more predictions; whiskers are "
            f"{percent(0.95, 0)} intervals.",
        ),
        numbers(("Probability", "Predictions", "Mean probability", "Accuracy"), rows),
    )


def _coverage(evaluation: Document) -> list[Child]:
    points = _thinned(evaluation["coverage"])
    confident = evaluation["confident"]
    heading = element("h3", "Auto-accept threshold: precision against coverage")
    if confident["threshold"] is None and evaluation["pictures"] < FEWEST_TO_CHART:
        return [heading, too_few(confident["reason"].removeprefix("too few validation pictures: "))]
    if len(points) < 2:
        return []
    lowest = min(precision for _, _, precision in points)
    y = percent_axis(
        "of these, correct", max(0.0, floor(min(lowest, confident["precision"]) * 20 - 0.5) / 20)
    )
    chart = Chart(
        percent_axis("predictions accepted without review"),
        y,
        "Precision against coverage: the more predictions are accepted without review, the fewer "
        "of them are correct. The slider below reads the curve out.",
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
        heading,
        element(
            "div",
            figure(
                chart.svg,
                "Predictions from the most to the least probable. The dashed line is the precision "
                f"asked for (ConfidentPrecision), {exact_percent(confident['precision'])}; the dot "
                "is where the slider stands.",
            ),
            element(
                "div",
                element(
                    "label", "Accept predictions without review from a probability of", for_="from"
                ),
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
        f"From {percent(threshold)} up: {percent(share)} of the predictions are accepted without "
        f"review, {percent(precision)} of them correct; {percent(1 - share)} are left for review."
    )


def _thinned(points: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    if len(points) <= DRAWN_POINTS:
        return list(points)
    step = (len(points) - 1) / (DRAWN_POINTS - 1)
    return [points[round(number * step)] for number in range(DRAWN_POINTS)]
