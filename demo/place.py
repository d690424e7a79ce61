"""The interface of the place where the journey runs: the local cloud or an account."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from demo.journey import Journey
from demo.screen import Screen


class Place(Protocol):
    """One cloud during one demo.

    title: of the step that deploys; says: the place in words; folder: for the demo's own files;
    url: the endpoint URL for clients, or ""; stays_up: whether it runs afterwards;
    removes: whether everything that the demo created is removed.
    """

    title: str
    says: str
    folder: Path
    url: str
    stays_up: bool
    removes: bool

    @property
    def last_titles(self) -> list[str]:
        """The titles of the steps after the predictions."""

    @property
    def deployed(self) -> str:
        """Where the stack is, in words."""

    def deploy(self, watch: Callable[[str], None]) -> None:
        """Deploy the stack. watch: gets lines on its progress."""

    def connect(self, classifier: str) -> Journey:
        """The classifier's journey through that stack."""

    def examine(self, screen: Screen, journey: Journey, folder: str, run_id: str) -> None:
        """Check what only this place can show. folder: below input/<classifier>/."""

    def close(self, screen: Screen) -> None:
        """Stop or remove it; called in every case, also after an exception."""
