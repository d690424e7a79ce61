"""The demo: trains a classifier on a folder of labelled images, and shows every step."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class DemoError(Exception):
    """The demo cannot continue. The message is the reason; `hint` is what the user can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
