"""Where both recipes' figures are kept: finetune's as they are, and probe's below their name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "training.json"
PROBE = "probe"


def keep(finetune: Mapping[str, Any]) -> None:
    """Replace all but what was measured of probe."""
    _write({**finetune, **{name: each for name, each in _read().items() if name == PROBE}})


def keep_probe(probe: Mapping[str, Any]) -> None:
    """Replace what was measured of probe."""
    _write(_read() | {PROBE: probe})


def _read() -> dict[str, Any]:
    if not RESULTS.is_file():
        return {}
    results: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))
    return results


def _write(results: Mapping[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
