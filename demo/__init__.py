"""The demo: a folder of labelled pictures becomes a classifier before the reader's eyes."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The S3 layout and the states of a run are known in one place, the functions' layer.
sys.path.append(str(ROOT / "layers" / "droplens"))


class DemoError(Exception):
    """The demo cannot go on. The message says what is wrong; `hint` what its reader can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
