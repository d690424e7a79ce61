"""The demo: a folder of labelled pictures becomes a classifier before the reader's eyes."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class DemoError(Exception):
    """The demo cannot go on. The message says what is wrong; `hint` what its reader can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
