"""Server-sent events: a part of a page, again whenever it has changed."""

import time
from collections.abc import AsyncIterator, Callable

import anyio
from botocore.exceptions import BotoCoreError, ClientError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from droplens.domain.errors import DroplensError
from droplens_cli.aws_errors import explained
from droplens_cli.errors import CommandError

POLL_SECONDS = 2.0
# A comment after so long without a change: a connection that is gone shows by it.
KEEP_ALIVE_SECONDS = 20.0


def live(request: Request, read: Callable[[], str]) -> StreamingResponse:
    """A stream of what `read` returns, HTML, whenever that has changed.

    read: called every POLL_SECONDS in a thread. Where it fails, the browser gets an event
    `problem` with a sentence, and the stream goes on.
    """
    return StreamingResponse(_changes(request, read), media_type="text/event-stream")


async def _changes(request: Request, read: Callable[[], str]) -> AsyncIterator[str]:
    last, sent = "", 0.0
    while not (_ends(request) or await request.is_disconnected()):
        event = await run_in_threadpool(_event, read)
        if event != last:
            last, sent = event, time.monotonic()
            yield event
        elif time.monotonic() - sent > KEEP_ALIVE_SECONDS:
            sent = time.monotonic()
            yield ": unchanged\n\n"
        await anyio.sleep(POLL_SECONDS)


def _ends(request: Request) -> bool:
    """Whether the server ends, which waits for streams of events to end first."""
    app = request.scope.get("app")
    return app is not None and app.state.ends()


def _event(read: Callable[[], str]) -> str:
    try:
        return _encoded("message", read())
    except CommandError as error:
        return _encoded("problem", error.sentence)
    except DroplensError as error:
        return _encoded("problem", str(error))
    except (BotoCoreError, ClientError) as error:
        return _encoded("problem", explained(error)[0])


def _encoded(name: str, text: str) -> str:
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{lines or 'data:'}".rstrip("\n") + "\n\n"
