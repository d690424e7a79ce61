"""Learning curves of a training, drawn as in the report."""

from collections.abc import Mapping
from math import ceil

from droplens.report.charts import Axis, Chart, figure, percent_axis
from droplens.report.markup import Element

Epochs = Mapping[int, Mapping[str, float]]


def learning_curves(epochs: Epochs) -> Element | None:
    """A chart of the accuracies by epoch; None for less than two epochs.

    epochs: as in `TrainingLog`.
    """
    if len(epochs) < 2:
        return None
    first, last = min(epochs), max(epochs)
    step = max(1, ceil((last - first) / 6))
    ticks = [(float(epoch), str(epoch)) for epoch in range(first, last + 1, step)]
    chart = Chart(Axis("epoch", first, last, ticks), percent_axis("accuracy"), _described(epochs))
    for channel in ("train", "validation"):
        line = [
            (float(epoch), shares[channel])
            for epoch, shares in sorted(epochs.items())
            if channel in shares
        ]
        if line:
            chart.line(line, channel)
    return figure(
        chart.svg, "Accuracy as the trainer counts it: training dashed, validation solid."
    )


def _described(epochs: Epochs) -> str:
    last = epochs[max(epochs)]
    shares = ", ".join(f"{channel} {share:.1%}" for channel, share in last.items())
    return f"accuracy by epoch; at epoch {max(epochs)}: {shares}"
