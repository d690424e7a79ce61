"""Which requests reach the local cloud: signed ones, of programs and not of web pages.

Every page that a developer opens may send requests to 127.0.0.1. A form or a text/plain fetch needs
no permission of the server (https://fetch.spec.whatwg.org/#simple-header), and by DNS rebinding a
page's own name resolves to 127.0.0.1, so that the browser takes the cloud for the page's server.
Therefore, before anything else is looked at:

- a Host that is not a loopback name with our port is refused: the browser sends the page's name;
- an Origin is refused, as AWS clients send none and browsers do with all but GET and HEAD, and so
  is a Sec-Fetch-Site that tells of another site (https://www.w3.org/TR/fetch-metadata/);
- preflights are refused, and no header of CORS leaves here, whatever a handler behind sets;
- without a valid signature by a key that this cloud issued there is no answer but to a health
  check, and to the answer of a custom resource, whose URL is its secret.
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
_OWN_SITES = ("none", "same-origin")
_HEALTH = ("/_ministack/health", "/_ministack/ready")
_CUSTOM_RESOURCE_ANSWERS = "/_ministack/cfn-response/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request as it came; header names in lower case, `body` None where it is not read yet."""

    method: str
    raw_path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes | None


class BodyNeeded(Exception):
    """The signature covers the body, which must be read to check it."""


class Admission:
    """An ASGI application in front of another."""

    def __init__(
        self, inner: Application, port: int, refusal: Callable[[Arrival], Response | None]
    ):
        """`refusal` is what a request is answered whose signature does not hold, None where it
        does; it raises BodyNeeded."""
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
            await _answer(send, (403, {"Content-Type": "application/json"}, body))
            return
        if not _is_open(scope["method"], scope["path"]):
            arrival = Arrival(
                method=scope["method"],
                raw_path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
                query_string=scope.get("query_string", b"").decode("latin-1"),
                headers=headers,
                body=None,
            )
            try:
                refused = self._refusal(arrival)
            except BodyNeeded:
                read = await _body(receive)
                if read is None:
                    return
                receive = _again(read, receive)
                refused = self._refusal(replace(arrival, body=read))
            if refused is not None:
                log.warning("%s %s refused: its signature", scope["method"], scope["path"][:200])
                await _answer(send, refused)
                return
        await self._inner(scope, receive, _without_cors(send))

    def browser_refusal(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Why a request looks like one of a web page; None where it does not."""
        if headers.get("host", "").lower() not in self._hosts:
            return "the local cloud answers to 127.0.0.1 and localhost only, with its port"
        if "origin" in headers:
            return "the local cloud takes no requests from web pages (Origin)"
        if headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            return "the local cloud takes no requests from web pages (Sec-Fetch-Site)"
        if method == "OPTIONS":
            return "the local cloud answers no preflights"
        return None


def _is_open(method: str, path: str) -> bool:
    """Whether it is answered without a signature."""
    if method == "PUT":
        return path.startswith(_CUSTOM_RESOURCE_ANSWERS)
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


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read already, then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


async def _answer(send: Send, response: Response) -> None:
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
