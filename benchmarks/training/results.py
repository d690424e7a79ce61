"""Figures of both recipes, in one file: those of finetune as they are, the others by their name."""

from collections.abc import Mapping
from typing import Any

from benchmarks import harness

NAME, PROBE, COMPARISON = "training", "probe", "comparison"


def keep(finetune: Mapping[str, Any]) -> None:
    """Replace all but what has a name."""
    named = {
        name: each for name, each in harness.stored(NAME).items() if name in (PROBE, COMPARISON)
    }
    harness.keep(NAME, {**finetune, **named})


def keep_probe(probe: Mapping[str, Any]) -> None:
    """Replace what was measured of probe."""
    keep_named(PROBE, probe)


def keep_named(name: str, figures: Mapping[str, Any]) -> None:
    """Replace what was measured under this name. Where there is no file yet, it has its origin."""
    origin = {each: figures[each] for each in harness.PROVENANCE}
    harness.keep(NAME, {**origin, **harness.stored(NAME), name: figures})
