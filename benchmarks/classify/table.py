"""One report as a Markdown table, for the documents and the terminal."""

from collections.abc import Callable
from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """The table of a report as `make bench-classify` writes it."""
    in_batches, alone = report["handlers"]
    ours, bare = report["cold_start"]["droplens"], report["cold_start"]["bare"]
    chaos, largest = report["chaos"], report["floods"][-1]

    def ratio(spread: dict[str, float]) -> str:
        return f"{spread['median']:.2f}x ({spread['low']:.2f} to {spread['high']:.2f})"

    def each(rows: list[dict[str, Any]], milliseconds: str) -> str:
        return ", ".join(f"{row[milliseconds]:.1f} ms of {row['pictures']:,}" for row in rows)

    lines = {
        f"time per picture against a bare handler, in batches of {in_batches['batch']}": ratio(
            in_batches["ratio"]
        ),
        "CPU time per picture, the same": ratio(in_batches["cpu_ratio"]),
        "time of one picture alone, against a bare handler": ratio(alone["ratio"]),
        "CPU time of one picture alone, the same": ratio(alone["cpu_ratio"]),
        f"{largest['pictures']:,} pictures dropped at once, first put to last result": (
            f"{largest['pictures_per_second']:.0f} pictures/s"
        ),
        "time per picture as more are dropped": each(report["floods"], "ms_each"),
        "sweep, per waiting picture": each(report["sweeps"], "ms_each"),
        "cold start's imports and clients": (
            f"{ours['ms']:.0f} ms and {ours['peak_mb']:.0f} MB; bare boto3 {bare['ms']:.0f} ms and "
            f"{bare['peak_mb']:.0f} MB"
        ),
        f"{chaos['pictures']:,} pictures, each event one to three times and shuffled, "
        f"{chaos['workers_killed']} workers and {chaos['endpoints_killed']} endpoint processes "
        "killed, endpoint throttling and failing": _faults(chaos),
    }
    if modes := report.get("modes"):
        lines |= _of_modes(modes)
    rows = [f"| {what} | {figure} |" for what, figure in lines.items()]
    under = (
        f"Medians, quartiles in brackets; {in_batches['batches']} pairs of batches, "
        f"{report['machine']['cores']} cores. The endpoint is a stub that answers by a hash of the "
        "picture, so no time of a model is in these figures, but in those of a real model."
    )
    return "\n".join(["| measured | figure |", "|---|---|", *rows, "", under]) + "\n"


def _of_modes(modes: dict[str, Any]) -> dict[str, str]:
    """The rows of a real model inside the function and behind a serverless endpoint."""
    both = {"inside": "`EndpointMode=lambda`", "behind": "an endpoint"}

    def each(of: Callable[[str], str]) -> str:
        return "; ".join(f"{name} {of(way)}" for way, name in both.items())

    lines = {}
    for what in ("in_batches", "alone"):
        found = modes[what]
        spread = found["ratio"]
        size = f"in batches of {found['batch']}" if found["batch"] > 1 else "alone"
        lines[f"a real model, time per picture {size}"] = (
            each(lambda way: f"{found['ms_per_picture'][way]:.1f} ms")  # noqa: B023
            + f"; {spread['median']:.2f}x ({spread['low']:.2f} to {spread['high']:.2f})"
        )
        used = found["cpu_ms_per_picture"]
        lines[f"CPU time of function and endpoint together, per picture {size}"] = each(
            lambda way: f"{used[way]:.1f} ms"  # noqa: B023
        )
    lines["a real model, cold start to the first result, and memory"] = each(
        lambda way: (
            f"{modes['cold_start'][way]['seconds']:.2f} s, {modes['cold_start'][way]['peak_mb']} MB"
        )
    )
    floods = modes["floods"]
    lines[f"a real model, {floods['inside']['pictures']:,} pictures dropped at once"] = each(
        lambda way: f"{floods[way]['pictures_per_second']:.0f} pictures/s"
    )
    lines["a real model, time per picture as more are dropped"] = each(
        lambda way: ", ".join(
            f"{row['ms_each']:.1f} ms of {row['pictures']:,}" for row in modes["growth"][way]
        )
    )
    faults = modes["faults"]
    lines[
        f"a real model, all {faults['inside']['pictures']:,} results of each mode against what "
        "the model gives for the picture alone"
    ] = each(lambda way: _faults(faults[way]))
    chaos = modes["chaos"]
    lines[
        f"`EndpointMode=lambda`, {chaos['pictures']:,} pictures, events as above, "
        f"{chaos['workers_killed']} workers killed, a model's object missing for a while"
    ] = _faults(chaos)
    return lines


def _faults(found: dict[str, Any]) -> str:
    return f"{found['lost']} lost, {found['doubled']} doubled, {found['wrong']} wrong"
