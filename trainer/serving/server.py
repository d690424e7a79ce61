"""The HTTP server of the application: time limits, errors in JSON, graceful shutdown.

One thread reads all connections; complete requests are queued for the threads that run the
application. So a slow client does not delay others.
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

from droplens.inference.cores import cores
from trainer.serving.response import RequestError

# The most that SageMaker sends, by Batch Transform. The application accepts less, but a client that
# is disconnected while it sends does not receive the reason.
MAX_BODY_BYTES = 100 * 2**20
# From a request's first byte to its last. InvokeEndpoint itself waits no longer for a response.
REQUEST_SECONDS = 60.0
# From the first byte to the end of the headers, which are usually in one packet.
HEADER_SECONDS = 10.0
# The most open connections; no health check is accepted beyond it. Above the lower limit, idle and
# slow connections are closed.
CONNECTIONS = 500
CONNECTIONS_BEFORE_CLOSING = 400
# SageMaker stops a container by SIGTERM and kills it 30 seconds later.
DRAIN_SECONDS = 20.0
# Without a new connection for so long, the kernel's queue of connections is taken to be empty.
ARRIVAL_SECONDS = 0.2
# How long connections without a first byte are kept after the stop.
FIRST_BYTE_SECONDS = 3.0
LOOP_SECONDS = 1.0
HEALTH_CHECK = "/ping"


class _Slow(Error):
    code = 408


class _JsonErrorTask(ErrorTask):
    """Errors raised before the application is called, in the application's format."""

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
        response = RequestError(status, code, message).response()
        self.status = f"{status.value} {status.phrase}"
        self.response_headers = [("Content-Type", response.content_type)]
        self.content_length = len(response.body)
        self.set_close_on_finish()
        self.write(response.body)


class _Channel(HTTPChannel):
    """A connection. began: time of the first byte of the request that is being read."""

    error_task_class = _JsonErrorTask
    request: Any  # untyped in the superclass
    began = 0.0

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.began = time.time()
        received: bool = super().received(data)
        return received

    def refuse_if_slow(self, now: float) -> None:
        """Respond with an error to a request that is not complete in time, and read no more."""
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
    def is_waiting_for_client(self) -> bool:
        """Whether no request is being processed and no response is being sent."""
        return not (self.requests or self.total_outbufs_len or self.will_close)

    @property
    def closing_order(self) -> tuple[bool, float]:
        """Sort key: connections without complete headers first, the oldest first."""
        return bool(
            self.request and self.request.headers_finished
        ), self.began or self.creation_time


class Server(TcpWSGIServer):
    """A server that listens once created; `effective_port` is its port where `port` is 0."""

    channel_class = _Channel
    _is_stopping = False

    def __init__(self, application: Any, host: str, port: int) -> None:
        # A thread of its own: images may wait for memory or a core, and block all other threads.
        self._health_checks = ThreadedTaskDispatcher()
        self._health_checks.set_thread_count(1)
        super().__init__(
            application,
            adj=Adjustments(
                host=host,
                port=port,
                threads=max(2, cores()),
                max_request_body_size=MAX_BODY_BYTES + 1,
                # An image is read in one or two iterations of the loop rather than a dozen.
                recv_bytes=2**18,
                connection_limit=CONNECTIONS,
                cleanup_interval=LOOP_SECONDS,
                ident=None,
                asyncore_use_poll=True,
            ),
        )

    def add_task(self, channel: _Channel) -> None:
        """Queue a complete request; health checks have a queue of their own.

        SageMaker waits two seconds for the response to a health check.
        """
        request = channel.requests[0]
        if request.error or request.path != HEALTH_CHECK:
            super().add_task(channel)
        else:
            self._health_checks.add_task(channel)

    def maintenance(self, now: float) -> None:
        """Close idle connections, as the superclass does, slow requests, and surplus connections.

        Called every LOOP_SECONDS. Surplus connections are closed in `closing_order`, so that a
        health check is accepted however many connections there are.
        """
        super().maintenance(now)
        channels = list(self.active_channels.values())
        for channel in channels:
            channel.refuse_if_slow(now)
        surplus = len(channels) - CONNECTIONS_BEFORE_CLOSING
        if surplus > 0:
            waiting = [channel for channel in channels if channel.is_waiting_for_client]
            for channel in sorted(waiting, key=lambda one: one.closing_order)[:surplus]:
                channel.will_close = True

    def stop_on_signals(self) -> None:
        """Have SIGTERM and SIGINT end `run`, whether or not it has begun."""

        def stop(*_: object) -> None:
            self._is_stopping = True
            self.pull_trigger()  # wakes the loop

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def run(self) -> None:
        """Serve until a signal, then respond to the requests that have arrived and return."""
        while not self._is_stopping:
            self._turn(LOOP_SECONDS)
        stopped = time.monotonic()
        self._accept_pending(stopped + DRAIN_SECONDS)
        self.del_channel()
        self.socket.close()
        while self._has_work_left(time.monotonic() - stopped):
            self._turn(0.05)
        self.task_dispatcher.shutdown()
        self._health_checks.shutdown()

    def _accept_pending(self, deadline: float) -> None:
        """Accept the connections that the kernel has established already."""
        arrived = time.monotonic() + ARRIVAL_SECONDS
        while not self.in_connection_overflow and time.monotonic() < min(arrived, deadline):
            if select.select([self.socket], [], [], 0)[0]:
                arrived = time.monotonic() + ARRIVAL_SECONDS
            self._turn(ARRIVAL_SECONDS / 10)

    def _turn(self, seconds: float) -> None:
        self.asyncore.loop(timeout=seconds, use_poll=True, map=self._map, count=1)

    def _has_work_left(self, seconds: float) -> bool:
        """Whether requests are open or may still arrive, `seconds` after the stop."""
        channels = list(self.active_channels.values())
        open_requests = any(c.request or c.requests or c.total_outbufs_len for c in channels)
        silent = any(not c.began for c in channels)
        return (open_requests and seconds < DRAIN_SECONDS) or (
            silent and seconds < FIRST_BYTE_SECONDS
        )
