"""The index is brought up to date with the bucket, whatever is in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from droplens.aws.s3 import Bucket
from droplens_console.data.results_index import ResultsIndex, Wanted
from droplens_console.data.results_sync import ResultsSync
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture
from tests.support.localcloud import eventually


def result(name: str, label: str = "audi") -> bytes:
    document: dict[str, Any] = {
        "schema": "droplens.result.v2",
        "status": "classified",
        "image": {
            "bucket": "b",
            "key": f"input/cars/{name}",
            "etag": "0" * 32,
            "version_id": "v",
            "bytes": 5,
        },
        "classifier": "cars",
        "prediction": {"label": label, "probability": 0.75, "confident": True, "familiar": None},
        "model": {"run_id": "20261122-120000-1a2b3c", "endpoint": "e", "accuracy": 0.9},
        "classified_at": "2026-11-22T12:00:00Z",
    }
    return json.dumps(document).encode()


@pytest.fixture
def index(tmp_path: Path) -> ResultsIndex:
    return ResultsIndex(tmp_path / "results.sqlite")


@pytest.fixture
def three(deployed: Deployed) -> Deployed:  # noqa: F811
    for name in ("one.jpg", "two.jpg", "three.jpg"):
        deployed.put(f"results/cars/{name}.json", result(name))
    deployed.put("results/cars/torn.json", b'{"schema"')
    deployed.put("results/cars/list.json", b"[1]")
    deployed.put("results/cars/notes.txt", b"no result")
    deployed.put("results/cars-2/other.jpg.json", result("other.jpg"))
    return deployed


def images(index: ResultsIndex) -> set[str]:
    return {one.image.rpartition("/")[2] for one in index.page("cars", Wanted()).rows}


def test_a_pass_reads_what_is_new_changed_or_gone(three: Deployed, index: ResultsIndex) -> None:
    sync = ResultsSync(three.bucket, index, "cars")
    sync.run()
    assert images(index) == {"one.jpg", "two.jpg", "three.jpg"}
    assert (sync.progress.listed, sync.progress.waiting, sync.progress.complete) == (5, 0, True)
    three.put("results/cars/two.jpg.json", result("two.jpg", "bmw"))
    three.put("results/cars/four.jpg.json", result("four.jpg"))
    three.s3.delete_object(Bucket=three.bucket.name, Key="results/cars/one.jpg.json")
    sync.run()
    assert images(index) == {"two.jpg", "three.jpg", "four.jpg"}
    assert dict(index.labels("cars")) == {"audi": 2, "bmw": 1}


def test_what_is_there_is_not_read_again(three: Deployed, index: ResultsIndex) -> None:
    ResultsSync(three.bucket, index, "cars").run()
    reads: list[str] = []

    class Counting(Bucket):
        def read_at_most(self, key: str, limit: int) -> Any:
            reads.append(key)
            return super().read_at_most(key, limit)

    ResultsSync(Counting(three.s3, three.bucket.name), index, "cars").run()
    assert reads == []


def test_a_failed_pass_says_why_and_another_follows(three: Deployed, index: ResultsIndex) -> None:
    sync = ResultsSync(Bucket(three.s3, "no-such-bucket"), index, "cars")
    sync.wake()
    error = eventually("the end of the pass", lambda: sync.progress.error)
    assert "NoSuchBucket" in error
    assert not sync.progress.complete
    sync.wake()  # too early
    assert sync.progress.error == error


def test_waking_begins_a_pass(three: Deployed, index: ResultsIndex) -> None:
    sync = ResultsSync(three.bucket, index, "cars")
    sync.wake()
    assert eventually("the end of the pass", lambda: sync.progress.complete)
    three.put("results/cars/four.jpg.json", result("four.jpg"))
    sync.wake()  # just now was one
    sync.wake(clock=lambda: 1e12)
    assert eventually("the next pass", lambda: "four.jpg" in images(index))


def test_a_stopped_one_reads_no_more(three: Deployed, index: ResultsIndex) -> None:
    sync = ResultsSync(three.bucket, index, "cars")
    sync.stop()
    sync.wake()
    sync.run()
    assert images(index) == set()
