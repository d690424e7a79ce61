"""Models: reports, comparison of two, promotion or rejection, rollback."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from droplens.domain.run import Run, RunKey
from droplens_cli.errors import CommandError
from droplens_console.addresses import run_address
from droplens_console.data import models as data
from droplens_console.data.models import Choice, Models
from droplens_console.pages.link import Link
from droplens_console.pages.parameters import classifier_of, run_key_of
from droplens_console.rendering import page, readers_of, stack_of, with_fields

LINK = Link("Models", "/models")
# A report is a page of its own with scripts of its own. Its data come from untrusted files, so it
# gets an origin of its own: nothing in it can use this console.
_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; script-src {0}; style-src {0}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_RECLASSIFY = ("", "all", "unsure", "none")


def show_all(request: Request) -> Response:
    """The models of all classifiers."""
    stack = stack_of(request)
    return page(
        request,
        "models.html",
        found=[_models(request, name) for name in data.classifiers(stack)],
        one=None,
    )


def show(request: Request) -> Response:
    """The models of one classifier."""
    name = classifier_of(request)
    return page(request, "models.html", found=[_models(request, name)], one=name)


def report(request: Request) -> Response:
    """The report on a model."""
    body, digests = data.report_of(stack_of(request), run_key_of(request))
    policy = _SANDBOX.format(" ".join(digests) or "'none'")
    return Response(body, headers={"Content-Security-Policy": policy}, media_type="text/html")


def compare(request: Request) -> Response:
    """Two models next to each other, a and b."""
    stack, classifier = stack_of(request), classifier_of(request)
    names = sorted(request.query_params.get(name, "") for name in ("a", "b"))
    if "" in names or names[0] == names[1]:
        raise CommandError("choose two models to compare")
    live = stack.cards.live(classifier)
    older, newer = (
        data.model_of(stack, readers_of(request).runs.get(RunKey(classifier, name)), live)
        for name in names
    )
    return page(
        request,
        "models_compare.html",
        classifier=classifier,
        models=[older, newer],
        comparison=data.compared(stack, older, newer),
    )


def ask_decision(request: Request) -> Response:
    """The question whether to promote or reject a model."""
    return page(request, "models_decide.html", choice=_choice(request))


def decide(request: Request, fields: Mapping[str, str]) -> Response:
    """Promote or reject it."""
    run = _run(request)
    if fields.get("decision") not in ("promote", "reject"):
        raise CommandError("promote or reject?")
    data.decide(
        stack_of(request),
        run,
        promote=fields["decision"] == "promote",
        reason=fields.get("reason", ""),
    )
    return _to_run(run)


def ask_rollback(request: Request) -> Response:
    """What a rollback to a model does, and whether to."""
    return page(request, "models_rollback.html", choice=_choice(request))


def roll_back(request: Request, fields: Mapping[str, str]) -> Response:
    """Roll back to it."""
    run, reclassify = _run(request), fields.get("reclassify", "")
    if reclassify not in _RECLASSIFY:
        raise CommandError("which pictures are to be classified again: all, unsure or none?")
    data.roll_back(stack_of(request), run.key, reclassify)
    return _to_run(run)


def _models(request: Request, classifier: str) -> Models:
    return data.models_of(stack_of(request), classifier)


def _run(request: Request) -> Run:
    return readers_of(request).runs.get(run_key_of(request))


def _choice(request: Request) -> Choice:
    return data.choice_of(stack_of(request), _run(request))


def _to_run(run: Run) -> Response:
    return JSONResponse({"location": run_address(run.key)})


_ONE = "/models/{classifier}/{run_id}"
ROUTES = [
    Route("/models", show_all),
    Route("/models/{classifier}", show),
    Route("/models/{classifier}/compare", compare),
    Route(f"{_ONE}/report", report),
    Route(f"{_ONE}/decision", ask_decision, methods=["GET"]),
    Route(f"{_ONE}/decision", with_fields(decide), methods=["POST"]),
    Route(f"{_ONE}/rollback", ask_rollback, methods=["GET"]),
    Route(f"{_ONE}/rollback", with_fields(roll_back), methods=["POST"]),
]
