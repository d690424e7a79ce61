"""Probe's figures as a Markdown table, put where docs/probe.md has its place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT

PAGE = ROOT / "docs" / "probe.md"
BEGIN, END = "<!-- bench-probe: begin -->\n", "<!-- bench-probe: end -->\n"


def markdown(probe: Mapping[str, Any]) -> str:
    """What `make bench-probe` has measured."""
    rows = [
        "| | top-1 | top-5 | calibration error | seconds in all | peak memory |",
        "|---|---|---|---|---|---|",
        _row("**probe**", probe["ours"], probe["peak_memory_mb"]),
        _row(
            "logistic regression on channel means",
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


def _row(name: str, way: Mapping[str, float], peak: float) -> str:
    return (
        f"| {name} | {way['top1']:.1%} | {way['top5']:.1%} | {way['ece']:.3f}, "
        f"{way['ece_calibrated']:.3f} calibrated | {way['seconds']:.0f} | {peak:,} MB |"
    )


def put_into(page: Path, probe: Mapping[str, Any]) -> None:
    """Replace what stands between the page's two marks."""
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the table: {BEGIN.strip()} ... {END.strip()}")
    page.write_text(before + begin + markdown(probe) + end + after, "utf-8")
