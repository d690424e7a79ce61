"""The recorded AWS events in events/."""

import json
from pathlib import Path
from typing import Any


def recorded(root: Path, name: str) -> dict[str, Any]:
    """One of the events in events/."""
    return dict(json.loads((root / "events" / f"{name}.json").read_text("utf-8")))
