"""The application: routes of all pages, errors, and the guard before them."""

from botocore.exceptions import BotoCoreError, ClientError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from droplens.domain.errors import DroplensError, ObjectMissing
from droplens.imaging.prepare import Limits
from droplens.report.page import HERE as REPORT
from droplens_cli.aws_errors import explained
from droplens_cli.errors import CommandError
from droplens_console import thumbnails
from droplens_console.data.errors import NotFound
from droplens_console.data.readers import Readers
from droplens_console.pages import MODULES
from droplens_console.rendering import TEMPLATES, problem
from droplens_console.security import Access, Guard
from droplens_console.stack import ConsoleStack

# Of a request's body: a picture, and what JSON takes around a form.
MOST_SENT = Limits().max_bytes + 1024 * 1024


def application(stack: ConsoleStack, access: Access) -> Starlette:
    """The console of a stack, for the browsers that `access` lets in."""
    app = Starlette(
        routes=[
            *(route for module in MODULES for route in module.ROUTES),
            *thumbnails.ROUTES,
            Route("/static/tokens.css", _tokens),
            Mount("/static", StaticFiles(directory=TEMPLATES.parent / "static")),
        ],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={
            HTTPException: _http_error,
            CommandError: _command_error,
            DroplensError: _layer_error,
            NotFound: _missing,
            ObjectMissing: _missing,
            BotoCoreError: _aws_error,
            ClientError: _aws_error,
        },
        max_body_size=MOST_SENT,
    )
    app.state.stack = stack
    app.state.ends = lambda: False
    app.state.readers = Readers.of(stack)
    app.state.navigation = [module.LINK for module in MODULES]
    app.state.thumbnails = thumbnails.Thumbnails()
    return app


def _tokens(_: Request) -> Response:
    """The colours and fonts of the reports, which are the console's too."""
    return FileResponse(REPORT / "tokens.css")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(request, error.status_code, error.detail)


def _command_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CommandError)
    return problem(request, 409, error.sentence, error.next_step)


def _layer_error(request: Request, error: Exception) -> Response:
    return problem(request, 409, str(error))


def _missing(request: Request, error: Exception) -> Response:
    return problem(request, 404, str(error))


def _aws_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BotoCoreError | ClientError)
    return problem(request, 502, *explained(error))
