"""Suspects: training images whose label may be wrong, one after another."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from droplens.domain.layout import NONE_CLASS
from droplens.domain.run import RunKey
from droplens_console.data.suspects import NoSuspects, Suspect
from droplens_console.data.training_images import OriginalMissing
from droplens_console.pages.link import Link
from droplens_console.pages.parameters import run_key_of
from droplens_console.rendering import page, readers_of, stack_of, with_fields
from droplens_console.thumbnails import Thumbnails, jpeg, side_of

LINK = Link("Suspects", "/suspects")
# Of each pair. The images of records are as small as the model's input.
SIDE = 384
# Suspects that a page gets at a time, the most suspicious first.
_AT_ONCE = 200


def overview(request: Request) -> Response:
    """The live models, or the suspects of the only one."""
    cards = list(stack_of(request).cards.all_live())
    if len(cards) == 1:
        return RedirectResponse(f"/suspects/{cards[0].classifier}/{cards[0].run_id}", 303)
    return page(request, "suspects_overview.html", cards=cards)


def show(request: Request) -> Response:
    """The page on which labels are decided."""
    run, desk = run_key_of(request), readers_of(request).suspects
    try:
        left, decided = desk.open(run)
    except NoSuspects as error:
        return page(request, "suspects_none.html", 404, run=run, reason=str(error))
    return page(
        request, "suspects.html", run=run, left=len(left), decided=decided, none_class=NONE_CLASS
    )


def undecided(request: Request) -> Response:
    """What is still to be decided, and the classes."""
    run, desk = run_key_of(request), readers_of(request).suspects
    with _refusals_as_responses():
        left, _ = desk.open(run)
        classes = desk.classes(run)
    items = [_shown(run, one) for one in left[:_AT_ONCE]]
    return JSONResponse({"items": items, "left": len(left), "classes": classes})


def image(request: Request) -> Response:
    """The thumbnail of a suspect, or, with `label`, of a typical image of a class."""
    run, desk, side = run_key_of(request), readers_of(request).suspects, side_of(request)
    thumbnails: Thumbnails = request.app.state.thumbnails
    given = request.query_params
    key = (run, given.get("record"), given.get("label"))

    def read() -> bytes:
        if "label" in given:
            return desk.typical(run, given["label"])
        return desk.image(run, _record(given.get("record", "")))

    with _refusals_as_responses():
        made = thumbnails.get(key, side, read)
    return jpeg(made, for_ever=True)


def decide(request: Request, fields: Mapping[str, str]) -> Response:
    """Keep a decision as a correction; the response says that it is written."""
    run, desk = run_key_of(request), readers_of(request).suspects
    with _refusals_as_responses():
        desk.decide(run, _record(fields.get("item", "")), fields.get("label", ""))
    return JSONResponse({})


def undo(request: Request, fields: Mapping[str, str]) -> Response:
    """Take a decision back."""
    run, desk = run_key_of(request), readers_of(request).suspects
    with _refusals_as_responses():
        desk.undo(run, _record(fields.get("item", "")))
    return JSONResponse({})


@contextmanager
def _refusals_as_responses() -> Iterator[None]:
    try:
        yield
    except NoSuspects as error:
        raise HTTPException(404, str(error)) from None
    except OriginalMissing as error:
        raise HTTPException(409, str(error)) from None
    except ValueError as error:
        raise HTTPException(400, str(error)) from None


def _shown(run: RunKey, suspect: Suspect) -> dict[str, Any]:
    base = f"/suspects/{run.classifier}/{run.run_id}/image"
    given = urlencode({"record": suspect.record, "side": SIDE})
    typical = urlencode({"label": suspect.likely, "side": SIDE})
    return {
        "name": str(suspect.record),
        "file": suspect.name,
        "label": suspect.label,
        "likely": suspect.likely,
        "probability": suspect.probability,
        "likely_probability": suspect.likely_probability,
        "image": f"{base}?{given}",
        "typical": f"{base}?{typical}",
    }


def _record(text: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise NoSuspects("there is no such image")
    return int(text)


_ONE = "/suspects/{classifier}/{run_id}"
ROUTES = [
    Route("/suspects", overview),
    Route(_ONE, show),
    Route(f"{_ONE}/undecided", undecided),
    Route(f"{_ONE}/image", image),
    Route(f"{_ONE}/decide", with_fields(decide), methods=["POST"]),
    Route(f"{_ONE}/undo", with_fields(undo), methods=["POST"]),
]
