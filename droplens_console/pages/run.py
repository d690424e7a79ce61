"""Runs: the list of all, and one with its stages, training, dataset and failure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from droplens.domain.run import Run, Stage
from droplens.report.health import health
from droplens_cli import status
from droplens_cli.resume import resume
from droplens_console import events
from droplens_console.addresses import run_address
from droplens_console.data.advice import advice, may_resume
from droplens_console.data.curves import learning_curves
from droplens_console.data.journey import begun, steps
from droplens_console.pages.link import Link
from droplens_console.pages.parameters import run_key_of
from droplens_console.rendering import fragment, page, readers_of, stack_of, to_markup, with_fields

LINK = Link("Runs", "/runs")
_MOST_LISTED = 200


def show_all(request: Request) -> Response:
    """The runs of all classifiers, the newest first."""
    runs = sorted(stack_of(request).all_runs(), key=lambda run: run.key.run_id, reverse=True)
    return page(
        request,
        "runs.html",
        runs=[(run, begun(run.record)) for run in runs[:_MOST_LISTED]],
        left_out=max(0, len(runs) - _MOST_LISTED),
    )


def show(request: Request) -> Response:
    """The page of one run."""
    run = _run(request)
    return page(request, "run.html", **_read(request, run), dataset=_dataset(request, run))


def live(request: Request) -> Response:
    """What changes of it, whenever it has changed."""
    dataset: Markup | None = None

    def read() -> str:
        nonlocal dataset
        run = _run(request)
        dataset = dataset or _dataset(request, run)  # it is written once
        return fragment("pages/run_live.html", **_read(request, run), dataset=dataset)

    return events.live(request, read)


def retry(request: Request, _: Mapping[str, str]) -> Response:
    """Retry the run now."""
    run = _run(request)
    resume(stack_of(request), run.key.classifier, run.key.run_id)
    return JSONResponse({"location": run_address(run.key)})


def _run(request: Request) -> Run:
    return readers_of(request).runs.get(run_key_of(request))


def _dataset(request: Request, run: Run) -> Markup | None:
    """The description of the packed dataset; None before it is packed."""
    manifest = readers_of(request).runs.manifest(run)
    return to_markup(health(manifest)) if manifest else None


def _read(request: Request, run: Run) -> dict[str, Any]:
    now = datetime.now(UTC)
    training = readers_of(request).runs.training(run)
    curves = learning_curves(training.epochs) if training else None
    return {
        "advice": advice(run),
        "begun": begun(run.record),
        "corrected": bool(run.dataset.get("after")),
        "curves": to_markup(curves) if curves is not None else None,
        "may_resume": may_resume(run),
        "now": now,
        "reason": status.reason(run.record),
        "run": run,
        "steps": steps(run, now, training),
        "trains": f"claim_{Stage.TRAIN}" in run.record,
        "training": training,
    }


_ONE = "/runs/{classifier}/{run_id}"
ROUTES = [
    Route("/runs", show_all),
    Route(_ONE, show),
    Route(f"{_ONE}/live", live),
    Route(f"{_ONE}/resume", with_fields(retry), methods=["POST"]),
]
