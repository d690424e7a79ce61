"""A semaphore whose holders take more than one unit."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class WeightedSemaphore:
    """`size` units that threads share; who needs more than is free waits.

    A demand above `size` waits for all units and holds them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._changed = Condition()

    @contextmanager
    def held(self, units: int) -> Iterator[None]:
        """Hold `units`, once they are free, until the context ends."""
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
