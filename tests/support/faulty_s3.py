"""A proxy to a real S3 server that injects the faults that a test chooses."""

import http.client
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

_HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}


class Fault(Enum):
    """The fault injected into a request."""

    SLOW_DOWN = auto()  # 503, as S3 throttles
    INTERNAL_ERROR = auto()  # 500
    RESET = auto()  # the connection is reset, for a GET in the middle of the response's body
    CUT = auto()  # the connection is closed in the middle of the response's body
    SLOW = auto()  # the body arrives in small pieces, slowly


@dataclass(frozen=True, slots=True)
class Request:
    """A request before it is forwarded. key: without the bucket; query: as sent; before: how often
    the same request was received before."""

    method: str
    key: str
    query: str
    before: int


Fate = Callable[[Request], Fault | None]


def nothing(_: Request) -> None:
    """No fault."""
    return


class FaultyS3:
    """The proxy in front of the server at `upstream`, while its context is open.

    fate: chooses each request's fault, None for no fault; it may also change the bucket
    first. Called by several threads. met: how often each fault was injected.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.fate: Fate = nothing
        self.met: Counter[Fault] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()
        front = self

        class Handler(_Handler):
            s3 = front

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator["FaultyS3"]:
        """Answer requests meanwhile."""
        thread = Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def meet(self, method: str, target: str) -> Fault | None:
        """What becomes of this request."""
        path, _, query = target.partition("?")
        with self._lock:
            before = self._seen[method, target]
            self._seen[method, target] += 1
        key = unquote(path).removeprefix("/").partition("/")[2]
        fault = self.fate(Request(method, key, query, before))
        if fault:
            with self._lock:
                self.met[fault] += 1
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: FaultyS3

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.s3.meet(self.command, self.path)
        if fault is Fault.SLOW_DOWN:
            self._refuse(503, "SlowDown")
            return
        if fault is Fault.INTERNAL_ERROR:
            self._refuse(500, "InternalError")
            return
        if fault in (Fault.RESET, Fault.CUT) and self.command != "GET":
            self._hang_up(fault)
            return
        upstream = http.client.HTTPConnection(self.s3.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            self._answer(answer, answer.read(), fault)
        finally:
            upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _relay  # noqa: N815  the server's names

    def _answer(self, answer: http.client.HTTPResponse, body: bytes, fault: Fault | None) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*_HOP_BY_HOP, "content-length"):
                self.send_header(name, value)
        head = self.command == "HEAD"
        length = answer.getheader("content-length", "0") if head else str(len(body))
        if answer.status != http.HTTPStatus.NO_CONTENT:
            self.send_header("content-length", length)
        self.end_headers()
        if fault in (Fault.RESET, Fault.CUT):
            self.wfile.write(body[: len(body) // 2])
            self._hang_up(fault)
        elif fault is Fault.SLOW:
            step = max(1, len(body) // 5)
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                time.sleep(0.02)
        else:
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>Please wait.</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self, fault: Fault) -> None:
        self.close_connection = True
        if fault is Fault.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Nothing: the tests ask `met`."""
