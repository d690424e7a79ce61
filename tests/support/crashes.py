"""A crash at one call of a function, since Lambda may end one at any time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Crash(Exception):
    """The function died."""


@contextmanager
def crash_in(target: Any, name: str, *, after: bool = False) -> Iterator[None]:
    """Within, whoever calls `target.name` dies: before it has done anything, or after it has."""
    real = getattr(target, name)

    def crash(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, crash, raising=False)
        try:
            yield
        except Crash:
            return
        pytest.fail(f"nothing came as far as {name}")
