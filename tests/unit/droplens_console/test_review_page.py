"""Review by requests as the page sends them: a response comes once a decision is kept."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from droplens.state.reviews import MOST_REVIEWS_COUNTED, Reviews
from droplens_console.rendering import counted_reviews
from tests.support.console import console, deployed  # noqa: F401  fixtures
from tests.support.deployed_stack import Deployed
from tests.support.reviewing import CLASSES, corrections, reviews_of, waiting, with_versions

JSON = {"Accept": "application/json"}


@pytest.fixture
def stack(deployed: Deployed) -> Deployed:  # noqa: F811
    stack = with_versions(deployed)
    waiting(stack, "a.jpg", "b.jpg", "<c>&.jpg")
    return stack


@pytest.fixture
def browser(stack: Deployed, console: TestClient) -> TestClient:  # noqa: F811
    return console


def claimed(browser: TestClient, count: int = 3) -> list[dict[str, Any]]:
    sent = {"page": "p", "classifier": "cars", "count": str(count)}
    answer = browser.post("/review/claim", json=sent, headers=JSON)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_the_only_classifier_is_opened_at_once(browser: TestClient) -> None:
    answer = browser.get("/review")
    assert (answer.status_code, answer.headers["location"]) == (303, "/review/cars")
    page = browser.get("/review/cars")
    assert page.status_code == 200
    assert 'data-none="_none"' in page.text
    assert browser.get("/review/No%20name").status_code == 404
    assert browser.get("/review/cars/classes").json() == {"classes": sorted(CLASSES)}


def test_an_image_is_shown_as_a_thumbnail_of_the_predicted_version(
    browser: TestClient, stack: Deployed
) -> None:
    item = claimed(browser)[0]
    address = urlsplit(item["image"])
    versions = stack.s3.list_object_versions(Bucket=stack.bucket.name, Prefix="input/cars/a.jpg")
    assert parse_qs(address.query)["version"] == [versions["Versions"][0]["VersionId"]]
    shown = browser.get(item["image"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    assert item["candidates"][0] == {"label": CLASSES[0], "probability": 0.4}
    assert item["reason"] == "not confident"


def test_decisions_are_kept_when_the_response_comes(browser: TestClient, stack: Deployed) -> None:
    first, second, third = claimed(browser)
    for item, label in ((first, "bmw"), (second, "_none"), (third, "fiat")):
        sent = {"page": "p", "item": item["name"], "label": label}
        assert browser.post("/review/decide", json=sent, headers=JSON).json() == {}
    assert set(corrections(stack).values()) == {"bmw", "_none", "fiat"}
    sent = {"page": "p", "item": second["name"]}
    assert browser.post("/review/undo", json=sent, headers=JSON).json() == {}
    assert set(corrections(stack).values()) == {"bmw", "fiat"}
    assert browser.post("/review/skip", json=sent, headers=JSON).json() == {}
    page = browser.get("/review/cars/decisions").text
    assert "&lt;c&gt;&amp;.jpg" in page
    assert "<c>" not in page
    assert page.count("<tr>") == 3
    assert [item["key"] for item in claimed(browser)] == ["input/cars/b.jpg"]


def test_what_waits_is_counted_apart_from_the_page(browser: TestClient) -> None:
    assert browser.get("/review/cars/waiting").json() == {"waiting": 3}


def test_a_count_that_ended_early_says_so() -> None:
    assert counted_reviews(MOST_REVIEWS_COUNTED - 1) == "999"
    assert counted_reviews(MOST_REVIEWS_COUNTED) == "1,000 or more"


def test_decisions_have_pages(browser: TestClient) -> None:
    assert "Nothing was decided yet" in browser.get("/review/cars/decisions").text
    assert browser.get("/review/cars/decisions?after=nonsense").status_code == 404


def test_what_cannot_be_kept_says_why(browser: TestClient, stack: Deployed) -> None:
    item = claimed(browser, 1)[0]

    def decided(**changes: str) -> tuple[int, str]:
        sent = {"page": "p", "item": item["name"], "label": "bmw", **changes}
        answer = browser.post("/review/decide", json=sent, headers=JSON)
        return answer.status_code, answer.json()["error"]

    assert decided(label="trabant") == (400, "cars has no class 'trabant'")
    assert decided(item="0" * 24)[0] == 410
    assert decided(label="")[0] == 400
    assert decided(label="x" * 2000)[0] == 400
    table: Reviews = reviews_of(stack)
    [review] = table.of_image("input/cars/a.jpg")
    table.decide(review, "fiat", "bob")
    status, error = decided()
    assert status == 409
    assert "bob" in error


@pytest.mark.parametrize("count", ["", "0", "-1", "many", "51", "9" * 50])
def test_a_claim_is_of_a_number_of_images(browser: TestClient, count: str) -> None:
    sent = {"page": "p", "classifier": "cars", "count": count}
    assert browser.post("/review/claim", json=sent, headers=JSON).status_code == 400


def test_another_site_decides_nothing(browser: TestClient, stack: Deployed) -> None:
    item = claimed(browser, 1)[0]
    sent = {"page": "p", "item": item["name"], "label": "bmw"}
    answer = browser.post("/review/decide", json=sent, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert corrections(stack) == {}
