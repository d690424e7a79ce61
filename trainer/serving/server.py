"""The HTTP server around the application: it waits for nobody, refuses in JSON, stops in order.

One thread reads all connections as their bytes come in; a request that is whole queues for the
threads that answer. So a slow client keeps nobody else waiting.
"""

import select
import signal
import time
from http import HTTPStatus
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import Error

from trainer.cpu import cores
from trainer.serving.answer import Refused

# As much as SageMaker sends at all, by Batch Transform, though the application takes less: who is
# cut off while sending sees a broken connection, and not why.
MAX_BODY_BYTES = 100 * 2**20
# From a request's first byte to its last. InvokeEndpoint itself waits no longer for an answer.
REQUEST_SECONDS = 60.0
# From there to the end of its headers, which are one packet of whoever has something to ask.
HEADER_SECONDS = 10.0
# Nobody more is accepted, not even a health check: before that, room is made.
CONNECTIONS = 500
CROWDED = 400
# SageMaker stops a container by SIGTERM and kills it 30 seconds later.
DRAIN_SECONDS = 20.0
# Once nobody has connected for so long, those whom a busy kernel had in hand are there.
ARRIVAL_SECONDS = 0.2
# And so is the first byte of whoever is connected and has something to ask.
FIRST_BYTE_SECONDS = 3.0
LOOP_SECONDS = 1.0
HEALTH_CHECK = "/ping"


class _Slow(Error):
    code = 408


class _JsonErrorTask(ErrorTask):
    """What is refused before the application sees it, told as the application would."""

    def execute(self) -> None:
        error = self.request.error
        status = HTTPStatus(error.code)
        code = {
            HTTPStatus.REQUEST_TIMEOUT: "http.too_slow",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "http.too_large",
            HTTPStatus.INTERNAL_SERVER_ERROR: "server.fault",
        }.get(status, "http.malformed")
        message = f"{status.phrase}: {error.body}."
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            message = f"the body has more than {MAX_BODY_BYTES:,} bytes"
        answer = Refused(status, code, message).answer()
        self.status = f"{status.value} {status.phrase}"
        self.response_headers = [("Content-Type", answer.content_type)]
        self.content_length = len(answer.body)
        self.set_close_on_finish()
        self.write(answer.body)


class _Channel(HTTPChannel):
    """A connection. began: when the request that is being read did."""

    error_task_class = _JsonErrorTask
    request: Any  # the superclass says no more of it
    began = 0.0

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.began = time.time()
        received: bool = super().received(data)
        return received

    def refuse_if_slow(self, now: float) -> None:
        """Answer a request whose end has not come in time, and read no more of it."""
        with self.requests_lock:
            request = self.request
            if request is None or self.requests:
                return
            seconds = REQUEST_SECONDS if request.headers_finished else HEADER_SECONDS
            if now - self.began < seconds:
                return
            request.error = _Slow(f"the request took more than {seconds:g} seconds")
            request.completed = True
            self.request = None
            self.requests.append(request)
            self.server.add_task(self)

    @property
    def waits_for_its_client(self) -> bool:
        """Whether nothing of it is being answered."""
        return not (self.requests or self.total_outbufs_len or self.will_close)

    @property
    def patience(self) -> tuple[bool, float]:
        """What is less is ended first: no headers yet, then for how long it has been so."""
        return bool(
            self.request and self.request.headers_finished
        ), self.began or self.creation_time


class Server(TcpWSGIServer):
    """Listens from the start; `effective_port` tells the port where 0 was asked."""

    channel_class = _Channel
    _is_stopping = False

    def __init__(self, application: Any, host: str, port: int) -> None:
        # Pictures may wait for memory or a core, and all threads with them; health checks never do.
        self._health_checks = ThreadedTaskDispatcher()
        self._health_checks.set_thread_count(1)
        super().__init__(
            application,
            adj=Adjustments(
                host=host,
                port=port,
                threads=max(2, cores()),
                max_request_body_size=MAX_BODY_BYTES + 1,
                # A picture comes in one or two turns of the loop rather than a dozen.
                recv_bytes=2**18,
                connection_limit=CONNECTIONS,
                cleanup_interval=LOOP_SECONDS,
                ident=None,
                asyncore_use_poll=True,
            ),
        )

    def add_task(self, channel: _Channel) -> None:
        """Queue a whole request, a health check apart from all pictures.

        SageMaker waits two seconds for a check's answer, however many pictures there are.
        """
        request = channel.requests[0]
        if request.error or request.path != HEALTH_CHECK:
            super().add_task(channel)
        else:
            self._health_checks.add_task(channel)

    def maintenance(self, now: float) -> None:
        """Close idle connections, as the superclass does, end slow requests, and make room.

        Called every LOOP_SECONDS. Of too many connections those close that have told least: they
        may be as many as they like, a health check is accepted.
        """
        super().maintenance(now)
        channels = list(self.active_channels.values())
        for channel in channels:
            channel.refuse_if_slow(now)
        surplus = len(channels) - CROWDED
        if surplus > 0:
            waiting = [channel for channel in channels if channel.waits_for_its_client]
            for channel in sorted(waiting, key=lambda one: one.patience)[:surplus]:
                channel.will_close = True

    def stop_on_signals(self) -> None:
        """Have SIGTERM and SIGINT end `run`, whether or not it has begun."""

        def stop(*_: object) -> None:
            self._is_stopping = True
            self.pull_trigger()  # wakes the loop

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def run(self) -> None:
        """Serve until a signal comes, then answer what has arrived and return."""
        while not self._is_stopping:
            self._turn(LOOP_SECONDS)
        stopped = time.monotonic()
        self._accept_whoever_has_connected(stopped + DRAIN_SECONDS)
        self.del_channel()
        self.socket.close()
        while self._has_work_left(time.monotonic() - stopped):
            self._turn(0.05)
        self.task_dispatcher.shutdown()
        self._health_checks.shutdown()

    def _accept_whoever_has_connected(self, deadline: float) -> None:
        """Whoever is connected by now has been promised an answer."""
        arrived = time.monotonic() + ARRIVAL_SECONDS
        while not self.in_connection_overflow and time.monotonic() < min(arrived, deadline):
            if select.select([self.socket], [], [], 0)[0]:
                arrived = time.monotonic() + ARRIVAL_SECONDS
            self._turn(ARRIVAL_SECONDS / 10)

    def _turn(self, seconds: float) -> None:
        self.asyncore.loop(timeout=seconds, use_poll=True, map=self._map, count=1)

    def _has_work_left(self, seconds: float) -> bool:
        """Whether somebody is still to be answered, or may still ask, so long after the stop."""
        channels = list(self.active_channels.values())
        asked = any(c.request or c.requests or c.total_outbufs_len for c in channels)
        silent = any(not c.began for c in channels)
        return (asked and seconds < DRAIN_SECONDS) or (silent and seconds < FIRST_BYTE_SECONDS)
