"""Brings the index of results up to date with the bucket, in a thread of its own.

A listing names every result with its ETag; those that the index does not have are read, the last
stored first, so that a first page is there before the rest. An interrupted pass is continued by the
next: what was read is in the index.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from droplens.aws.s3 import Bucket
from droplens.classify.former_results import MAX_RESULT_BYTES
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens_cli.results import Row, to_row
from droplens_cli.session import CONNECTIONS
from droplens_console.data.results_index import Indexed, ResultsIndex

# Results that are stored in the index by one transaction.
_AT_ONCE = 8 * CONNECTIONS
# The next listing begins so many times as long after a pass as its listing took, and not before
# `_LEAST_PAUSE` seconds: a page that stays open must not list 100,000 results all the time.
_PAUSE_PER_LISTING, _LEAST_PAUSE = 10.0, 5.0
# A page waits for a pass whose listing takes less.
_SHORT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a pass is. listed: results in the bucket; waiting: of these not in the index yet;
    complete: the index has been up to date once; error: why the last pass ended early, or ""."""

    listed: int = 0
    waiting: int = 0
    complete: bool = False
    error: str = ""


class ResultsSync:
    """Keeps the index of one classifier up to date while somebody asks for it."""

    def __init__(self, bucket: Bucket, index: ResultsIndex, classifier: str) -> None:
        self._bucket = bucket
        self._index = index
        self._classifier = classifier
        self._lock = threading.Lock()
        self._next = 0.0
        self._running = False
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self._listing_seconds = 0.0
        self.progress = Progress()

    def wake(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a pass in a thread, unless one runs or the last was just now."""
        with self._lock:
            if self._running or self._stopped.is_set() or clock() < self._next:
                return
            self._running = True
            self._ended.clear()
        threading.Thread(target=self._pass, name="results-sync", daemon=True).start()

    def wait(self) -> None:
        """Wait for the end of a running pass, if it is a short one, as that of a small bucket."""
        if self._running and self._listing_seconds < _SHORT_SECONDS:
            self._ended.wait(2 * _SHORT_SECONDS)

    def stop(self) -> None:
        """End a running pass soon, and begin no other."""
        self._stopped.set()

    def run(self) -> None:
        """One pass. Raises ClientError and BotoCoreError of the listing and of reading."""
        began = time.monotonic()
        listed = list(self.listed())
        self._listing_seconds = time.monotonic() - began
        missing = self._index.missing(self._classifier, listed)
        left = len(missing)
        self._note(listed=len(listed), waiting=left)
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            for start in range(0, len(missing), _AT_ONCE):
                if self._stopped.is_set():
                    return
                batch = missing[start : start + _AT_ONCE]
                self._index.add(self._classifier, threads.map(self._read, batch))
                left -= len(batch)
                self._note(listed=len(listed), waiting=left)
        self._note(listed=len(listed), waiting=0, complete=True)
        self._next = time.monotonic() + max(
            _PAUSE_PER_LISTING * self._listing_seconds, _LEAST_PAUSE
        )

    def _pass(self) -> None:
        try:
            self.run()
        except (ClientError, BotoCoreError, sqlite3.Error) as error:
            self._next = time.monotonic() + _LEAST_PAUSE
            self._note(listed=self.progress.listed, waiting=self.progress.waiting, error=str(error))
        finally:
            with self._lock:
                self._running = False
                self._ended.set()

    def _note(self, *, listed: int, waiting: int, complete: bool = False, error: str = "") -> None:
        self.progress = Progress(
            listed=listed,
            waiting=waiting,
            complete=complete or self.progress.complete,
            error=error,
        )

    def listed(self) -> Iterator[Indexed]:
        """The objects that may be results, in the order of their keys."""
        for entry in self._bucket.entries(f"{layout.RESULTS}{self._classifier}/"):
            if entry.key.endswith(".json"):
                yield Indexed(entry.key, entry.etag, entry.stored_at.timestamp())

    def _read(self, one: Indexed) -> tuple[Indexed, Row | None]:
        """The columns of a result; None where it is none, or is gone by now."""
        try:
            body, info = self._bucket.read_at_most(one.key, MAX_RESULT_BYTES)
            found = json.loads(body) if body is not None else None
        except (ObjectMissing, ValueError, RecursionError):
            return one, None
        # It may have been replaced since the listing.
        now = Indexed(one.key, info.etag, info.stored_at.timestamp())
        return now, to_row(found) if isinstance(found, dict) else None
