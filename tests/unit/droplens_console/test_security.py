"""The console serves its own pages in a browser that was let in, and nothing else."""

import re
from collections.abc import Iterator

import pytest
from moto import mock_aws
from starlette.testclient import TestClient

from droplens_console.security import Access
from tests.support.console import HERE, PORT, browser, let_in
from tests.support.deployed_stack import Deployed

CHANGE = "/runs/cars/20261122-120000-1a2b3c/resume"


@pytest.fixture(scope="module")
def access() -> Access:
    return Access(PORT)


@pytest.fixture(scope="module")
def open_console(access: Access) -> Iterator[TestClient]:
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        Deployed(patch)
        with browser(access) as client:
            yield client


@pytest.fixture
def stranger(open_console: TestClient) -> TestClient:
    """A browser that was not let in."""
    open_console.cookies.clear()
    for name in ("Origin", "Sec-Fetch-Site"):
        open_console.headers.pop(name, None)
    return open_console


@pytest.fixture
def console(stranger: TestClient, access: Access) -> TestClient:
    """A browser that was let in."""
    return let_in(stranger, access)


def cookie_of(client: TestClient, token: str) -> str:
    return client.get("/enter", params={"token": token}).headers["set-cookie"]


def test_the_token_in_the_address_is_exchanged_for_a_strict_cookie(
    stranger: TestClient,
    access: Access,
) -> None:
    assert access.address == f"{HERE}/enter?token={access.token}"
    assert len(access.token) >= 43  # 256 bits
    cookie = cookie_of(stranger, access.token)
    assert cookie.startswith(f"droplens-{PORT}=")
    assert access.token not in cookie
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "samesite=strict", "path=/"}
    assert stranger.get("/").status_code == 200


def test_the_page_of_the_exchange_leads_on_by_itself_and_not_by_a_redirect(
    stranger: TestClient,
    access: Access,
) -> None:
    """A browser that came from another site would not send a strict cookie with a redirect."""
    answer = stranger.get(
        "/enter", params={"token": access.token}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0; url=/"' in answer.text


@pytest.mark.parametrize(
    "path", ["/", "/runs", "/models", "/thumbnail", "/static/console.js", "/x"]
)
def test_nothing_is_served_without_the_cookie(
    stranger: TestClient,
    path: str,
) -> None:
    assert stranger.get(path).status_code == 401
    stranger.cookies.set(f"droplens-{PORT}", "guessed")
    assert stranger.get(path).status_code == 401
    stranger.cookies.clear()
    assert stranger.get(path, headers={"Cookie": '=;\x7f"'}).status_code == 401


def test_a_wrong_token_lets_nobody_in(stranger: TestClient) -> None:
    for token in ("", "guessed", "é" * 43):
        answer = stranger.get("/enter", params={"token": token})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_the_address_on_a_browser_s_command_line_works_once(
    stranger: TestClient,
    access: Access,
) -> None:
    once = access.address_once().removeprefix(HERE)
    assert access.token not in once
    assert stranger.get(once).status_code == 200
    assert stranger.get(once).status_code == 403
    assert stranger.get(access.address.removeprefix(HERE)).status_code == 200


def test_it_is_reached_by_its_two_names_only(
    console: TestClient,
    access: Access,
) -> None:
    other = {"Host": f"localhost:{PORT}", "Origin": f"http://localhost:{PORT}"}
    assert console.get("/", headers=other).status_code == 200
    for host in ("evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", ""):
        answer = console.get("/", headers={"Host": host})
        assert answer.status_code == 403, host
        enter = console.get("/enter", params={"token": access.token}, headers={"Host": host})
        assert "set-cookie" not in enter.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_another_site_changes_nothing_even_with_the_cookie(
    console: TestClient,
    site: str,
) -> None:
    """same-site: another port of this machine, to which a browser would send the cookie too."""
    assert console.post(CHANGE, json={}).status_code == 404  # served: there is no such run
    assert console.post(CHANGE, json={}, headers={"Sec-Fetch-Site": site}).status_code == 403
    if site != "none":
        assert console.get("/", headers={"Sec-Fetch-Site": site}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", f"http://127.0.0.1:{PORT + 1}", f"https://127.0.0.1:{PORT}", "null"],
)
def test_a_change_needs_this_very_origin(
    console: TestClient,
    origin: str,
) -> None:
    assert console.post(CHANGE, json={}, headers={"Origin": origin}).status_code == 403
    assert console.get("/", headers={"Origin": origin}).status_code == 403
    del console.headers["Origin"]
    assert console.post(CHANGE, json={}).status_code == 403
    assert console.get("/").status_code == 200


def test_every_response_has_the_headers_also_refusals_and_errors(console: TestClient) -> None:
    for path, headers in (
        ("/", {}),
        ("/runs/cars/none", {}),
        ("/static/console.css", {}),
        ("/none", {}),
        ("/", {"Host": "evil.example"}),
    ):
        found = console.get(path, headers=headers).headers
        policy = found["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "data:" not in policy
        assert found["referrer-policy"] == "no-referrer"
        assert found["x-content-type-options"] == "nosniff"
        assert found["x-frame-options"] == "DENY"
        assert found["cache-control"] == "no-store"


def test_pages_need_no_inline_script_or_style(console: TestClient) -> None:
    for path in ("/", "/runs", "/models", "/none"):
        text = console.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:", text)
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", text)


def test_a_request_is_as_long_as_a_picture_at_most(console: TestClient) -> None:
    longest = 27 * 1024 * 1024
    assert console.post(CHANGE, content=b"x" * longest).status_code == 413
