"""What recipe finetune is to reach on one H100 with all of Stanford Cars, and what it reached."""

from collections.abc import Mapping
from typing import Any

TOP1 = 0.9
SECONDS = 60
RATIO = 3.0
IDLE = 0.1


def judged(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each goal with what was measured; `met` is None for what this run does not measure."""
    # (name in the result, goal, whether more is better)
    goals = (
        ("top1_last", TOP1, True),
        ("train_seconds", SECONDS, False),
        ("ratio_to_plain_loop", RATIO, True),
        ("gpu_idle_share", IDLE, False),
    )
    found = {}
    for name, goal, more in goals:
        measured = result.get(name)
        met = None
        if measured is not None:
            met = measured >= goal if more else measured <= goal
        found[name] = {"goal": goal, "measured": measured, "met": met}
    return found


def seconds_to(epochs: list[Mapping[str, Any]], before: float) -> float | None:
    """Seconds until the first evaluation that reached TOP1; None where none did.

    before: seconds before the first epoch.
    """
    passed = before
    for epoch in epochs:
        passed += epoch["seconds"]
        if epoch.get("validation_accuracy", 0) >= TOP1:
            return passed
    return None
