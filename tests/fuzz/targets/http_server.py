"""The trainer's server, over a socket: it responds to any input in HTTP and keeps running."""

import base64
import os
import re
import socket
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn, cast

from droplens.imaging.prepare import ImageError
from tests.fuzz.engine import Target
from trainer.serving.app import Application, Model
from trainer.serving.server import Server


class _NoModel:
    """The model's error for bytes that are no image: decoding has a target of its own."""

    def predict(self, _data: bytes) -> NoReturn:
        raise ImageError("image.unreadable", "no picture")

    explain = predict


@cache
def _port(_process: int) -> int:
    server = Server(Application(cast(Model, _NoModel())), "127.0.0.1", 0)
    threading.Thread(target=server.run, daemon=True).start()
    port: int = cast(Any, server).effective_port
    return port


def _send(data: bytes) -> None:
    port = _port(os.getpid())
    _statuses(port, data)
    assert _statuses(port, b"GET /ping HTTP/1.0\r\n\r\n") == ["200"], "it does not answer any more"


def _statuses(port: int, data: bytes) -> list[str]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        answer = b""
        try:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            while piece := line.recv(65536):
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # refused before all of it was read
    statuses = re.findall(r"HTTP/1\.[01] (\d{3}) ", answer.decode("latin-1"))
    assert not [status for status in statuses if status >= "500" and status != "501"], statuses
    return statuses


def _requests() -> Mapping[str, bytes]:
    line = b'{"image": "%s"}\n' % base64.b64encode(b"\xff\xd8 picture")

    def post(kind: bytes, body: bytes, more: bytes = b"") -> bytes:
        head = b"POST /invocations HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: "
        length = b"Content-Length: %d\r\n" % len(body) if b"chunked" not in more else b""
        return head + kind + b"\r\n" + length + more + b"\r\n" + body

    chunked = b"5\r\nfive!\r\n3;x=y\r\nabc\r\n0\r\nX-T: v\r\n\r\n"
    return {
        "ping": b"GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "picture": post(b"image/jpeg", b"\xff\xd8 picture"),
        "lines": post(b"application/jsonlines", line * 2, b"Accept: application/jsonlines\r\n"),
        "chunked": post(b"image/jpeg", chunked, b"Transfer-Encoding: chunked\r\n"),
        "two": b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\nGET /execution-parameters HTTP/1.0\r\n\r\n",
    }


TARGETS = [Target("http", _requests, _send, ())]
