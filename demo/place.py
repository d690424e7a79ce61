"""Where the journey runs: the same code walks through the local cloud and through an account."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from demo.journey import Journey
from demo.screen import Screen


class Place(Protocol):
    """One cloud for the length of one demo.

    title: of the step that deploys; says: the place in words; folder: for the demo's own files;
    url: the endpoint that clients have to be told, or ""; stays_up: whether it runs afterwards;
    removes: whether all that the demo made is gone then.
    """

    title: str
    says: str
    folder: Path
    url: str
    stays_up: bool
    removes: bool

    @property
    def last_titles(self) -> list[str]:
        """The steps after the answers."""

    @property
    def deployed(self) -> str:
        """Where the stack is now, in words."""

    def deploy(self, watch: Callable[[str], None]) -> None:
        """Have the stack there. watch: told what is going on."""

    def connect(self, classifier: str) -> Journey:
        """The classifier's journey through that stack."""

    def examine(self, screen: Screen, journey: Journey, folder: str, run_id: str) -> None:
        """Check what only this place can show. folder: of the exam below input/<classifier>/."""

    def close(self, screen: Screen) -> None:
        """Leave the place as it is to be left, whatever has happened before."""
