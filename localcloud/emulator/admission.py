"""Admits signed requests of programs to the local cloud, and refuses those of web pages.

Any page open in a browser can send requests to 127.0.0.1. A form or a text/plain fetch needs no
CORS preflight (https://fetch.spec.whatwg.org/#simple-header), and by DNS rebinding a page's own
name resolves to 127.0.0.1, so that its requests are same-origin. Therefore, before anything else:

- a Host that is not a loopback name with our port is refused: the browser sends the page's name;
- an Origin is refused, as AWS clients send none and browsers do with all but GET and HEAD, and so
  is a Sec-Fetch-Site that names another site (https://www.w3.org/TR/fetch-metadata/);
- preflights are refused, and CORS headers that a handler sets are removed;
- a request without a valid signature by a key that this cloud issued is refused, but for health
  checks and responses of custom resources, whose URL is secret.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from localcloud.emulator.service import Response

log = logging.getLogger("localcloud.admission")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_SAME_SITE = ("none", "same-origin")
_HEALTH = ("/_ministack/health", "/_ministack/ready")
_CUSTOM_RESOURCE_RESPONSES = "/_ministack/cfn-response/"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingRequest:
    """A request. Header names are in lower case; `body` is None while it is not read."""

    method: str
    raw_path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes | None


class BodyNeeded(Exception):
    """The signature covers the body, which must be read first."""


class Admission:
    """ASGI middleware that refuses requests before the inner application is called."""

    def __init__(
        self, inner: Application, port: int, refusal: Callable[[IncomingRequest], Response | None]
    ):
        """refusal(request) returns the response to a request without a valid signature, None for
        a valid one; it raises BodyNeeded."""
        self._inner = inner
        self._hosts = {f"{name}:{port}" for name in LOOPBACK_NAMES}
        if port == 80:
            self._hosts |= set(LOOPBACK_NAMES)
        self._refusal = refusal

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = _joined(scope["headers"])
        if reason := self.browser_refusal(scope["method"], headers):
            log.warning("%s %s refused: %s", scope["method"], scope["path"][:200], reason)
            body = json.dumps({"__type": "AccessDenied", "message": reason}).encode()
            await _respond(send, (403, {"Content-Type": "application/json"}, body))
            return
        if not _needs_no_signature(scope["method"], scope["path"]):
            incoming = IncomingRequest(
                method=scope["method"],
                raw_path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
                query_string=scope.get("query_string", b"").decode("latin-1"),
                headers=headers,
                body=None,
            )
            try:
                refused = self._refusal(incoming)
            except BodyNeeded:
                read = await _read_body(receive)
                if read is None:
                    return
                receive = _replayed(read, receive)
                refused = self._refusal(replace(incoming, body=read))
            if refused is not None:
                log.warning("%s %s refused: its signature", scope["method"], scope["path"][:200])
                await _respond(send, refused)
                return
        await self._inner(scope, receive, _without_cors(send))

    def browser_refusal(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Why a request looks like one of a web page; None where it does not."""
        if headers.get("host", "").lower() not in self._hosts:
            return "the local cloud answers to 127.0.0.1 and localhost only, with its port"
        if "origin" in headers:
            return "the local cloud takes no requests from web pages (Origin)"
        if headers.get("sec-fetch-site", "none") not in _SAME_SITE:
            return "the local cloud takes no requests from web pages (Sec-Fetch-Site)"
        if method == "OPTIONS":
            return "the local cloud answers no preflights"
        return None


def _needs_no_signature(method: str, path: str) -> bool:
    """Whether a request is admitted without a signature."""
    if method == "PUT":
        return path.startswith(_CUSTOM_RESOURCE_RESPONSES)
    return method in ("GET", "HEAD") and path in _HEALTH


def _joined(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """A header on several lines is signed as its values joined by a comma."""
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode("utf-8")
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body; None where the client has disconnected."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A receive() that first returns the body that was read already."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


async def _respond(send: Send, response: Response) -> None:
    status, headers, body = response
    lines = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    raw = [(name.lower().encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _without_cors(send: Send) -> Send:
    async def send_without(message: Message) -> None:
        if "headers" in message:
            kept = [
                (name, value)
                for name, value in message["headers"]
                if not name.lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": kept}
        await send(message)

    return send_without
