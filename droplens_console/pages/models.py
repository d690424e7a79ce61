"""Models: reports, comparison of two, promotion or rejection, rollback."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from droplens.domain.run import RunKey
from droplens_cli.errors import CommandError
from droplens_console.data import models as data
from droplens_console.data.models import Model, Models
from droplens_console.pages.link import Link
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
    name = request.path_params["classifier"]
    return page(request, "models.html", found=[_models(request, name)], one=name)


def report(request: Request) -> Response:
    """The report on a model."""
    body, digests = data.report_of(stack_of(request), _key(request))
    policy = _SANDBOX.format(" ".join(digests) or "'none'")
    return Response(body, headers={"Content-Security-Policy": policy}, media_type="text/html")


def compare(request: Request) -> Response:
    """Two models next to each other, a and b."""
    found = _models(request, request.path_params["classifier"])
    names = [request.query_params.get(name, "") for name in ("a", "b")]
    if "" in names or names[0] == names[1]:
        raise CommandError("choose two models to compare")
    older, newer = sorted((found.get(name) for name in names), key=lambda one: one.run.key.run_id)
    return page(
        request,
        "models_compare.html",
        classifier=found.classifier,
        models=[older, newer],
        comparison=data.compared(stack_of(request), older, newer),
    )


def ask_decision(request: Request) -> Response:
    """The question whether to promote or reject a model."""
    found, model = _model(request)
    return page(request, "models_decide.html", found=found, model=model)


def decide(request: Request, fields: Mapping[str, str]) -> Response:
    """Promote or reject it."""
    key = _key(request)
    run = readers_of(request).runs.get(key.classifier, key.run_id)
    if fields.get("decision") not in ("promote", "reject"):
        raise CommandError("promote or reject?")
    data.decide(
        stack_of(request),
        run,
        promote=fields["decision"] == "promote",
        reason=fields.get("reason", ""),
    )
    return _to_run(key)


def ask_rollback(request: Request) -> Response:
    """What a rollback to a model does, and whether to."""
    found, model = _model(request)
    return page(request, "models_rollback.html", found=found, model=model)


def roll_back(request: Request, fields: Mapping[str, str]) -> Response:
    """Roll back to it."""
    _, model = _model(request)
    reclassify = fields.get("reclassify", "")
    if reclassify not in _RECLASSIFY:
        raise CommandError("which pictures are to be classified again: all, unsure or none?")
    data.roll_back(stack_of(request), model.run.key, reclassify)
    return _to_run(model.run.key)


def _models(request: Request, classifier: str) -> Models:
    return data.models_of(stack_of(request), classifier)


def _model(request: Request) -> tuple[Models, Model]:
    key = _key(request)
    found = _models(request, key.classifier)
    return found, found.get(key.run_id)


def _key(request: Request) -> RunKey:
    return RunKey(request.path_params["classifier"], request.path_params["run_id"])


def _to_run(key: RunKey) -> Response:
    return JSONResponse({"location": f"/runs/{key.classifier}/{key.run_id}"})


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
