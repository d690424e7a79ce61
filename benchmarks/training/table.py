"""The figures of recipe probe, of its head's growth, and of finetune's comparison, as tables."""

from collections.abc import Mapping
from typing import Any


def markdown(probe: Mapping[str, Any]) -> str:
    """What `make bench-probe` has measured."""
    rows = [
        "| | top-1 | top-5 | calibration error | seconds in all | peak memory |",
        "|---|---|---|---|---|---|",
        _row(f"**probe** {_sizes(probe)}", probe["ours"], probe["peak_memory_mb"]),
        _row(
            "logistic regression on channel means at 224 x 224",
            probe["logistic"],
            max(each["logistic"]["peak_memory_mb"] for each in probe["splits"]),
        ),
    ]
    if mxnet := probe["mxnet"]:
        rows.append(
            f"| MXNet ResNet-18 from scratch | {mxnet['top1']:.1%} | | | {mxnet['seconds']:.0f} | "
            f"{mxnet['peak_memory_mb']:,} MB |"
        )
    tops = [each["probe"]["top1"] for each in probe["splits"]]
    said = (
        f"{probe['corpus']['said']}; means of {len(tops)} splits, on which probe's top-1 was "
        f"{min(tops):.1%} to {max(tops):.1%}; {probe['machine']['cores']} cores."
    )
    return "\n".join([*rows, "", said, ""])


def _sizes(probe: Mapping[str, Any]) -> str:
    """The sizes that were chosen, height x width; 224 x 224 before training chose."""
    before = {"height": 224, "width": 224}
    sizes = [each["probe"].get("input_size", before) for each in probe["splits"]]
    chosen = sorted({(size["height"], size["width"]) for size in sizes})
    return "at " + " and ".join(f"{height} x {width}" for height, width in chosen)


def _row(name: str, way: Mapping[str, float], peak: float) -> str:
    return (
        f"| {name} | {way['top1']:.1%} | {way['top5']:.1%} | {way['ece']:.3f}, "
        f"{way['ece_calibrated']:.3f} calibrated | {way['seconds']:.0f} | {peak:,} MB |"
    )


def comparison(found: Mapping[str, Any]) -> str:
    """What `make bench-finetune` has measured."""
    rows = ["| | top-1 after the last epoch |", "|---|---|"]
    for name, said in (
        ("start", "the classifier in closed form, before training"),
        ("trained", "batch norms trained, as before"),
        ("folded", "**batch norms folded**"),
    ):
        rows.append(f"| {said} | {found[name]['top1']:.1%} |")
    height, width = found["settings"]["shape"]
    said = (
        f"{found['corpus']['classes']} of Stanford Cars' models at {height} x {width} pixels, "
        f"{found['settings']['epochs']} epochs; {found['pictures']} held-out pictures in "
        f"{len(found['splits'])} splits; {found['machine']['cores']} cores."
    )
    return "\n".join([*rows, "", said, ""])


def growth(found: Mapping[str, Any]) -> str:
    """What `make bench-growth` has measured."""
    rows = [
        "| training records | Gram matrix of | CPU seconds | peak memory |",
        "|---|---|---|---|",
    ]
    fits = [("the records", found["exact"]), *(("the features", each) for each in found["fits"])]
    rows += [
        f"| {fit['records']:,} | {of} | {fit['cpu_seconds']:.0f} | {fit['peak_memory_mb']:,} MB |"
        for of, fit in fits
    ]
    cached = found["exact"]["cached_features_mb"]
    exact, same = found["exact"], found["fits"][0]
    said = (
        f"{cached} MB of each are the features that the benchmark repeats. Of {exact['records']:,} "
        f"records, the penalties are {exact['l2']:.2g} and {same['l2']:.2g}, and the leave-one-out "
        f"accuracies {exact['leave_one_out_accuracy']:.1%} of {exact['leave_one_out_records']:,} "
        f"and {same['leave_one_out_accuracy']:.1%} of {same['leave_one_out_records']:,} records."
    )
    return "\n".join([*rows, "", said, ""])
