"""The stack as all pages use it, from many threads at once."""

import threading
from typing import Any

from droplens.state.cards import Cards
from droplens.state.runs import Runs
from droplens_cli.stack import Stack
from droplens_cli.target import Target

OWNER = "droplens_console"


class ConsoleStack(Stack):
    """A stack whose clients are made once, and whose tables once for each thread.

    Clients of boto3 may be shared by threads, sessions and resources may not.
    """

    def __init__(self, target: Target) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._tables = threading.local()
        super().__init__(target)

    def client(self, service: str) -> Any:
        """The client of a service."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = super().client(service)
            return self._clients[service]

    def table(self, output: str) -> Any:
        """This thread's resource of the table that an output names."""
        known: dict[str, Any] = self._tables.__dict__
        if output not in known:
            with self._lock:
                known[output] = super().table(output)
        return known[output]

    @property
    def runs(self) -> Runs:
        """The runs, for this thread."""
        return Runs(self.runs_table, owner=OWNER)

    @property
    def cards(self) -> Cards:
        """The model cards."""
        return Cards(self.bucket)
