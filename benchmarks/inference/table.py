"""The figures of bench-inference as a Markdown table."""

from collections.abc import Mapping
from typing import Any


def markdown(result: Mapping[str, Any]) -> str:
    """What `make bench-inference` has measured."""
    model, listing, inventory = result["model"], result["listing"], result["inventory"]
    kept = f"{result['parts_kept_by_the_interruption']} of {result['parts']} parts kept"
    rows = {
        "images": f"{result['images']:,}, of {result['photographs']} photographs",
        "model": f"{model['classes']} classes, {model['side']} x {model['side']} pixels",
        "images a second of CPU time": f"{result['images_per_second_of_a_vcpu']:.0f}",
        "peak memory of the container": f"{result['resumed']['peak_memory_mb']} MB",
        "killed in the middle and started again": f"{kept}, {result['lost']} images lost, "
        f"{result['doubled']} doubled",
        f"listing of {listing['keys']:,} keys": f"{listing['cpu_seconds']:.0f} s of CPU time, "
        f"{listing['requests']:,} requests, memory grew by {listing['memory_growth_mb']} MB",
        f"S3 Inventory of {inventory['keys']:,} keys": f"{inventory['cpu_seconds']:.0f} s of CPU "
        f"time, memory grew by {inventory['memory_growth_mb']} MB",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {row} |" for name, row in rows.items())])
