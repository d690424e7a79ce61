"""A real Chromium without a window, and how a page is looked at in it."""

import contextlib
from collections.abc import Iterator
from typing import Literal

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tests.support import needs

Scheme = Literal["light", "dark"]
DESKTOP, PHONE = ViewportSize(width=1200, height=900), ViewportSize(width=360, height=740)
SEEN_AS: tuple[tuple[Scheme, ViewportSize], ...] = (
    ("light", DESKTOP),
    ("dark", DESKTOP),
    ("light", PHONE),
    ("dark", PHONE),
)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; without one the test is skipped."""
    found = needs.chromium()
    with sync_playwright() as playwright:
        # Chromium's own sandbox cannot be set up by root, and the page is ours.
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()
