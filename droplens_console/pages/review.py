"""Review: the images that wait for a person, one after another, and the decisions so far."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from droplens.domain.errors import DroplensError, UserError
from droplens.domain.review import NONE, Reason
from droplens.state.reviews import MOST_REVIEWS_COUNTED
from droplens_console.addresses import thumbnail_address
from droplens_console.data.review_desk import (
    MOST_CLAIMED,
    Item,
    ReviewDesk,
    UnknownClass,
    UnknownReview,
)
from droplens_console.pages.link import Link
from droplens_console.pages.parameters import checked_classifier, classifier_of
from droplens_console.rendering import page, readers_of, stack_of, with_fields

Fields = Mapping[str, str]

LINK = Link("Review", "/review")
# Pixels of the longer side of an image to review.
SIDE = 768
# Seconds in which a queue is counted once, for all pages.
_COUNTED_FOR = 5.0
_LONGEST = 1024  # of a field: a class name has at most 255 bytes
REASONS = {
    Reason.UNSURE: "not confident",
    Reason.UNFAMILIAR: "unlike the training pictures",
    Reason.SPOT_CHECK: "spot check",
}


def _desk(request: Request) -> ReviewDesk:
    return readers_of(request).reviews


def overview(request: Request) -> Response:
    """The classifiers with what waits of each."""
    desk = _desk(request)
    names = [card.classifier for card in stack_of(request).cards.all_live()]
    if len(names) == 1:
        return RedirectResponse(f"/review/{names[0]}", 303)
    counts = {name: sum(desk.waiting(name).values()) for name in names}
    return page(request, "review_overview.html", waiting=counts)


def review(request: Request) -> Response:
    """The page on which decisions are made."""
    classifier, desk = classifier_of(request), _desk(request)
    return page(
        request,
        "review.html",
        classifier=classifier,
        most_counted=MOST_REVIEWS_COUNTED,
        reviewer=desk.reviewer,
        none_class=NONE,
    )


def decisions(request: Request) -> Response:
    """What was decided by whom, newest first."""
    classifier = classifier_of(request)
    try:
        found = _desk(request).decisions(classifier, request.query_params.get("after") or None)
    except ValueError:
        raise HTTPException(404, "there is no such page of decisions") from None
    return page(
        request,
        "review_decisions.html",
        classifier=classifier,
        found=found,
        none_class=NONE,
        reasons=REASONS,
        more=found.after and urlencode({"after": found.after}),
    )


def classes(request: Request) -> Response:
    """The classes that an image can be decided to have."""
    classifier = classifier_of(request)
    return JSONResponse({"classes": _desk(request).classes(classifier)})


def waiting(request: Request) -> Response:
    """How many images wait, at most MOST_REVIEWS_COUNTED: apart, since a long queue takes long."""
    classifier, desk = classifier_of(request), _desk(request)
    count = readers_of(request).cache.get(
        ("waiting", classifier), _COUNTED_FOR, lambda: sum(desk.waiting(classifier).values())
    )
    return JSONResponse({"waiting": count})


def claim(request: Request, fields: Fields) -> Response:
    """The next images, as many as `count`."""
    classifier, count = checked_classifier(_text(fields, "classifier")), _text(fields, "count")
    if not count.isdecimal() or not 0 < int(count[:4]) <= MOST_CLAIMED:
        raise HTTPException(400, "count is no number of images")
    with _refusals_as_responses():
        items = _desk(request).claim(_text(fields, "page"), classifier, int(count))
    return JSONResponse({"items": [_shown(item) for item in items]})


def decide(request: Request, fields: Fields) -> Response:
    """Keep a decision; the response says that it is written."""
    page_name, item, label = (_text(fields, name) for name in ("page", "item", "label"))
    with _refusals_as_responses():
        _desk(request).decide(page_name, item, label)
    return JSONResponse({})


def skip(request: Request, fields: Fields) -> Response:
    """Put an image back into the queue."""
    with _refusals_as_responses():
        _desk(request).skip(_text(fields, "page"), _text(fields, "item"))
    return JSONResponse({})


def undo(request: Request, fields: Fields) -> Response:
    """Take a decision back."""
    with _refusals_as_responses():
        _desk(request).undo(_text(fields, "page"), _text(fields, "item"))
    return JSONResponse({})


def leave(request: Request, fields: Fields) -> Response:
    """The page was closed."""
    _desk(request).leave(_text(fields, "page"))
    return JSONResponse({})


@contextmanager
def _refusals_as_responses() -> Iterator[None]:
    try:
        yield
    except UnknownReview as error:
        raise HTTPException(410, str(error.args[0])) from None
    except (UnknownClass, UserError) as error:
        raise HTTPException(400, str(error)) from None
    except DroplensError as error:  # it is decided already, or gone
        raise HTTPException(409, error.message) from None


def _shown(item: Item) -> dict[str, Any]:
    review = item.review
    return {
        "name": item.name,
        "key": review.key,
        "image": thumbnail_address(review.key, review.version, SIDE),
        "reason": REASONS[review.reason],
        "candidates": [
            {"label": one.label, "probability": one.probability} for one in item.candidates
        ],
    }


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name, "")
    if not 0 < len(value) <= _LONGEST:
        raise HTTPException(400, f"{name} is missing")
    return value


ROUTES = [
    Route("/review", overview),
    Route("/review/claim", with_fields(claim), methods=["POST"]),
    Route("/review/decide", with_fields(decide), methods=["POST"]),
    Route("/review/skip", with_fields(skip), methods=["POST"]),
    Route("/review/undo", with_fields(undo), methods=["POST"]),
    Route("/review/leave", with_fields(leave), methods=["POST"]),
    Route("/review/{classifier}", review),
    Route("/review/{classifier}/classes", classes),
    Route("/review/{classifier}/decisions", decisions),
    Route("/review/{classifier}/waiting", waiting),
]
