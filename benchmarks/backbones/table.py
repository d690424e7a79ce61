"""The figures of the packaged networks as a Markdown table."""

from collections.abc import Mapping
from typing import Any

from trainer.nets.specification import LITE0, LITE2, PACKAGED


def markdown(result: Mapping[str, Any]) -> str:
    """What `make bench-backbones` has measured."""
    rows = [
        "| pictures | network | features | top-1, held out | leave-one-out | time an image |",
        "|---|---|--:|--:|--:|--:|",
    ]
    # Both networks were timed in turn, so that their ratio holds on a machine with other work.
    said: list[str] = []
    for title, known in result["sets"].items():
        for name in PACKAGED:
            found = known[name]
            rows.append(
                f"| {title}, {known['side']} px | {name} | {found['features']:,} | "
                f"{found['top1']:.1%} | {found['leave_one_out']:.1%} | "
                f"{known['p50_ms'][name] / known['p50_ms'][LITE0.name]:.2f} |"
            )
        said.append(
            f"{title}: {known['pictures']:,} pictures of {known['classes']} classes, "
            f"{known['judged']:,} held out; {LITE0.name} alone is right on {known['only_lite0']}, "
            f"{LITE2.name} alone on {known['only_lite2']} (p = {known['p_value']:.2g})."
        )
    return "\n".join([*rows, "", " ".join(said), ""])
