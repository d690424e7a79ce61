"""A report of `make bench-serving` as a Markdown table."""

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """The table of a report as `make bench-serving` writes it."""
    cold, latency, int8 = report["cold_start"], report["latency"], report["int8"]
    batches = [row for row in report["ways_to_run"] if row["way"].startswith("batches")]
    (beside,) = [row for row in report["ways_to_run"] if row["way"].endswith("side by side")]

    def seconds(value: dict[str, float]) -> str:
        return f"{value['median']:.2f} s ({value['low']:.2f} to {value['high']:.2f})"

    def p50(value: dict[str, float]) -> str:
        return f"{value['p50']:.1f} ms"

    def ratio(value: dict[str, float]) -> str:
        return f"{value['median']:.2f}x ({value['low']:.2f} to {value['high']:.2f})"

    def cpu(value: dict[str, float]) -> str:
        return f"{value['http']:.1f} and {value['bare']:.1f} ms, {value['ratio']:.2f}x"

    def rate(row: dict[str, Any]) -> str:
        return f"{row['pictures_per_second']['median']:.0f} pictures/s, {ratio(row['ratio'])}"

    def crowd(row: dict[str, Any]) -> str:
        return f"{rate(row)}; p50 {row['latency_ms']['p50']:.0f} ms"

    def memory(value: dict[str, float]) -> str:
        return f"{value['idle']:.0f} and {value['peak']:.0f} MB"

    lines = {
        "process start to the first 200 of /ping": (
            seconds(cold["droplens"]),
            seconds(cold["int8"]),
        ),
        "process start to a bare session of the same model": (seconds(cold["bare"]), ""),
        "`session.run` on the picture's tensor, p50": (
            p50(latency["bare_ms"]),
            p50(int8["bare_ms"]),
        ),
        "the same against a graph without class maps": (
            ratio(latency["class_maps"]["not_fetched"]),
            "",
        ),
        "with the class map against a graph without": (ratio(latency["class_maps"]["fetched"]), ""),
        "the same with ONNX Runtime's own options, p50": (p50(latency["bare_usual_ms"]), ""),
        "a JPEG through HTTP, p50": (p50(latency["http_ms"]), p50(int8["http_ms"])),
        "of which decoding and resizing": (p50(latency["decoding_ms"]),) * 2,
        "**int8 is faster than fp32**: `session.run`": ("", f"**{ratio(int8['speedup'])}**"),
        "the same of a JPEG through HTTP": ("", f"**{ratio(int8['speedup_over_http'])}**"),
        "**a JPEG through HTTP against `session.run`**": (
            f"**{ratio(latency['ratio'])}**",
            ratio(int8["ratio"]),
        ),
        "the same without decoding and resizing": (
            ratio(latency["ratio_without_decoding"]),
            ratio(int8["ratio_without_decoding"]),
        ),
        "time of a core for a JPEG through HTTP, and for `session.run`": (
            cpu(report["cpu_ms"]),
            cpu(int8["cpu_ms"]),
        ),
        "/ping, p50": (p50(latency["ping_ms"]), ""),
        **{
            f"{row['clients']} clients at once against one": (crowd(row), crowd(other))
            for row, other in zip(report["clients"][1:], int8["clients"][1:], strict=True)
        },
        f"`session.run`, {beside['way']} against one after another": (rate(beside), ""),
        **{
            f"`session.run` in {row['way']} against one after another": (rate(row), "")
            for row in batches
        },
        "memory, idle and at its peak": (memory(report["memory_mb"]), memory(int8["memory_mb"])),
    }
    rows = [f"| {what} | {fp32} | {integers} |" for what, (fp32, integers) in lines.items()]
    machine, pictures = report["machine"], report["pictures"]
    under = (
        f"Medians, quartiles in brackets; {pictures['said']}, {pictures['bytes'] / 1000:.0f} kB "
        f"each; {machine['cores']} cores, ONNX Runtime {report['versions']['onnxruntime']}."
    )
    return "\n".join(["| measured | fp32 | int8 |", "|---|---|---|", *rows, "", under]) + "\n"
