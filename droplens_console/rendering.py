"""Pages as HTML: Jinja2 templates in which text cannot become markup."""

import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from droplens.domain.figures import percent
from droplens.domain.run import Status
from droplens.domain.text import one_line
from droplens.report.formatting import points
from droplens.report.markup import Child, element
from droplens.state.reviews import MOST_REVIEWS_COUNTED
from droplens_cli.table import measured, when
from droplens_console.addresses import run_address
from droplens_console.data.readers import Readers
from droplens_console.stack import ConsoleStack

TEMPLATES = Path(__file__).parent / "templates"
# What a status means for a person: a class name of the style sheet.
_KINDS = {
    Status.LIVE: "good",
    Status.FAILED: "bad",
    Status.REFUSED: "bad",
    Status.WAITING: "held",
    Status.AWAITING: "held",
}
_MOST = 300  # characters of a name or a reason that a page shows


def stack_of(request: Request) -> ConsoleStack:
    """The stack that the console is of."""
    stack: ConsoleStack = request.app.state.stack
    return stack


def readers_of(request: Request) -> Readers:
    """The readers of that stack."""
    readers: Readers = request.app.state.readers
    return readers


def page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """A whole page. template: below templates/pages/; context: its variables."""
    shared = {
        "stack": stack_of(request),
        "navigation": request.app.state.navigation,
        "here": request.url.path,
    }
    return HTMLResponse(fragment(f"pages/{template}", **shared, **context), status)


def fragment(template: str, **context: Any) -> str:
    """A template as text. template: below templates/."""
    return _environment.get_template(template).render(**context)


def problem(request: Request, status: int, sentence: str, next_step: str = "") -> Response:
    """An error: JSON for the console's own script, else a page."""
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"error": sentence, "next": next_step}, status)
    return page(request, "error.html", status, sentence=sentence, next_step=next_step)


def to_markup(children: Child | Iterable[Child]) -> Markup:
    """Elements of the report's pages, as a template takes them."""
    root = element("div", children)
    text: str = ET.tostring(root, encoding="unicode", method="html")
    return Markup(text)  # noqa: S704  serialised with its text escaped


def with_fields(
    change: Callable[[Request, Mapping[str, str]], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for a form that the console's script sends, as JSON.

    change: called in a thread with the form's fields, since it may call AWS.
    """

    async def endpoint(request: Request) -> Response:
        try:
            fields = await request.json()
        except ValueError:
            fields = None
        if not isinstance(fields, dict) or not all(isinstance(one, str) for one in fields.values()):
            raise HTTPException(400, "the request is no form of the console")
        return await run_in_threadpool(change, request, fields)

    return endpoint


def _ago(time: datetime | str, now: datetime) -> str:
    then = datetime.fromisoformat(time) if isinstance(time, str) else time
    return duration((now - then).total_seconds())


def counted_reviews(count: int) -> str:
    """How many reviews wait, of which MOST_REVIEWS_COUNTED are counted."""
    return f"{count:,} or more" if count >= MOST_REVIEWS_COUNTED else f"{count:,}"


def duration(seconds: float) -> str:
    """A length of time: "42 s", "5 min", "3 h", "4 days"."""
    whole = max(0, round(seconds))
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if whole < most:
            return f"{whole // unit} {name}"
    return f"{whole // 86_400} days"


_environment = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "ago": _ago,
    "duration": duration,
    "interval": lambda card: measured(card).partition(" (")[2].removesuffix(")"),
    "kind": lambda status: _KINDS.get(Status(status), "plain"),
    "line": lambda text: one_line(str(text), _MOST),
    "number": lambda count: f"{int(count):,}",
    "percent": percent,
    "points": points,
    "run_address": run_address,
    "reviews": counted_reviews,
    "status": lambda status: Status(status).value.replace("_", " "),
    "when": when,
}
