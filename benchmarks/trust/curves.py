"""The curves of bench-trust as one SVG beside its figures, for light and dark pages.

python -m benchmarks.trust.curves       draws the figures that are kept
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import RESULTS, stored
from droplens.report.charts import HEIGHT, WIDTH, Axis, Chart, percent_axis
from droplens.report.markup import append, element

FILE = RESULTS / "trust.svg"
TITLE, GAP = 26, 20
# Novelty relative to the limit, as powers of two.
LEAST, MOST = -2.0, 4.0
LARGEST_SET = 8
STYLE = """
svg { --paper: #fbfaf7; --soft: #575e66; --line: #d9d6cf; --one: #0a6b64; --two: #b0440c;
  --three: #2f4fa8; --four: #8a6d00; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #15181b; --soft: #a5abb2; --line: #363b41; --one: #57c5b8; --two: #ff9a62;
    --three: #9db4ff; --four: #e0c05a; }
}
.paper { fill: var(--paper); }
text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.title { font-size: 14px; font-weight: 700; }
.grid { stroke: var(--line); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.asked { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 3; }
.one { stroke: var(--one); } .two { stroke: var(--two); }
.three { stroke: var(--three); } .four { stroke: var(--four); }
.dashed { stroke-dasharray: 5 3; }
.dot.one, .bar.one, text.one { fill: var(--one); stroke: none; }
.dot.two, text.two { fill: var(--two); stroke: none; }
text.three { fill: var(--three); stroke: none; }
text.four { fill: var(--four); stroke: none; }
"""

Summary = Mapping[str, Any]


def draw(result: Summary) -> None:
    """Write FILE. result: the content of trust.json."""
    FILE.write_text(svg(result), "utf-8")


def svg(result: Summary) -> str:
    """Four charts on the hardest set of pictures."""
    found = result["sets"][result["hardest"]]
    charts = {
        f"Calibration on {found['classes']} classes": _calibration(found),
        "Novelty of pictures": _novelty(found),
        "Changed labels found": _suspects(found),
        "Sizes of label sets": _sizes(found),
    }
    width, height = 2 * WIDTH + GAP, 2 * (HEIGHT + TITLE + GAP)
    drawing = element(
        "svg",
        element("style", STYLE),
        element("rect", class_="paper", width=width, height=height),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )
    for place, (title, chart) in enumerate(charts.items()):
        x, y = place % 2 * (WIDTH + GAP), place // 2 * (HEIGHT + TITLE + GAP)
        chart.svg.set("x", str(x))
        chart.svg.set("y", str(y + TITLE))
        chart.svg.set("width", str(WIDTH))
        chart.svg.set("height", str(HEIGHT))
        append(drawing, element("text", title, class_="title", x=x + 12, y=y + 19), chart.svg)
    return ET.tostring(drawing, encoding="unicode") + "\n"


def _calibration(found: Summary) -> Chart:
    chart = Chart(
        percent_axis("predicted probability"), percent_axis("accuracy"), "Accuracy by probability"
    )
    chart.line([(0, 0), (1, 1)], "asked")
    kinds = {"none": ("two", "no map"), "ours": ("one", "ours")}
    for name, (kind, _) in kinds.items():
        bins = found["curves"]["bins"][name]
        total = sum(count for _, _, count in bins)
        for probability, accuracy, count in bins:
            chart.dot(probability, accuracy, kind, round(2 + 5 * (count / total) ** 0.5, 1))
    _legend(chart, [(text, kind) for kind, text in kinds.values()], 0.03, 0.95)
    return chart


def _novelty(found: Summary) -> Chart:
    powers = range(int(LEAST), int(MOST) + 1)
    x = Axis(
        "novelty, relative to the limit",
        LEAST,
        MOST,
        [(power, f"{2.0**power:g}") for power in powers],
    )
    chart = Chart(x, percent_axis("pictures up to there"), "Distribution of novelty")
    chart.line([(0, 0), (0, 1)], "asked")
    legend = []
    for (name, values), kind in zip(
        found["curves"]["novelty"].items(), ("one", "three", "two", "four"), strict=False
    ):
        steps = len(values) - 1
        points = [
            (math.log2(max(value, 2.0**LEAST)), level / steps) for level, value in enumerate(values)
        ]
        chart.line([(min(x, MOST), y) for x, y in points], kind)
        legend.append((name.replace("_", " "), kind))
    _legend(chart, legend, 2.0, 0.45)
    return chart


def _suspects(found: Summary) -> Chart:
    checked = next(iter(found["suspects"].values()))["checked"]
    x = Axis(
        "labels checked, relative to those changed",
        0.0,
        checked[-1],
        [(value, f"{value:g}") for value in (0, 0.5, 1, 1.5, 2)],
    )
    chart = Chart(x, percent_axis("found"), "Share of the changed labels that is found")
    chart.line([(0, 0), (1, 1), (checked[-1], 1)], "asked")
    for ranking, kind in (("ours", "one"), ("self_confidence", "two")):
        for change, dashes in (("random", ""), ("look_alikes", " dashed")):
            shares = found["suspects"][change]["rankings"][ranking]["found"]
            chart.line([(0, 0), *zip(checked, shares, strict=True)], kind + dashes)
    _legend(chart, [("ours", "one"), ("cleanlab", "two"), ("dashed: look-alikes", "")], 1.2, 0.4)
    return chart


def _sizes(found: Summary) -> Chart:
    sizes = {int(size): count for size, count in found["candidates"]["sizes"].items()}
    total = sum(sizes.values())
    x = Axis(
        "classes in the set",
        0.5,
        LARGEST_SET + 0.5,
        [(n, f"{n}+" if n == LARGEST_SET else f"{n}") for n in range(1, LARGEST_SET + 1)],
    )
    chart = Chart(x, percent_axis("pictures"), "How many classes a label set holds")
    for size in range(1, LARGEST_SET + 1):
        count = sum(
            each
            for its, each in sizes.items()
            if its == size or (its > size and size == LARGEST_SET)
        )
        chart.bar(size - 0.4, size + 0.4, count / total, "one")
    return chart


def _legend(chart: Chart, entries: list[tuple[str, str]], x: float, y: float) -> None:
    for number, (text, kind) in enumerate(entries):
        chart.label(x, y - 0.07 * number, text, kind)


if __name__ == "__main__":
    draw(stored("trust"))
