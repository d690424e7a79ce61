"""Values that are read again only after some time, by one thread for all."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class TimedCache:
    """Values by key. Errors are not kept: the next call reads again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._values: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable, seconds: float, read: Callable[[], T]) -> T:
        """The value of `key`, by `read` if it is older than `seconds`."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            until, value = self._values.get(key, (0.0, None))
            if time.monotonic() >= until:
                value = read()
                self._values[key] = time.monotonic() + seconds, value
            found: T = value
            return found
