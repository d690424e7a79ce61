"""Both recipes' figures lie in one file: finetune's as they are, and probe's below their name."""

from collections.abc import Mapping
from typing import Any

from benchmarks import harness

NAME, PROBE = "training", "probe"


def keep(finetune: Mapping[str, Any]) -> None:
    """Replace all but what was measured of probe."""
    probe = {name: each for name, each in harness.stored(NAME).items() if name == PROBE}
    harness.keep(NAME, {**finetune, **probe})


def keep_probe(probe: Mapping[str, Any]) -> None:
    """Replace what was measured of probe. Where there is no file yet, it has its origin."""
    origin = {name: probe[name] for name in harness.PROVENANCE}
    harness.keep(NAME, {**origin, **harness.stored(NAME), PROBE: probe})
