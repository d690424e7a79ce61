"""The gallery shows what the bucket has, filtered; one result has its JSON and its class map."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from droplens_cli.stack import Stack
from droplens_console.data.results import MAP_SIDE
from tests.support.console import console, deployed  # noqa: F401  fixtures
from tests.support.deployed_stack import Deployed
from tests.support.reviewing import predicted, with_versions

ONE = "/results/cars/one"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def stack(deployed: Deployed) -> Deployed:  # noqa: F811
    stack = with_versions(deployed)
    for number in range(70):
        predicted(stack, f"{number:02}.jpg", 0.3 + number / 200)
    rejected = predicted(stack, "<i>&.jpg")
    for name in ("prediction", "top", "candidates"):
        del rejected[name]
    rejected |= {"status": "rejected", "error": {"code": "image.unreadable", "message": "no <b>"}}
    stack.put("results/cars/<i>&.jpg.json", json.dumps(rejected).encode())
    return stack


@pytest.fixture
def browser(stack: Deployed, console: TestClient) -> TestClient:  # noqa: F811
    console.app.state.readers.results.sync("cars").run()  # type: ignore[attr-defined]
    return console


def tiles(page: str) -> int:
    return page.count('loading="lazy"')


def test_pages_follow_one_another(browser: TestClient, cache: Path) -> None:
    assert browser.get("/results").headers["location"] == "/results/cars"
    page = browser.get("/results/cars").text
    assert "71 results, the newest first" in page
    assert tiles(page) == 60
    more = page.partition('" rel="next"')[0].rpartition('"')[2].replace("&amp;", "&")
    assert tiles(browser.get(f"/results/cars{more}").text) == 11
    [folder] = (cache / "droplens").iterdir()
    assert folder.stat().st_mode & 0o077 == 0, "nobody else reads it"


FILTERS = {
    "label=audi": 70,
    "status=rejected": 1,
    "confident=yes": 0,
    "familiar=yes&text=1.JPG": 7,
    "text=%3Ci%3E": 1,
    "since=2026-11-22T12:00&until=2026-11-22T12:01": 71,
    "until=2026-11-22T12:00:00Z": 0,
}


def test_filters(browser: TestClient) -> None:
    for given, count in FILTERS.items():
        page = browser.get(f"/results/cars?{given}").text
        assert f'<p role="status">{count} result' in page, given
        assert tiles(page) == min(count, 60)


def test_what_is_no_filter_is_refused_or_ignored(browser: TestClient) -> None:
    assert browser.get("/results/cars?since=yesterday").status_code == 400
    assert browser.get("/results/No").status_code == 404
    assert tiles(browser.get("/results/cars?after=x&confident=perhaps").text) == 60
    assert tiles(browser.get("/results/birds").text) == 0


def test_one_result_has_its_json(browser: TestClient) -> None:
    page = browser.get(ONE, params={"key": "results/cars/<i>&.jpg.json"}).text
    assert "Rejected: no &lt;b&gt; (image.unreadable)" in page
    assert "<i>" not in page
    assert "<b>" not in page
    key = {"key": "results/cars/07.jpg.json"}
    assert browser.get("/results/cars/json", params=key).json()["image"]["key"] == (
        "input/cars/07.jpg"
    )


def test_nothing_but_results_of_the_classifier_is_read(browser: TestClient) -> None:
    others = ("", "results/cars/none.json", "models/cars/live.json", "results/birds/07.jpg.json")
    for key in others:
        for path in ("one", "json", "map"):
            answer = browser.get(f"/results/cars/{path}", params={"key": key})
            assert answer.status_code == 404, key


def test_the_class_map_is_asked_of_the_endpoint_once(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    answer = {"probabilities": [1.0], "class_map": {"label": 1, "values": [[0, 1], [0, 0]]}}

    class Endpoint:
        def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
            asked.append(request)
            return {"Body": BytesIO(json.dumps(answer).encode())}

    others = Stack.client
    monkeypatch.setattr(
        Stack,
        "client",
        lambda stack, name: Endpoint() if name == "sagemaker-runtime" else others(stack, name),
    )
    key = {"key": "results/cars/07.jpg.json"}
    page = browser.get(ONE, params=key).text
    assert not asked, "only on request"
    assert "asks the endpoint" in page
    page = browser.get(ONE, params={**key, "map": "1"}).text
    assert "most of all upper right" in page
    assert "What speaks for bmw" in page
    drawn = browser.get("/results/cars/map", params=key)
    assert drawn.headers["content-type"] == "image/png"
    assert Image.open(BytesIO(drawn.content)).size == (MAP_SIDE, MAP_SIDE)
    assert len(asked) == 1
    assert "explain=1" in asked[0]["Accept"]


def test_without_an_endpoint_the_page_says_why_there_is_no_map(browser: TestClient) -> None:
    key = {"key": "results/cars/<i>&.jpg.json", "map": "1"}
    assert "not classified by a model" in browser.get("/results/cars/map", params=key).text
