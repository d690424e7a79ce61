"""The report's section on what the model does not know: unfamiliar images, and label sets."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from droplens.report.charts import Axis, Chart, figure, percent_axis
from droplens.report.formatting import counted, exact_percent, percent, share_with_interval
from droplens.report.markup import Child, element
from droplens.report.tables import numbers

# Of the distribution of novelty; the last one has everything that is greater.
NOVELTY_BINS = 24
# Novelty that is drawn, relative to the limit.
NOVELTY_DRAWN = 1.5
# Sizes of label sets that are drawn one by one; the last bar has all larger ones.
LARGEST_SHOWN = 10

Document = Mapping[str, Any]


def unknown(evaluation: Document) -> list[Child]:
    """The two sections; nothing of an evaluation of an earlier version, which has neither."""
    found: list[Child] = []
    familiarity, candidates = evaluation.get("familiarity"), evaluation.get("candidates")
    if familiarity is not None:
        found += _familiarity(familiarity)
    if candidates is not None:
        found += _candidates(candidates, len(evaluation["classes"]))
    return found


def _familiarity(found: Document) -> list[Child]:
    heading = element("h3", "Pictures of something else")
    if found["limit"] is None:
        return [
            heading,
            element(
                "p",
                f"This model cannot tell whether a picture is like its own: {found['reason']}. "
                "Results say “familiar: null”, and a picture of something else may be confident.",
            ),
        ]
    words = (
        element(
            "p",
            "Every picture gets a novelty: how far the network's view of it lies from that of the "
            "training pictures. Above the limit results say “familiar: false”, and the prediction "
            "is never confident, however probable. The limit is set so that about "
            f"{exact_percent(found['requested'])} of the model's own pictures lie above it; of the "
            f"validation pictures {counted(found['unfamiliar'], found['pictures'])} do. "
            f"{_rests_on(found)}",
        ),
        element(
            "p",
            "This tells pictures of other things: another kind of object, a document, an empty "
            "frame. It does not tell a new class of the same kind, such as a car model that the "
            "dataset lacks. Such a picture looks familiar; often its probability is low, but not "
            "always.",
        ),
    )
    drawn = figure(
        _novelty(found["quantiles"], found["limit"]).svg,
        "The novelty of the model's own pictures, none of which it was fitted to. The dashed line "
        "is the limit.",
    )
    return [heading, element("div", element("div", words), drawn, class_="panels")]


def _rests_on(found: Document) -> str:
    if found["left_out"]:
        return (
            f"It rests on these and on {found['left_out']:,} training pictures, each compared with "
            "all others."
        )
    return f"It rests on these alone: {found['note'] or 'training left no picture out'}."


def _novelty(quantiles: Sequence[float], limit: float) -> Chart:
    """A histogram of the values whose quantiles, at equally spaced levels, these are."""
    end = NOVELTY_DRAWN * limit
    edges = [end * number / NOVELTY_BINS for number in range(NOVELTY_BINS + 1)]
    levels = [_level(quantiles, edge) for edge in edges]
    shares = [high - low for low, high in pairwise(levels)]
    x = Axis(
        "novelty, relative to the limit",
        0.0,
        NOVELTY_DRAWN,
        [(tick / 4, f"{tick / 4:g}") for tick in range(7)],
    )
    top = max(0.05, *shares)
    chart = Chart(
        x,
        percent_axis("own pictures", 0.0, top),
        "The distribution of the novelty of the model's own pictures; almost all lie below the "
        "limit, which is at 1.",
    )
    for number, share in enumerate(shares):
        if share > 0:
            low, high = edges[number] / limit, edges[number + 1] / limit
            chart.bar(low, high, share, "beyond" if low >= 1 else "own")
    chart.line([(1, 0), (1, top)], "asked")
    return chart


def _level(quantiles: Sequence[float], value: float) -> float:
    """The share of values up to `value`, interpolated between quantiles."""
    steps = len(quantiles) - 1
    at = bisect_right(quantiles, value)
    if at == 0:
        return 0.0
    if at > steps:
        return 1.0
    low, high = quantiles[at - 1], quantiles[at]
    return (at - 1 + (value - low) / (high - low)) / steps


def _candidates(found: Document, classes: int) -> list[Child]:
    heading = element("h3", "One of these")
    if found["method"] is None:
        return [
            heading,
            element(
                "p",
                f"There are no label sets: {found['reason']}. Results say “candidates: null”.",
            ),
        ]
    sizes = dict(found["sizes"])
    total = sum(sizes.values())
    largest = min(LARGEST_SHOWN, classes)
    shown = {
        size: sum(n for its, n in sizes.items() if its == size or its > size == largest)
        for size in range(1, largest + 1)
    }

    def label(size: int) -> str:
        return f"{size} or more" if size == largest < classes else f"{size}"

    x = Axis(
        "classes among the candidates",
        0.5,
        largest + 0.5,
        [(size, label(size).replace(" or more", "+")) for size in shown],
    )
    chart = Chart(
        x,
        percent_axis("pictures"),
        "How many candidates pictures have. The table below holds its numbers.",
    )
    for size, count in shown.items():
        chart.bar(size - 0.4, size + 0.4, count / total, "own")
    rows = [[label(size), count, percent(count / total)] for size, count in shown.items() if count]
    words = element(
        "p",
        "Results name as “candidates” the classes that the picture may be of: in at least "
        f"{exact_percent(found['precision'])} of pictures like the model's own, the right class is "
        "among them. Checked on pictures that did not choose them, it was in "
        f"{share_with_interval(found['coverage'])}. On average there are {found['mean_size']:.1f} "
        f"candidates; {percent(shown[1] / total)} of the pictures have a single one. A class that "
        "the dataset lacks is never among them.",
    )
    drawn = element(
        "div",
        figure(chart.svg, "How many candidates the validation pictures have."),
        numbers(("Candidates", "Pictures", "Share"), rows),
    )
    return [heading, element("div", element("div", words), drawn, class_="panels")]
