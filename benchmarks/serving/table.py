"""The figures for docs/serving.md: a report as a Markdown table, put into its place."""

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench-serving: begin -->\n", "<!-- bench-serving: end -->\n"


def markdown(report: dict[str, Any]) -> str:
    """The table of a report as `make bench-serving` writes it."""
    cold, latency, memory = report["cold_start"], report["latency"], report["memory_mb"]
    batches = [row for row in report["ways_to_run"] if row["way"].startswith("batches")]
    (beside,) = [row for row in report["ways_to_run"] if row["way"].endswith("side by side")]

    def ratio(value: dict[str, float]) -> str:
        return f"{value['median']:.2f}x ({value['low']:.2f} to {value['high']:.2f})"

    def rate(row: dict[str, Any]) -> str:
        return f"{row['pictures_per_second']['median']:.0f} pictures/s, {ratio(row['ratio'])}"

    lines = {
        "process start to the first 200 of /ping": (
            f"{cold['droplens']['median']:.2f} s "
            f"({cold['droplens']['low']:.2f} to {cold['droplens']['high']:.2f})"
        ),
        "process start to a bare session of the same model": f"{cold['bare']['median']:.2f} s",
        "`session.run` on the picture's tensor, p50": f"{latency['bare_ms']['p50']:.1f} ms",
        "the same with ONNX Runtime's own options, p50": (
            f"{latency['bare_usual_ms']['p50']:.1f} ms"
        ),
        "a JPEG through HTTP, p50": f"{latency['http_ms']['p50']:.1f} ms",
        "of which decoding and resizing": f"{latency['decoding_ms']['p50']:.1f} ms",
        "**a JPEG through HTTP against `session.run`**": f"**{ratio(latency['ratio'])}**",
        "the same without decoding and resizing": ratio(latency["ratio_without_decoding"]),
        "time of a core for a JPEG through HTTP, and for `session.run`": (
            f"{report['cpu_ms']['http']:.1f} and {report['cpu_ms']['bare']:.1f} ms, "
            f"{report['cpu_ms']['ratio']:.2f}x"
        ),
        "/ping, p50": f"{latency['ping_ms']['p50']:.1f} ms",
        **{
            f"{row['clients']} clients at once against one": (
                f"{rate(row)}; p50 {row['latency_ms']['p50']:.0f} ms"
            )
            for row in report["clients"][1:]
        },
        f"`session.run`, {beside['way']} against one after another": rate(beside),
        **{
            f"`session.run` in {row['way']} against one after another": rate(row) for row in batches
        },
        "memory, idle and at its peak": f"{memory['idle']:.0f} and {memory['peak']:.0f} MB",
    }
    rows = [f"| {what} | {figure} |" for what, figure in lines.items()]
    machine, pictures = report["machine"], report["pictures"]
    under = (
        f"Medians, quartiles in brackets; {pictures['said']}, {pictures['bytes'] / 1000:.0f} kB "
        f"each; {machine['cores']} cores, ONNX Runtime {report['versions']['onnxruntime']}."
    )
    return "\n".join(["| measured | figure |", "|---|---|", *rows, "", under]) + "\n"


def put_into(page: Path, report: dict[str, Any]) -> None:
    """Replace what stands between the page's two marks."""
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the table: {BEGIN.strip()} ... {END.strip()}")
    page.write_text(before + begin + markdown(report) + end + after, "utf-8")
