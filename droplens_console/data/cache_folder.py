"""Where the console keeps what it can read again from the stack, on the user's machine."""

import hashlib
import os
import re
import sys
from pathlib import Path

from droplens_cli.target import Target

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


def cache_folder(target: Target, bucket: str) -> Path:
    """The folder of one stack below the user's cache folder, which only that user can read.

    bucket: the stack's, so that a stack that was created anew has another folder.
    """
    identity = hashlib.sha256(f"{target}\n{bucket}".encode()).hexdigest()[:12]
    folder = _base() / "droplens" / f"{_UNSAFE.sub('_', target.stack)}-{identity}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _base() -> Path:
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home()))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path.home() / ".cache"
