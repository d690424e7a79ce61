"""`droplens console` on a running cloud, in a real Chromium.

With DROPLENS_SCREENSHOTS naming a folder, every page is kept there, and a run as it happens.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from tests.support import console_in_browser
from tests.support.browser import DESKTOP, SEEN_AS, Scheme
from tests.support.console_in_browser import Seen, tab
from tests.support.deployed_cloud import Cloud
from tests.support.drawn_images import drawing


@pytest.fixture(scope="module")
def address(cloud: Cloud) -> Iterator[str]:
    with console_in_browser.served(cloud) as found:
        yield found


@pytest.mark.parametrize(("scheme", "viewport"), SEEN_AS)
def test_pages_can_be_read_in_every_light_and_width(
    browser: Browser,
    address: str,
    live_patterns: dict[str, Any],
    scheme: Scheme,
    viewport: ViewportSize,
) -> None:
    run = f"patterns/{live_patterns['run_id']}"
    pages = {
        "overview": "/",
        "runs": "/runs",
        "run": f"/runs/{run}",
        "models": "/models",
        "decision": f"/models/{run}/decision",
        "rollback": f"/models/{run}/rollback",
    }
    with tab(browser, address, scheme, viewport) as seen:
        for name, path in pages.items():
            page = seen.open(path)
            expect(page.locator("h1")).to_be_visible()
            seen.screenshot(f"{name}-{scheme}-{viewport['width']}")
            seen.check()


def test_the_run_s_page_has_what_its_journey_came_to(
    seen: Seen, live_patterns: dict[str, Any]
) -> None:
    page = seen.open(f"/runs/patterns/{live_patterns['run_id']}")
    stages = page.locator(".stage")
    expect(stages).to_have_count(4)
    expect(page.locator(".stage.done")).to_have_count(4)
    expect(page.locator(".stage-time")).to_have_count(4)
    expect(page.locator("#training")).to_contain_text("Accuracy ")
    expect(page.get_by_text("for training", exact=True)).to_be_visible()


def test_a_report_is_shown_where_its_script_reaches_nothing_else(
    seen: Seen, live_patterns: dict[str, Any]
) -> None:
    page = seen.open(f"/models/patterns/{live_patterns['run_id']}/report")
    expect(page.locator("h1")).to_contain_text("Validation accuracy")
    table = page.get_by_role("table", name="Every class")
    table.get_by_role("columnheader", name="Recall").get_by_role("button").click()
    expect(table.get_by_role("columnheader", name="Recall")).to_have_attribute(
        "aria-sort", "ascending"
    )
    assert page.evaluate("origin") == "null"
    assert seen.complaints == []
    reached = "fetch('/').then(() => 'reached', () => 'refused')"
    assert page.evaluate(reached) == "refused"


def test_the_overview_follows_the_cloud_without_a_reload(cloud: Cloud, seen: Seen) -> None:
    page = seen.open("/")
    page.evaluate("window.loadedOnce = true")
    cloud.put("input/nobody-knows-this/a.jpg", b"x")
    waits = page.locator("#to-do li", has_text="input/nobody-knows-this/")
    expect(waits).to_contain_text("no classifier has this name", timeout=30_000)
    cloud.client("s3").delete_object(Bucket=cloud.bucket, Key="input/nobody-knows-this/a.jpg")
    expect(waits).to_have_count(0, timeout=30_000)
    assert page.evaluate("window.loadedOnce")


def test_it_is_used_by_the_keyboard_alone(seen: Seen, live_patterns: dict[str, Any]) -> None:
    page = seen.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="Runs", exact=True).press("Enter")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    link = page.get_by_role("link", name=str(live_patterns["run_id"]))
    link.focus()
    assert link.evaluate("(e) => getComputedStyle(e).outlineStyle") != "none"
    link.press("Enter")
    expect(page.locator("h1")).to_contain_text(str(live_patterns["run_id"]))


def test_without_the_address_a_browser_sees_nothing(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(address.partition("/enter")[0])
    assert answer is not None
    assert answer.status == 401
    context.close()


def test_the_demo_becomes_the_console_of_the_cloud_that_it_has_left_up(
    cloud: Cloud, browser: Browser, live_patterns: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cloud.environment, "BROWSER", "true")  # the program that does nothing
    become = "from demo.machine import LocalCloud; LocalCloud(keep=True).become_console()"
    with (
        console_in_browser.served(cloud, ("demo", "-c", become)) as address,
        tab(browser, address) as seen,
    ):
        run = seen.page.get_by_role("link", name=str(live_patterns["run_id"]))
        expect(run.first).to_be_visible()


# Only for `make screenshots`: a test that is skipped without a need would fail under CI.
if "DROPLENS_SCREENSHOTS" in os.environ:

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_screenshots_of_a_run_as_it_happens(
        cloud: Cloud,
        browser: Browser,
        address: str,
        live_patterns: dict[str, Any],
        scheme: Scheme,
    ) -> None:
        with tab(browser, address, scheme, DESKTOP) as seen:
            cloud.put("input/patterns/plain.jpg", drawing("rings", 901))
            cloud.result("results/patterns/plain.jpg.json")
            page = seen.open("/")
            cloud.upload_dataset(f"shapes-{scheme}")
            newest = page.locator("#newest", has_text=f"shapes-{scheme}")
            training = newest.locator(".stage.now", has_text="Training")
            expect(training).to_be_visible(timeout=120_000)
            seen.screenshot(f"overview-{scheme}", whole=False)
        cloud.ended_run(f"shapes-{scheme}")
