"""How packing finds S3: its address in every partition, and credentials asked for only once."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from batch_prep.errors import JobError, StorageError
from batch_prep.storage.s3 import S3Folder

# The ECS agent's own limits (ECS_TASK_METADATA_RPS_LIMIT).
REQUESTS_PER_SECOND, BURST = 40, 60
READERS = 80


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("region", "more", "endpoint"),
    [
        ("eu-central-1", {}, "https://s3.eu-central-1.amazonaws.com"),
        ("us-east-1", {}, "https://s3.us-east-1.amazonaws.com"),
        ("cn-north-1", {}, "https://s3.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", {}, "https://s3.us-gov-west-1.amazonaws.com"),
        (
            "us-gov-west-1",
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            "https://s3-fips.us-gov-west-1.amazonaws.com",
        ),
        ("us-east-1", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
        ("us-east-1", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_s3_is_where_botocore_says_in_every_partition(
    environment: pytest.MonkeyPatch, region: str, more: dict[str, str], endpoint: str
) -> None:
    for name, value in {"AWS_REGION": region, **more}.items():
        environment.setenv(name, value)
    store = S3Folder("pictures", "")._store
    assert store.config["endpoint"] == endpoint
    assert store.config["region"] == region


def test_without_any_region_the_variable_is_named(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError, match="AWS_REGION"):
        S3Folder("pictures", "").exists("a")


def test_without_credentials_the_job_says_so(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_REGION", "us-east-1")
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no AWS credentials"):
        S3Folder("pictures", "").exists("a")


class Agent(ThreadingHTTPServer):
    """An ECS agent's endpoint of credentials, and beside it an S3 that holds every object."""

    request_queue_size = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.lock = threading.Lock()
        self.asked = self.refused = self.served = 0
        self.allowed, self.last = float(BURST), time.monotonic()

    def admit(self) -> bool:
        with self.lock:
            now = time.monotonic()
            self.allowed = min(BURST, self.allowed + (now - self.last) * REQUESTS_PER_SECOND)
            self.last, self.asked = now, self.asked + 1
            if self.allowed < 1:
                self.refused += 1
                return False
            self.allowed -= 1
            return True


class Answer(BaseHTTPRequestHandler):
    server: Agent

    def do_GET(self) -> None:
        if self.path.startswith("/credentials"):
            expires = datetime.now(UTC) + timedelta(hours=6)
            keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t", "RoleArn": "a"}
            body = json.dumps({**keys, "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ")})
            status = 200 if self.server.admit() else 429
        else:
            signed = "Credential=ASIA/" in self.headers.get("Authorization", "")
            status, body = (200, "a picture") if signed else (403, "")
            self.server.served += signed
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 05:00:00 GMT")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def agent(environment: pytest.MonkeyPatch) -> Iterator[Agent]:
    server = Agent()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    environment.setenv("AWS_REGION", "us-east-1")
    environment.setenv("AWS_ENDPOINT_URL_S3", address)
    environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{address}/credentials")
    yield server
    server.shutdown()
    server.server_close()


def test_readers_that_begin_together_ask_for_credentials_once(agent: Agent) -> None:
    together = threading.Barrier(READERS)

    def read(number: int) -> bytes:
        # Each its own: what a bucket keeps for itself is not what spares the agent.
        bucket = S3Folder("pictures", "datasets/cars/")
        together.wait()
        return bucket.read(f"{number}.jpg")

    with ThreadPoolExecutor(READERS) as pool:
        assert set(pool.map(read, range(READERS))) == {b"a picture"}
    assert agent.served >= READERS
    assert (agent.asked, agent.refused) == (1, 0)
