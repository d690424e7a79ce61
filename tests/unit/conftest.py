"""What several of the unit tests need around them."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts commands of these names first on the PATH: this interpreter, or, where `works` is
    false, what a pyenv shim is without its version."""

    def put(*names: str, works: bool = True) -> None:
        folder = tmp_path / "pythons"
        folder.mkdir(exist_ok=True)
        for name in names:
            command = f'exec "{sys.executable}" "$@"' if works else "exit 127"
            (folder / name).write_text(f"#!/bin/sh\n{command}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return put
