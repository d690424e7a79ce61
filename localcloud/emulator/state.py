"""The state of Batch and SageMaker, in one JSON file that persists across restarts."""

import json
import threading
from pathlib import Path
from typing import Any

Table = dict[str, dict[str, Any]]


class State:
    """Named tables of JSON records. Change records only under `lock`, then `save`."""

    def __init__(self, path: Path):
        self._path = path
        self.lock = threading.RLock()
        self._tables: dict[str, Table] = {}
        if path.is_file():
            self._tables = json.loads(path.read_text(encoding="utf-8"))

    def table(self, name: str) -> Table:
        return self._tables.setdefault(name, {})

    def save(self) -> None:
        """Write the file atomically: after a crash it has the last complete state."""
        with self.lock:
            text = json.dumps(self._tables)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".new")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._path)
