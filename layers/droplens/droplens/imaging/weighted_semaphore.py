"""Room for so much at once: threads that need more than is free wait for their turn."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Room:
    """`size` units for whoever takes them. A demand above all of it takes all of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._changed = Condition()

    @contextmanager
    def taken(self, units: int) -> Iterator[None]:
        """Hold `units` of the room, once they are free."""
        units = min(units, self.size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= units)
            self._free -= units
        try:
            yield
        finally:
            with self._changed:
                self._free += units
                self._changed.notify_all()
