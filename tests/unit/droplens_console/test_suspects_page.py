"""Suspects by requests as the page sends them."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from droplens.domain import layout
from tests.support.builders import RUN
from tests.support.console import console, deployed  # noqa: F401  fixtures
from tests.support.deployed_stack import Deployed
from tests.support.packing import good, job, put
from tests.support.reviewing import corrections, with_versions

JSON = {"Accept": "application/json"}
HERE = f"/suspects/cars/{RUN.run_id}"
FILES = good("ab")


@pytest.fixture
def stack(deployed: Deployed, tmp_path: Path) -> Deployed:  # noqa: F811
    stack = with_versions(deployed)
    stack.runs.open(RUN, {"key": "datasets/cars/", "version": "v", "etag": "e"})
    assert job(put(tmp_path / "source", FILES), tmp_path / "packed") == 0
    prefix = layout.packed_prefix(RUN.classifier, RUN.run_id)
    for path in (tmp_path / "packed").rglob("*"):
        if path.is_file():
            stack.put(f"{prefix}{path.relative_to(tmp_path / 'packed')}", path.read_bytes())
    for name, data in FILES.items():
        stack.put(f"datasets/cars/{name}", data)
    listing = (tmp_path / "packed/train/train.lst").read_text().splitlines()
    lines = [
        {"record": int(record), "name": name, "label": name[0], "likely": "b"}
        | {"channel": "train", "probability": 0.01, "likely_probability": 0.9}
        for record, _, name in (line.split("\t") for line in listing)
        if name.startswith("a/")
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    stack.put(layout.suspects_key(RUN.classifier, RUN.run_id), body.encode())
    return stack


@pytest.fixture
def browser(stack: Deployed, console: TestClient) -> TestClient:  # noqa: F811
    return console


def undecided(browser: TestClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = browser.get(f"{HERE}/undecided").json()["items"]
    return items


def test_pairs_are_decided_one_after_another(browser: TestClient, stack: Deployed) -> None:
    assert browser.get("/suspects").headers["location"] == HERE
    first, second, *others = undecided(browser)
    assert f'<span id="left">{2 + len(others)}</span>' in browser.get(HERE).text
    shown = browser.get(first["image"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    assert browser.get(first["typical"]).status_code == 404, "no evaluation names one"
    for item, label in ((first, "b"), (second, "_none")):
        sent = {"item": item["name"], "label": label}
        assert browser.post(f"{HERE}/decide", json=sent, headers=JSON).json() == {}
    assert sorted(corrections(stack).values()) == ["_none", "b"]
    assert undecided(browser) == others
    assert browser.post(f"{HERE}/undo", json={"item": first["name"]}, headers=JSON).json() == {}
    assert list(corrections(stack).values()) == ["_none"]


def test_what_cannot_be_decided_says_why(browser: TestClient, stack: Deployed) -> None:
    [item, *_] = undecided(browser)

    def decided(**changes: str) -> tuple[int, str]:
        sent = {"item": item["name"], "label": "b", **changes}
        answer = browser.post(f"{HERE}/decide", json=sent, headers=JSON)
        return answer.status_code, answer.json()["error"]

    assert decided(label="z") == (400, "the dataset has no class 'z'")
    assert decided(item="12345")[0] == 404
    assert decided(item="²")[0] == 404
    stack.s3.delete_object(Bucket=stack.bucket.name, Key=f"datasets/cars/{item['file']}")
    status, error = decided()
    assert status == 409
    assert "not in the bucket any more" in error
    assert corrections(stack) == {}


def test_a_run_without_suspects_says_so(browser: TestClient, stack: Deployed) -> None:
    key = layout.suspects_key(RUN.classifier, RUN.run_id)
    stack.s3.delete_object(Bucket=stack.bucket.name, Key=key)
    answer = browser.get(HERE)
    assert answer.status_code == 404
    assert "has no list of suspects" in answer.text
    assert browser.get("/suspects/cars/20200101-000000-000000").status_code == 404
