"""The console on the small stack of deployed_stack.py, for Starlette's test client."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from droplens_cli.target import Target
from droplens_console.app import application
from droplens_console.security import Access
from droplens_console.stack import ConsoleStack
from tests.support.deployed_stack import Deployed, deployed

__all__ = ["HERE", "PORT", "browser", "console", "deployed", "let_in"]

PORT = 8765
HERE = f"http://127.0.0.1:{PORT}"


@contextmanager
def browser(access: Access) -> Iterator[TestClient]:
    """A browser that was not let in, at the console of the stack "droplens"."""
    app = application(ConsoleStack(Target(region="us-east-1")), access)
    with TestClient(app, base_url=HERE, follow_redirects=False) as client:
        yield client


def let_in(client: TestClient, access: Access) -> TestClient:
    """The browser after it was let in, with requests as the console's own pages send them."""
    assert client.get("/enter", params={"token": access.token}).status_code == 200
    client.headers |= {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}
    return client


@pytest.fixture
def console(deployed: Deployed) -> Iterator[TestClient]:
    """A browser that was let in; `deployed` is the stack that it shows."""
    access = Access(PORT)
    with browser(access) as client:
        yield let_in(client, access)
