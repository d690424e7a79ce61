"""The overview: classifiers, the newest run as it happens, today's counts, what waits."""

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from droplens.domain.run import IN_PROGRESS
from droplens_console import events
from droplens_console.data.journey import begun, steps
from droplens_console.data.overview import TODAY, Count, overview, stored_today
from droplens_console.pages.link import Link
from droplens_console.rendering import fragment, page, readers_of, stack_of

LINK = Link("Overview", "/")
# It takes a scan of the Runs table, and a few requests for each classifier. The newest run, which
# is followed, is read each time.
_OVERVIEW_SECONDS = 5.0
# A listing of results takes a request of S3 for each 1,000 of them.
_COUNT_SECONDS = 30.0


def show(request: Request) -> Response:
    """The page."""
    return page(request, "overview.html", **_read(request))


def live(request: Request) -> Response:
    """Its content, whenever it has changed."""
    return events.live(request, lambda: fragment("pages/overview_live.html", **_read(request)))


def _read(request: Request) -> dict[str, Any]:
    stack, readers = stack_of(request), readers_of(request)
    found = readers.cache.get("overview", _OVERVIEW_SECONDS, lambda: overview(stack, readers.cache))
    now = datetime.now(UTC)
    newest = found.newest
    if newest is not None and newest.status in IN_PROGRESS:
        newest = readers.runs.get(newest.key)
    counts = {name: _stored_today(request, prefix) for name, prefix in TODAY}
    training = None
    if newest is not None and newest.status in IN_PROGRESS:
        training = readers.runs.training(newest)
    return {
        "overview": found,
        "begun": begun(newest.record) if newest else "",
        "counts": counts,
        "newest": newest,
        "now": now,
        "steps": steps(newest, now, training) if newest else [],
    }


def _stored_today(request: Request, prefix: str) -> Count:
    def read() -> Count:
        return stored_today(stack_of(request), prefix, datetime.now(UTC))

    return readers_of(request).cache.get(("today", prefix), _COUNT_SECONDS, read)


ROUTES = [Route("/", show), Route("/overview/live", live)]
