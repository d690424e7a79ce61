"""Finds Chromium, or Chrome, for tests and benchmarks of the console."""

import os
import shutil

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """What DROPLENS_CHROMIUM names, else the first on the PATH; None without one."""
    named = os.environ.get("DROPLENS_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)
