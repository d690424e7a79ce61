"""The page of reviews in a real Chromium while requests fail: no image and no undo is lost.

The application in this process answers the browser's requests.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from starlette.testclient import TestClient

from tests.support.browser import chromium
from tests.support.console import HERE, console, deployed  # noqa: F401  fixtures
from tests.support.console_in_browser import next_image
from tests.support.deployed_stack import Deployed
from tests.support.reviewing import corrections, waiting, with_versions

AGAIN = "(item) => document.querySelector('#review').dataset.item === item"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def stack(deployed: Deployed) -> Deployed:  # noqa: F811
    stack = with_versions(deployed)
    waiting(stack, *(f"{number}.jpg" for number in range(20)))
    return stack


@pytest.fixture
def page(stack: Deployed, console: TestClient, browser: Browser) -> Iterator[Page]:  # noqa: F811
    """The page with its first image."""

    def answered(route: Route) -> None:
        asked = route.request
        headers = {
            name: value for name, value in asked.headers.items() if name in ("accept", "origin")
        }
        answer = console.request(
            asked.method, asked.url, content=asked.post_data_buffer, headers=headers
        )
        route.fulfill(status=answer.status_code, headers=dict(answer.headers), body=answer.content)

    context = browser.new_context()
    context.route("**/*", answered)
    page = context.new_page()
    page.goto(f"{HERE}/review/cars")
    next_image(page, "")
    yield page
    context.close()


def refuse(route: Route) -> None:
    route.fulfill(status=502, json={"error": "AWS does not respond"})


def press(page: Page, key: str) -> str:
    """Press a key that leads to another image; returns the name of the one before."""
    before: Any = page.locator("#review").get_attribute("data-item")
    page.keyboard.press(key)
    next_image(page, before)
    return str(before)


def test_an_undo_while_a_decision_is_not_saved_leaves_the_others_to_be_undone(
    stack: Deployed, page: Page
) -> None:
    first, second = press(page, "1"), press(page, "2")
    expect(page.locator("#count")).to_have_text("2")
    held: list[Route] = []
    page.route("**/review/decide", lambda route: held.append(route))
    with page.expect_request("**/review/decide"):
        third = press(page, "3")
    page.keyboard.press("u")
    refuse(held[0])
    expect(page.locator("#said")).to_contain_text("Not saved")
    page.wait_for_function(AGAIN, arg=third)
    for count, undone in ((1, second), (0, first)):
        page.keyboard.press("u")
        page.wait_for_function(AGAIN, arg=undone)
        expect(page.locator("#count")).to_have_text(str(count))
    assert corrections(stack) == {}


def test_an_image_whose_skip_failed_is_shown_again(page: Page) -> None:
    page.route("**/review/skip", refuse)
    skipped = press(page, "s")
    expect(page.locator("#said")).to_contain_text("Not skipped")
    page.keyboard.press("1")
    page.wait_for_function(AGAIN, arg=skipped)
