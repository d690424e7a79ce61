"""Results: a gallery with filters, and one result with its JSON and its class map."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from droplens.domain.layout import RESULTS, is_classifier_name
from droplens_console import events
from droplens_console.addresses import thumbnail_address
from droplens_console.data.results import NoClassMap, NoResult
from droplens_console.data.results_index import Place, Wanted
from droplens_console.pages.link import Link
from droplens_console.pages.parameters import classifier_of
from droplens_console.rendering import fragment, page, readers_of, stack_of

LINK = Link("Results", "/results")
_PER_PAGE = 60
_TILE, _WHOLE = 192, 768  # sides of thumbnails
_CHOICES = {"": None, "yes": True, "no": False}
_LONGEST_TEXT = 200


def overview(request: Request) -> Response:
    """The classifiers, or the results of the only one."""
    stack = stack_of(request)
    names = sorted(name for name in stack.bucket.level(RESULTS) if isinstance(name, str))
    names = [name for name in names if is_classifier_name(name)]
    if len(names) == 1:
        return RedirectResponse(f"/results/{names[0]}", 303)
    return page(request, "results_overview.html", names=names)


def gallery(request: Request) -> Response:
    """Results as thumbnails, the newest first."""
    classifier, reader = classifier_of(request), readers_of(request).results
    sync = reader.sync(classifier)
    sync.wake()
    sync.wait()
    given = {
        name: request.query_params.get(name, "").strip()[:_LONGEST_TEXT]
        for name in ("label", "status", "confident", "familiar", "text", "since", "until")
    }
    wanted = _wanted(given)
    after = request.query_params.get("after", "")
    found = reader.index.page(classifier, wanted, Place.parse(after), _PER_PAGE)
    kept = {name: value for name, value in given.items() if value}
    return page(
        request,
        "results.html",
        classifier=classifier,
        count=reader.index.count(classifier, wanted),
        filters=given,
        first=not after,
        found=[(one, thumbnail_address(one.image, one.version_id, _TILE)) for one in found.rows],
        labels=reader.index.labels(classifier),
        more=found.after and urlencode({**kept, "after": str(found.after)}),
        newest=urlencode(kept),
        progress=sync.progress,
    )


def progress(request: Request) -> Response:
    """How far the index is, whenever that has changed."""
    classifier = classifier_of(request)
    sync = readers_of(request).results.sync(classifier)

    def read() -> str:
        sync.wake()
        return fragment("pages/results_progress.html", progress=sync.progress)

    return events.live(request, read)


def one(request: Request) -> Response:
    """One result; with map=1 its class map, for which the endpoint is called."""
    classifier, key = classifier_of(request), request.query_params.get("key", "")
    result = _document(request, classifier, key)
    drawn, no_map = None, ""
    if request.query_params.get("map"):
        try:
            drawn = readers_of(request).results.class_map(result)
        except NoClassMap as error:
            no_map = str(error)
    image = result["image"]
    return page(
        request,
        "results_one.html",
        classifier=classifier,
        key=key,
        result=result,
        json=json.dumps(result, ensure_ascii=False, indent=1),
        image=thumbnail_address(image["key"], image["version_id"], _WHOLE),
        itself=urlencode({"key": key}),
        drawn=drawn,
        map_address=drawn and f"/results/{classifier}/map?{urlencode({'key': key})}",
        no_map=no_map,
    )


def class_map(request: Request) -> Response:
    """The class map of a result as a PNG."""
    result = _document(request, classifier_of(request), request.query_params.get("key", ""))
    try:
        drawn = readers_of(request).results.class_map(result)
    except NoClassMap as error:
        raise HTTPException(404, str(error)) from None
    return Response(drawn.png, media_type="image/png")


def whole(request: Request) -> Response:
    """The result itself."""
    result = _document(request, classifier_of(request), request.query_params.get("key", ""))
    body = json.dumps(result, ensure_ascii=False, indent=1)
    return Response(body, media_type="application/json")


def _document(request: Request, classifier: str, key: str) -> dict[str, Any]:
    if not key.startswith(f"{RESULTS}{classifier}/"):
        raise HTTPException(404, "there is no such result")
    try:
        return readers_of(request).results.document(key)
    except NoResult as error:
        raise HTTPException(404, str(error)) from None


def _wanted(given: dict[str, str]) -> Wanted:
    return Wanted(
        label=given["label"],
        status=given["status"],
        confident=_CHOICES.get(given["confident"]),
        familiar=_CHOICES.get(given["familiar"]),
        text=given["text"],
        since=_time(given["since"]),
        until=_time(given["until"]),
    )


def _time(text: str) -> datetime | None:
    """A time as browsers send it, in UTC; None for "". Raises HTTPException."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise HTTPException(400, f"{text!r} is no time: use 2026-11-22T12:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


ROUTES = [
    Route("/results", overview),
    Route("/results/{classifier}", gallery),
    Route("/results/{classifier}/progress", progress),
    Route("/results/{classifier}/one", one),
    Route("/results/{classifier}/map", class_map),
    Route("/results/{classifier}/json", whole),
]
