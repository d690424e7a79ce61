"""Dropped photos and datasets go through the console to the bucket, checked and within limits."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from droplens.imaging.limits import Limits
from tests.support.console import console, deployed  # noqa: F401  fixtures
from tests.support.deployed_stack import Deployed
from tests.support.packing import good
from tests.support.reviewing import predicted, with_versions

JSON = {"Accept": "application/json"}
FILES = good("ab")


@pytest.fixture
def browser(console: TestClient) -> Iterator[TestClient]:  # noqa: F811
    yield console
    console.app.state.readers.drops.close()  # type: ignore[attr-defined]


def keys(stack: Deployed, prefix: str) -> list[str]:
    return [entry.key for entry in stack.bucket.entries(prefix)]


# --- a photo


def test_a_photo_is_dropped_and_its_answer_shown(
    browser: TestClient,
    deployed: Deployed,  # noqa: F811
) -> None:
    stack = with_versions(deployed)
    stack.put("models/default.json", b'{"classifier": "cars"}')
    sent = browser.post(
        "/try/photo", params={"name": "C:\\my\\..\\red car.jpg"}, content=b"bytes", headers=JSON
    ).json()
    assert sent["key"].startswith("input/cli-")
    assert sent["key"].endswith("-red_car.jpg")
    assert stack.bucket.read(sent["key"])[0] == b"bytes"
    result = predicted(stack, "other.jpg")
    stack.put(sent["result"], stack.bucket.read("results/cars/other.jpg.json")[0])
    answer = browser.get("/try/answer", params=sent, headers=JSON).json()
    assert answer["result"] == result
    assert browser.get(answer["image"]).headers["content-type"] == "image/jpeg"
    assert browser.get(answer["page"]).status_code == 200


def test_a_photo_has_limits(browser: TestClient, deployed: Deployed) -> None:  # noqa: F811
    with_versions(deployed)
    wanted = {"name": "x.jpg", "classifier": "cars"}
    body = bytes(Limits().max_bytes + 1)
    answer = browser.post("/try/photo", params=wanted, content=body, headers=JSON)
    assert answer.status_code == 409
    assert "the limit of a picture" in answer.json()["error"]
    assert keys(deployed, "input/") == []
    answer = browser.post("/try/photo", params={"classifier": "birds"}, content=b"x", headers=JSON)
    assert "birds has no live model" in answer.json()["error"]
    assert browser.get("/try/answer", params={"result": "models/x"}).status_code == 404


# --- a dataset


def begun(browser: TestClient) -> str:
    return f"/try/dataset/{browser.post('/try/dataset', json={}).json()['name']}"


def send(browser: TestClient, dataset: str, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        answer = browser.post(f"{dataset}/file", params={"path": path}, content=data, headers=JSON)
        assert answer.status_code == 200, answer.text


def ended(browser: TestClient, dataset: str) -> dict[str, Any]:
    for _ in range(600):
        found: dict[str, Any] = browser.get(f"{dataset}/state").json()
        if found["step"] not in ("checking", "uploading"):
            return found
        time.sleep(0.05)
    pytest.fail(f"it is still {found['step']}")


def test_a_dataset_is_checked_then_uploaded_with_its_marker_last(
    browser: TestClient,
    deployed: Deployed,  # noqa: F811
) -> None:
    dataset = begun(browser)
    send(browser, dataset, {**FILES, "a/torn.jpg": FILES["a/0.jpg"][:300], "notes.txt": b"x"})
    browser.post(f"{dataset}/check", json={"classifier": "letters"})
    checked = ended(browser, dataset)
    assert checked["step"] == "checked", checked
    assert checked["check"]["pictures"] == len(FILES)
    assert [one["name"] for one in checked["check"]["classes"]] == ["b", "a"]
    assert checked["check"]["unreadable_count"] == 1
    assert keys(deployed, "datasets/") == [], "nothing is sent before a person says so"
    send(browser, dataset, {"b/late.jpg": b"not checked"})
    assert browser.post(f"{dataset}/upload", json={}, headers=JSON).status_code == 409
    browser.post(f"{dataset}/check", json={"classifier": "letters"})
    assert ended(browser, dataset)["check"]["unreadable_count"] == 2
    browser.post(f"{dataset}/upload", json={})
    outcome = ended(browser, dataset)
    assert (outcome["step"], outcome["is_new"]) == ("uploaded", True)
    assert outcome["run"].startswith("/runs/letters/20")
    assert keys(deployed, "datasets/") == sorted(
        [f"datasets/letters/{name}" for name in FILES] + ["datasets/letters/_READY"]
    )
    newest = max(
        deployed.s3.list_objects_v2(Bucket=deployed.bucket.name, Prefix="datasets/")["Contents"],
        key=lambda entry: entry["LastModified"],
    )
    assert newest["Key"].endswith("_READY") or newest["LastModified"].microsecond == 0


def test_a_dataset_that_packing_would_refuse_is_not_sent(
    browser: TestClient,
    deployed: Deployed,  # noqa: F811
) -> None:
    dataset = begun(browser)
    send(browser, dataset, {"a/0.jpg": FILES["a/0.jpg"], "b/0.jpg": b"torn"})
    browser.post(f"{dataset}/check", json={"classifier": "letters"})
    refused = ended(browser, dataset)
    assert refused["step"] == "failed"
    assert refused["error"]
    answer = browser.post(f"{dataset}/upload", json={}, headers=JSON)
    assert answer.status_code == 409
    browser.post(f"{dataset}/check", json={"classifier": "No Name"})
    assert "cannot be a classifier's name" in ended(browser, dataset)["error"]
    assert keys(deployed, "datasets/") == []


@pytest.mark.parametrize(
    "path", ["", "/", "../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "C:\\x.jpg", "a/.."]
)
def test_no_file_is_written_outside_of_the_folder(browser: TestClient, path: str) -> None:
    dataset = begun(browser)
    answer = browser.post(f"{dataset}/file", params={"path": path}, content=b"x", headers=JSON)
    assert answer.status_code == 409
    folder = browser.app.state.readers.drops._current.folder  # type: ignore[attr-defined]
    assert list(folder.rglob("*")) == []


def test_names_that_this_machine_cannot_write_are_errors(browser: TestClient) -> None:
    dataset = begun(browser)
    send(browser, dataset, {"a/0.jpg": b"x"})
    for path in (f"a/{'x' * 300}.jpg", "a/0.jpg/inner.jpg", "a"):
        answer = browser.post(f"{dataset}/file", params={"path": path}, content=b"x", headers=JSON)
        assert "cannot be written here" in answer.json()["error"], path


def test_a_full_disk_ends_it_before_the_last_bytes(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = begun(browser)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    answer = browser.post(f"{dataset}/file", params={"path": "a/0.jpg"}, content=b"x", headers=JSON)
    assert "disk is full" in answer.json()["error"]
    folder = browser.app.state.readers.drops._current.folder  # type: ignore[attr-defined]
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_another_dataset_takes_the_place_of_the_first(browser: TestClient) -> None:
    first = begun(browser)
    folder: Path = browser.app.state.readers.drops._current.folder  # type: ignore[attr-defined]
    send(browser, first, {"a/0.jpg": b"x"})
    begun(browser)
    assert not folder.exists()
    assert browser.get(f"{first}/state").status_code == 404
