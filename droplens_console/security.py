"""Which requests the console serves: those of its own pages, in a browser that was let in.

Any web page, program or user of the machine can send requests to 127.0.0.1, and the console holds
the user's AWS credentials. So a request needs the exact Host (DNS rebinding), the cookie that was
exchanged for the token in the address, no other site as its origin (Origin and fetch metadata,
https://www.w3.org/TR/fetch-metadata/), and to change anything, this origin.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENTER = "/enter"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Where a response has one of these itself, that one stays.
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_READING = ("GET", "HEAD")
# A page and not a redirect: the cookie is SameSite=Strict, so that a browser would not send it
# with a redirect if another site's link, as in a terminal on the web, led here.
_ENTERED = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">
<link rel="icon" href="/static/icon.svg"><title>Droplens</title></head>
<body><p><a href="/">Open the console</a></p></body></html>
"""


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in. port: where the console listens.

    token: in the address that the terminal shows; cookie: what the browser gets for it. A cookie
    is sent to all ports of a host: its name has the port, so that two consoles do not mix theirs.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _once: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> tuple[str, str]:
        """The values of Host that are served."""
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    @property
    def cookie_name(self) -> str:
        """The cookie's name."""
        return f"droplens-{self.port}"

    @property
    def address(self) -> str:
        """The address for the user, with the token."""
        return self._address(self.token)

    def address_once(self) -> str:
        """An address with a token of its own that works once.

        For the command line of a browser, which other users of the machine can see.
        """
        self._once.append(secrets.token_urlsafe(32))
        return self._address(self._once[-1])

    def accepts(self, token: str) -> bool:
        """Whether the token lets in; one of `address_once` is used up by this."""
        for one in self._once:
            if _same(one, token):
                self._once.remove(one)
                return True
        return _same(self.token, token)

    def knows(self, cookies: str) -> bool:
        """Whether a Cookie header has this console's cookie."""
        try:
            found = SimpleCookie(cookies).get(self.cookie_name)
        except CookieError:
            return False
        return found is not None and _same(self.cookie, found.value)

    def _address(self, token: str) -> str:
        return f"http://{self.hosts[0]}{ENTER}?token={token}"


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


class Guard:
    """Middleware that refuses what must not be served, and sets the headers of every response."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await PlainTextResponse("there are no web sockets here", 403)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        response = self._own_response(Request(scope))
        await (response or self.app)(scope, receive, with_headers)

    def _own_response(self, request: Request) -> Response | None:
        """The refusal, or the answer to a token; None for a request that is to be served."""
        headers = request.headers
        if headers.get("host") not in self.access.hosts or len(headers.getlist("host")) != 1:
            return _refused("this is not the console's address")
        if request.method in _READING and request.url.path == ENTER:
            # The token is the proof: the address may come from any page.
            if not self.access.accepts(request.query_params.get("token", "")):
                return _refused("this address is used up or wrong; `droplens console` prints one")
            return self._let_in()
        if not self.access.knows(headers.get("cookie", "")):
            return _refused("open the address that `droplens console` printed", 401)
        if problem := _cross_origin(request.method, headers):
            return _refused(problem)
        return None

    def _let_in(self) -> Response:
        response = HTMLResponse(_ENTERED)
        response.set_cookie(
            self.access.cookie_name, self.access.cookie, httponly=True, samesite="strict"
        )
        return response


def _cross_origin(method: str, headers: Headers) -> str | None:
    """Why a request is not of the console's own pages, or None. Its Host is checked already.

    Every browser of today sends Sec-Fetch-Site; programs with the cookie need not.
    """
    site = headers.get("sec-fetch-site")
    own: Mapping[bool, tuple[str | None, ...]] = {
        True: (None, "same-origin", "none"),  # none: the address bar, a bookmark
        False: (None, "same-origin"),
    }
    if site not in own[method in _READING]:
        return "the request is of another site"
    origin = headers.get("origin")
    here = f"http://{headers['host']}"
    if origin != here and not (origin is None and method in _READING):
        return "the request is of another origin"
    return None


def _refused(reason: str, status: int = 403) -> Response:
    return PlainTextResponse(f"refused: {reason}\n", status)
