"""The console of a deployed local cloud, in a real Chromium without a window.

With DROPLENS_SCREENSHOTS naming a folder, what was seen is left there to be looked at.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.support.browser import DESKTOP, Scheme
from tests.support.deployed_cloud import Cloud

_ANOTHER = """(before) => {
  const { item } = document.querySelector("#review").dataset;
  return item && item !== before;
}"""


CONSOLE = ("cli", "-m", "droplens_cli", "--local", "console", "--no-browser")


@contextlib.contextmanager
def served(cloud: Cloud, command: Sequence[str] = CONSOLE) -> Iterator[str]:
    """`droplens console` as a process of its own; its address with the token.

    command: the environment whose Python is started, and its arguments.
    """
    venv, *arguments = command
    process = subprocess.Popen(
        [str(cloud.root / ".local" / "venv" / venv / "bin" / "python"), *arguments],
        cwd=cloud.root,
        env=cloud.environment | {"PYTHONPATH": f"{cloud.root}:{cloud.root / 'layers/droplens'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/enter\?token=\S+", printed)):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert "Traceback" not in rest, rest


@dataclass(slots=True)
class Seen:
    """A tab of the console.

    complaints: what the browser said in its console, also of pages that are not there; requests:
    all addresses that it requested.
    """

    page: Page
    here: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Open a page of the console."""
        self.page.goto(self.here + path)
        return self.page

    def screenshot(self, name: str, *, whole: bool = True) -> None:
        """Keep what is seen now, if that is wanted."""
        if folder := os.environ.get("DROPLENS_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"console-{name}.png", full_page=whole)

    def check(self) -> None:
        """Fail for what a screen reader, a narrow screen or the browser itself objects to."""
        width = self.page.viewport_size
        assert width is not None
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width["width"]
        assert serious(self.page) == []
        assert self.complaints == []
        others = [url for url in self.requests if not url.startswith(self.here)]
        assert others == [], "the console asks nobody else"


def serious(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds on the page and calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        {"rule": one["id"], "where": [node["html"][:200] for node in one["nodes"]]}
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@contextlib.contextmanager
def tab(
    browser: Browser, address: str, scheme: Scheme = "light", viewport: ViewportSize = DESKTOP
) -> Iterator[Seen]:
    """A tab in a browser of its own that was let in by the address."""
    context = browser.new_context(color_scheme=scheme, viewport=viewport)
    here = address.partition("/enter")[0]
    seen = Seen(context.new_page(), here)
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.goto(address)
    seen.page.wait_for_url(f"{here}/")
    yield seen
    context.close()


def next_image(page: Page, before: str) -> str:
    """Wait until the page of reviews shows another image than `before`; returns its name."""
    page.wait_for_function(_ANOTHER, arg=before)
    expect(page.locator("#photo img")).to_be_visible()
    return page.locator("#review").get_attribute("data-item") or ""


def decide(page: Page, label: str) -> None:
    """Decide the image to review by the digit of its candidate."""
    candidates = page.locator("#candidates bdi").all_inner_texts()
    page.keyboard.press(str(candidates.index(label) + 1))
