"""The report of bench-console as Markdown tables, for the documents and the terminal."""

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """The tables of a report as `make bench-console` writes it, of what was measured."""
    parts = {"review": review, "gallery": gallery}
    return "\n".join(table(report[name]) for name, table in parts.items() if name in report)


def review(found: dict[str, Any]) -> str:
    """The table of the review."""
    wait = found["next_image_ms"]
    lines = {
        f"images reviewed a minute, of {found['images']:,}": f"{found['images_per_minute']:.1f}",
        "of it the person: thinking, and typing where a class is searched": (
            f"{found['person_seconds_per_image']:.2f} s an image"
        ),
        "from the key to the next image": (
            f"{wait['median']:.0f} ms ({wait['low']:.0f} to {wait['high']:.0f}), "
            f"{found['next_image_ms_p95']:.0f} ms at most in 95 %"
        ),
        "the page's share of the time": f"{found['page_share']:.1%}",
    }
    return _table("measured", "figure", lines)


def gallery(found: dict[str, Any]) -> str:
    """The table of the gallery."""
    lines = {
        f"a page of {found['results']:,} results: {name}": (
            f"{ms['median']:.0f} ms ({ms['low']:.0f} to {ms['high']:.0f})"
        )
        for name, ms in found["pages_ms"].items()
    }
    lines |= {
        "new results read into the index, from an S3 server of the same machine": (
            f"{found['read_per_second']:.0f} a second"
        ),
        f"its {found['listed']:,} results listed, where none is new": (
            f"{found['listing_seconds']:.1f} s"
        ),
        "the index": f"{found['index_bytes_per_result']:,} bytes a result",
    }
    return _table("measured", "figure", lines)


def _table(left: str, right: str, lines: dict[str, str]) -> str:
    rows = [f"| {what} | {figure} |" for what, figure in lines.items()]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *rows]) + "\n"
