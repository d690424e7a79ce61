"""The figures for the README: one report as a Markdown table, put where the page has its place."""

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench-classify: begin -->\n", "<!-- bench-classify: end -->\n"


def markdown(report: dict[str, Any]) -> str:
    """The table of a report as `make bench-classify` writes it."""
    in_batches, alone = report["handlers"]
    ours, bare = report["cold_start"]["droplens"], report["cold_start"]["bare"]
    trouble, largest = report["chaos"], report["floods"][-1]

    def ratio(handlers: dict[str, Any]) -> str:
        spread = handlers["ratio"]
        return f"{spread['median']:.2f}x ({spread['low']:.2f} to {spread['high']:.2f})"

    def each(rows: list[dict[str, Any]], milliseconds: str) -> str:
        return ", ".join(f"{row[milliseconds]:.1f} ms of {row['pictures']:,}" for row in rows)

    lines = {
        f"time per picture against a bare handler, in batches of {in_batches['batch']}": ratio(
            in_batches
        ),
        "the same, one picture alone": ratio(alone),
        f"{largest['pictures']:,} pictures dropped at once, first put to last result": (
            f"{largest['pictures_per_second']:.0f} pictures/s"
        ),
        "time per picture as more are dropped": each(report["floods"], "ms_each"),
        "sweep, per waiting picture": each(report["sweeps"], "ms_each"),
        "cold start's imports and clients": (
            f"{ours['ms']:.0f} ms and {ours['peak_mb']:.0f} MB; bare boto3 {bare['ms']:.0f} ms and "
            f"{bare['peak_mb']:.0f} MB"
        ),
        f"{trouble['pictures']:,} pictures, each event one to three times and shuffled, "
        f"{trouble['workers_killed']} workers and {trouble['endpoints_killed']} endpoint processes "
        "killed, endpoint throttling and failing": (
            f"{trouble['lost']} lost, {trouble['doubled']} doubled, {trouble['wrong']} wrong"
        ),
    }
    rows = [f"| {what} | {figure} |" for what, figure in lines.items()]
    return "\n".join(["| measured | figure |", "|---|---|", *rows]) + "\n"


def put_into(page: Path, report: dict[str, Any]) -> None:
    """Replace what stands between the page's two marks."""
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the table: {BEGIN.strip()} ... {END.strip()}")
    page.write_text(before + begin + markdown(report) + end + after, "utf-8")
