"""Line and dot charts as SVG, with colours from the page's style sheet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from droplens.report.formatting import percent
from droplens.report.markup import Child, Element, append, element

# In the SVG's own units; the page shows it at most 1.3 times as large.
WIDTH, HEIGHT = 340, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 10, 40
HALF_TEXT = 4

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart: its title, range and ticks.

    ticks: pairs of a value and its label.
    """

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def share(self, value: float) -> float:
        """The position of `value` on the axis: 0 at low, 1 at high."""
        return (value - self.low) / (self.high - self.low)


def percent_axis(title: str, low: float = 0.0, high: float = 1.0) -> Axis:
    """An axis of shares, labelled in percent, with at most six steps."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 6)
    ticks = [(i * step, percent(i * step, 0)) for i in range(round(1 / step) + 1)]
    return Axis(title, low, high, [tick for tick in ticks if low - 1e-9 <= tick[0] <= high + 1e-9])


class Chart:
    """An SVG with two axes; later marks are drawn over earlier ones."""

    def __init__(self, x: Axis, y: Axis, described: str) -> None:
        """described: the text for screen readers."""
        self._x, self._y = x, y
        self.svg = element(
            "svg",
            class_="chart",
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label=described,
        )
        self._frame()

    def at(self, x: float, y: float) -> Point:
        """A point of the data in SVG coordinates."""
        return (
            round(LEFT + self._x.share(x) * (WIDTH - LEFT - RIGHT), 2),
            round(HEIGHT - BOTTOM - self._y.share(y) * (HEIGHT - TOP - BOTTOM), 2),
        )

    def line(self, points: Iterable[Point], kind: str) -> None:
        """A line through `points`."""
        path = " ".join("{:g},{:g}".format(*self.at(*point)) for point in points)
        append(self.svg, element("polyline", class_=f"line {kind}", points=path))

    def dot(self, x: float, y: float, kind: str, radius: float = 3.5) -> None:
        """A dot."""
        cx, cy = self.at(x, y)
        append(self.svg, element("circle", class_=f"dot {kind}", cx=cx, cy=cy, r=radius))

    def bar(self, low: float, high: float, top: float, kind: str) -> None:
        """A bar on the x axis from `low` to `high`, as high as `top`."""
        x, y = self.at(low, top)
        right, base = self.at(high, self._y.low)
        append(
            self.svg,
            element(
                "rect",
                class_=f"bar {kind}",
                x=x + 0.5,
                y=y,
                width=round(max(right - x - 1, 0.5), 2),
                height=round(base - y, 2),
            ),
        )

    def label(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Text at a point."""
        left, top = self.at(x, y)
        words = element("text", text, class_=kind or None, x=left, y=top, text_anchor=anchor)
        append(self.svg, words)

    def _frame(self) -> None:
        base = HEIGHT - BOTTOM
        for value, text in self._y.ticks:
            _, y = self.at(self._x.low, value)
            append(
                self.svg,
                element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y),
                _words(text, LEFT - 6, y + HALF_TEXT, "end"),
            )
        for value, text in self._x.ticks:
            x, _ = self.at(value, self._y.low)
            append(
                self.svg,
                element("line", class_="grid", x1=x, x2=x, y1=base, y2=base + 4),
                _words(text, x, base + 16, "middle"),
            )
        middle = (TOP + base) / 2
        append(
            self.svg,
            _words(self._x.title, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", "axis"),
            element(
                "text",
                self._y.title,
                class_="axis",
                text_anchor="middle",
                transform=f"translate(10 {middle:g}) rotate(-90)",
            ),
        )


def figure(chart: Element, *caption: Child) -> Element:
    """A chart with its caption."""
    return element("figure", chart, element("figcaption", *caption))


def _words(text: str, x: float, y: float, anchor: str, kind: str | None = None) -> Element:
    return element("text", text, class_=kind, x=x, y=y, text_anchor=anchor)
