"""The report's section on the training: learning curves or the regularisation path."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from droplens.report.charts import Axis, Chart, figure, percent_axis
from droplens.report.formatting import percent
from droplens.report.markup import Child, element

Document = Mapping[str, Any]


def trained(training: Document | None) -> list[Child]:
    """The section on the training; empty without training.json."""
    if training is None:
        return []
    accuracy = ", ".join(
        f"{percent(share)} on {what} pictures" for what, share in training["accuracy"].items()
    )
    curves = _epochs(training) or _penalties(training)
    chosen = training.get("choice")
    seconds = sum(training.get("seconds", {}).values())
    return [
        element(
            "p",
            f"Recipe “{training['recipe']}”, {seconds:.0f} seconds. Accuracy as the trainer "
            f"counted it: {accuracy}. A large gap between training and validation is overfitting.",
        ),
        *([element("p", _choice(chosen))] if chosen else []),
        *curves,
    ]


def _choice(chosen: Document) -> str:
    """Why this recipe's model was kept, with the accuracies of both."""
    compared = "; ".join(
        f"{each['recipe']} ({each['backbone']}): "
        + ", ".join(f"{percent(share)} on {what}" for what, share in each["accuracy"].items())
        for each in chosen["candidates"]
    )
    return f"Recipe “auto”. {chosen['reason']} Accuracies: {compared}."


def _epochs(training: Document) -> list[Child]:
    epochs = training.get("epochs") or []
    if len(epochs) < 2:
        return []
    charts = []
    for what, title in (("accuracy", "accuracy"), ("loss", "loss (cross-entropy)")):
        lines = {
            channel: [
                (float(each["epoch"]), float(each[f"{channel}_{what}"]))
                for each in epochs
                if each.get(f"{channel}_{what}") is not None
            ]
            for channel in ("train", "validation")
        }
        values = [value for line in lines.values() for _, value in line]
        if not values:
            continue
        first, last = epochs[0]["epoch"], epochs[-1]["epoch"]
        step = max(1, ceil((last - first) / 6))
        ticks = [(float(epoch), str(epoch)) for epoch in range(first, last + 1, step)]
        y = percent_axis(title) if what == "accuracy" else _loss_axis(title, values)
        chart = Chart(Axis("epoch", first, last, ticks), y, f"{title} by epoch")
        for channel, line in lines.items():
            chart.line(line, channel)
        charts.append(
            figure(chart.svg, f"{title.capitalize()}: training dashed, validation solid.")
        )
    return [element("div", charts, class_="panels")]


def _penalties(training: Document) -> list[Child]:
    path = training.get("cross_validation", {}).get("path") or []
    if len(path) < 2:
        return []
    strengths = [log10(each["l2"]) for each in path]
    low, high = min(strengths), max(strengths)
    ticks = [(float(each), f"1e{each}") for each in range(ceil(low - 1e-9), floor(high + 1e-9) + 1)]
    x = Axis("strength of the penalty (L2)", low, high, ticks)
    chosen = log10(training["cross_validation"]["l2"])
    charts = []
    for what, title in (("accuracy", "accuracy"), ("loss", "loss (cross-entropy)")):
        values = [each[what] for each in path]
        y = percent_axis(title) if what == "accuracy" else _loss_axis(title, values)
        chart = Chart(x, y, f"{title} in leave-one-out cross-validation by strength of the penalty")
        chart.line(list(zip(strengths, values, strict=True)), "validation")
        for strength, value in zip(strengths, values, strict=True):
            chart.dot(strength, value, "chosen" if strength == chosen else "validation")
        charts.append(
            figure(
                chart.svg,
                f"{title.capitalize()} in leave-one-out cross-validation, the chosen one large.",
            )
        )
    return [
        element(
            "p",
            "This recipe solves for its weights in closed form, without epochs. The strength of "
            "the L2 penalty is chosen by cross-validation: the curves below.",
        ),
        element("div", charts, class_="panels"),
    ]


def _loss_axis(title: str, values: Sequence[float]) -> Axis:
    top = max(*values, 1e-6)
    scale = 10 ** floor(log10(top))
    step = next(scale * each for each in (0.2, 0.5, 1, 2, 5) if top / (scale * each) <= 5)
    ticks = [(number * step, f"{number * step:.3g}") for number in range(ceil(top / step) + 1)]
    return Axis(title, 0, ticks[-1][0], ticks)
