"""Sends containers' log lines to CloudWatch Logs."""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable

log = logging.getLogger("localcloud")

BATCH_SECONDS = 0.2
"""How long a line waits at most, so that a job with many lines costs a few calls a second."""


class LogShipper:
    """Writes log lines in order, from one background thread.

    append(group, stream, [(epoch ms, line), …]) writes lines to CloudWatch Logs.
    """

    def __init__(self, append: Callable[[str, str, list[tuple[int, str]]], None]):
        self._append = append
        self._lines: queue.Queue[tuple[str, str, int, str]] = queue.Queue()
        threading.Thread(target=self._run, name="log-shipper", daemon=True).start()

    def write(self, group: str, stream: str, line: str) -> None:
        self._lines.put((group, stream, int(time.time() * 1000), line))

    def flush(self) -> None:
        """Wait until all lines so far are written."""
        self._lines.join()

    def _run(self) -> None:
        while True:
            first = self._lines.get()
            time.sleep(BATCH_SECONDS)
            batch = [first]
            while not self._lines.empty():
                batch.append(self._lines.get())
            streams = defaultdict(list)
            for group, stream, at, line in batch:
                streams[group, stream].append((at, line))
            for (group, stream), lines in streams.items():
                try:
                    self._append(group, stream, lines)
                except Exception:  # later lines may succeed; the server's log has the error
                    log.exception("could not write %d lines to %s %s", len(lines), group, stream)
            for _ in batch:
                self._lines.task_done()
