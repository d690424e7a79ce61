"""Entry of reviews in threads, beside the calls that follow a stored result."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from threading import Lock

from droplens.domain.review import Review
from droplens.runtime.telemetry import logger


@dataclass(frozen=True, slots=True)
class ReviewEntries:
    """The reviews of one batch of images; thread-safe. enter: puts one into the queue."""

    enter: Callable[[Review], object]
    threads: Executor
    _started: list[tuple[Review, "Future[object]"]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def start(self, review: Review) -> None:
        """Enter a review; its failure is among `failed`."""
        with self._lock:
            self._started.append((review, self.threads.submit(self.enter, review)))

    def failed(self) -> set[str]:
        """Wait for all that were started; the keys of images whose review was not entered."""
        with self._lock:
            started = list(self._started)
            self._started.clear()
        keys = set()
        for review, entry in started:
            if (error := entry.exception()) is not None:
                logger.warning("review was not entered", key=review.key, exc_info=error)
                keys.add(review.key)
        return keys
