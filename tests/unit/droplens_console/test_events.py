"""A part of a page is sent when it has changed, and failing to read it does not end the stream."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from botocore.exceptions import ClientError
from starlette.requests import Request

from droplens_cli.errors import CommandError
from droplens_console import events


def streamed(read: Iterator[str | Exception], looks: int) -> list[str]:
    """What a browser gets that goes away after so many looks."""
    seen = 0

    async def receive() -> dict[str, Any]:
        nonlocal seen
        seen += 1
        if seen > looks:
            return {"type": "http.disconnect"}
        await anyio.sleep_forever()
        raise AssertionError

    def following() -> str:
        found = next(read)
        if isinstance(found, Exception):
            raise found
        return found

    async def collected() -> list[str]:
        request = Request({"type": "http", "method": "GET", "headers": []}, receive)
        stream = events.live(request, following)
        assert stream.media_type == "text/event-stream"
        return [str(chunk) async for chunk in stream.body_iterator]

    return anyio.run(collected)


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 0)


def test_only_changes_are_sent() -> None:
    parts = iter(["<p>\none</p>", "<p>\none</p>", "", "two"])
    assert streamed(parts, 4) == [
        "event: message\ndata: <p>\ndata: one</p>\n\n",
        "event: message\ndata:\n\n",
        "event: message\ndata: two\n\n",
    ]


def test_no_text_can_begin_an_event_of_its_own() -> None:
    [event] = streamed(iter(["a\r\revent: b\u2028data: c"]), 1)
    assert all(line.startswith(("event: message", "data:")) for line in event.split("\n") if line)
    assert "\r" not in event


def test_failures_are_told_and_the_stream_goes_on() -> None:
    expired = ClientError({"Error": {"Code": "ExpiredToken", "Message": "old"}}, "Scan")
    found = streamed(iter([CommandError("it is down", "start it"), expired, "again"]), 3)
    assert found[0] == "event: problem\ndata: it is down\n\n"
    assert found[1].startswith("event: problem\ndata: the AWS credentials have expired")
    assert found[2] == "event: message\ndata: again\n\n"


def test_a_stream_without_changes_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", -1)
    assert streamed(iter(["same", "same"]), 2)[1] == ": unchanged\n\n"
