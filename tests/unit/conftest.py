"""What several of the unit tests need around them."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.session
import pytest


@pytest.fixture(scope="session", autouse=True)
def _service_models_are_read_once() -> Iterator[None]:
    """Every session has a loader of its own, which parses megabytes of JSON for each service.

    A session shares what it has loaded among all of its clients; so do all sessions here.
    """
    loader = functools.cache(botocore.session.create_loader)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", loader)
        yield


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
