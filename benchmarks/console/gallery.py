"""How quick the gallery's pages are at so many results, and how long its index takes.

Pages are requested of the application in this process, rendered to HTML; their thumbnails are not
among what is timed. The index is brought up to date from an S3 server of this machine, SeaweedFS;
S3 itself answers later, and is not measured.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
from obstore.store import S3Store
from starlette.testclient import TestClient

from benchmarks.console.images import CLASSES, CLASSIFIER, results
from benchmarks.harness import quartiles
from droplens.aws.s3 import Bucket
from droplens.domain.result import to_json
from droplens_cli.results import to_row
from droplens_cli.session import CONFIG
from droplens_cli.target import Target
from droplens_console.app import application
from droplens_console.data.results_index import Indexed, ResultsIndex
from droplens_console.data.results_sync import ResultsSync
from droplens_console.security import Access
from tools.s3_server import seaweedfs

REPEATS = 20
_BUCKET = "results-of-the-benchmark"
_WRITERS = 32
LISTED = 10_000  # results in the server; those of which pages are timed are in the index only
_LABEL = CLASSES[7].replace(" ", "+")
PAGES = {
    "the newest": "",
    "of one class": f"label={_LABEL}",
    "rejected": "status=rejected",
    "not confident": "confident=no",
    "unfamiliar, of one class": f"familiar=no&label={_LABEL}",
    "of one day": "since=2026-03-01T00:00&until=2026-03-02T00:00",
    "with a part of the name": "text=0077777",
    "with a text that nothing has": "text=nothing+like+it",
}


class _Stack:
    """What the gallery uses of a stack: a bucket."""

    target = Target(stack="benchmark", region="us-east-1")
    name = target.stack

    def __init__(self, endpoint: str) -> None:
        make: Any = boto3.client
        client = make(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",  # noqa: S106  SeaweedFS accepts all
            config=CONFIG,
        )
        self.bucket = Bucket(client, _BUCKET)


def measure(count: int, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """The figures of `count` results. folder: for the server; XDG_CACHE_HOME names the index's."""
    with seaweedfs(folder) as endpoint:
        stack = _Stack(endpoint)
        stack.bucket.client.create_bucket(Bucket=_BUCKET)
        access = Access(8765)
        app = application(stack, access)  # type: ignore[arg-type]
        reader = app.state.readers.results
        reader.sync(CLASSIFIER).stop()  # it would forget what is not in the bucket
        _index(reader.index, count)
        progress(f"{count:,} results in the index")
        with TestClient(app, base_url="http://127.0.0.1:8765") as client:
            client.get("/enter", params={"token": access.token})
            pages = {name: _timed(client, given) for name, given in PAGES.items()}
            last = _timed(client, f"after={_place_before_the_last(reader, count)}")
        size = sum(path.stat().st_size for path in _files())
        progress("pages timed")
        _fill(endpoint, LISTED)
        sync = ResultsSync(stack.bucket, ResultsIndex(folder / "other.sqlite"), CLASSIFIER)
        first, again = _seconds(sync.run), _seconds(sync.run)
        assert (sync.progress.listed, sync.progress.waiting) == (LISTED, 0)
    return {
        "results": count,
        "pages_ms": {**pages, "the last of all": last},
        "repeats": REPEATS,
        "index_bytes_per_result": round(size / count),
        "listed": LISTED,
        "listing_seconds": round(again, 2),
        "read_per_second": round(LISTED / (first - again), 1),
    }


def _fill(endpoint: str, count: int) -> None:
    store = S3Store(
        _BUCKET,
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="any",
        secret_access_key="any",  # noqa: S106  SeaweedFS accepts all
        client_options={"allow_http": True},
    )
    found = results(count)
    with ThreadPoolExecutor(_WRITERS) as threads:
        while batch := list(islice(found, 1000)):
            list(threads.map(lambda one: store.put(one[0], to_json(one[1])), batch))


def _index(index: ResultsIndex, count: int) -> None:
    """Put results into the index as a pass would have."""
    found = ((Indexed(key, "0" * 32, 0.0), to_row(result)) for key, result in results(count))
    while batch := list(islice(found, 1000)):
        index.add(CLASSIFIER, batch)


def _seconds(act: Callable[[], None]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def _timed(client: TestClient, given: str) -> dict[str, float]:
    spent = []
    for _ in range(REPEATS):
        began = time.monotonic()
        answer = client.get(f"/results/{CLASSIFIER}?{given}")
        spent.append(1000 * (time.monotonic() - began))
        assert answer.status_code == 200, answer.text
    return quartiles(spent)


def _place_before_the_last(reader: Any, count: int) -> str:
    """Of the last whole page."""
    connection = reader.index._connection
    row = connection.execute(
        "SELECT classified_at, id FROM results "
        "ORDER BY classified_at DESC, id DESC LIMIT 1 OFFSET ?",
        [count - 61],
    ).fetchone()
    return f"{row['classified_at']}-{row['id']}"


def _files() -> list[Path]:
    return [path for path in Path(os.environ["XDG_CACHE_HOME"]).rglob("*") if path.is_file()]
