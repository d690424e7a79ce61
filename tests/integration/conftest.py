"""Fixtures of the tests of parts together: local clouds, an S3 server, the packing job."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.support import needs
from tests.support.localcloud import JOB, MODEL, Cloud, write_container
from tests.support.packing import BUCKET, Failure, job
from tests.support.torch_jobs import TorchJobs
from tests.support.trainer import drawn_records, lay_out, run_training
from tools.s3_server import seaweedfs
from trainer.nets.convert import main as convert


@pytest.fixture(scope="session")
def new_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Cloud]]:
    """Creates clouds that are not started yet, each with two tiny containers; stops all of them."""
    needs.environment("cloud")
    made: list[Cloud] = []
    images: Path = tmp_path_factory.mktemp("images")

    def make() -> Cloud:
        folder = tmp_path_factory.mktemp("cloud")
        write_container(folder / "context", "tiny_job", JOB)
        write_container(folder / "context", "tiny_model", MODEL)
        made.append(Cloud(folder, images))
        return made[-1]

    yield make
    for cloud in made:
        cloud.cli("down")


@pytest.fixture(scope="session")
def cloud(new_cloud: Callable[[], Cloud]) -> Cloud:
    """One running cloud, for tests that only add to it under unique names."""
    shared = new_cloud()
    shared.up()
    shared.quotas("--published")
    return shared


@pytest.fixture
def failure(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Failure:
    """Run a job that fails; its message, after checking that it is in all three places."""

    def run(source: object, destination: Path, *more: str, exit_code: int = 1) -> str:
        assert job(source, destination, *more) == exit_code
        sentence = capsys.readouterr().err.splitlines()[-1]
        assert json.loads((destination / "failure.json").read_text()) == {"message": sentence}
        (logged,) = [json.loads(line) for line in caplog.messages if line.startswith("{")]
        assert logged == {
            "level": "ERROR",
            "message": sentence,
            "classifier": "letters",
            "run_id": "r1",
        }
        assert not (destination / "dataset.json").exists()
        return sentence

    return run


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that keeps its buckets on disk, as quick and as strict as S3."""
    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as url:
        yield url


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 server on this machine, with one empty bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=item["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture(scope="session")
def torch_python() -> str:
    """The interpreter of the environment with PyTorch and timm."""
    return str(needs.environment("torch"))


@pytest.fixture(scope="session")
def torch_jobs(torch_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchJobs]:
    started = TorchJobs(torch_python, tmp_path_factory.mktemp("torch"))
    yield started
    started.end()


@pytest.fixture(scope="session")
def probe_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the packaged backbones, as in the image."""
    folder = tmp_path_factory.mktemp("weights")
    convert(["--out", str(folder)])
    return folder


@pytest.fixture(scope="session")
def probe_base(tmp_path_factory: pytest.TempPathFactory, probe_weights: Path) -> Path:
    """SageMaker's folders with a model that recipe probe trained; for reading only."""
    records = drawn_records(6), drawn_records(2, first_seed=100)
    folder = lay_out(tmp_path_factory.mktemp("served"), *records)
    process = run_training(folder, probe_weights)
    assert process.returncode == 0, process.stdout
    return folder
