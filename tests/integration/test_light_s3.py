"""What bench-packing has packers read from and write to holds what a whole S3 would hold."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from boto3.s3.transfer import TransferConfig

from batch_prep.storage.folder import FileChanged, Span
from batch_prep.storage.s3 import S3Folder
from benchmarks.packing.__main__ import light_s3

KEY = "pictures/räder + mehr/été %2B/01.jpg"


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with light_s3(tmp_path, 0) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "bench")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "bench")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield url


def test_boto3_gets_back_what_it_has_put(endpoint: str, tmp_path: Path) -> None:
    s3 = boto3.client("s3", endpoint_url=endpoint)
    s3.create_bucket(Bucket="pictures")
    whole, small = os.urandom(20_000_000), b"a picture"
    (tmp_path / "whole").write_bytes(whole)
    s3.upload_file(str(tmp_path / "whole"), "pictures", "whole")
    s3.put_object(Bucket="pictures", Key=KEY, Body=small)
    s3.download_file("pictures", "whole", str(tmp_path / "again"), Config=TransferConfig())
    assert (tmp_path / "again").read_bytes() == whole
    assert s3.get_object(Bucket="pictures", Key=KEY)["Body"].read() == small
    part = s3.get_object(Bucket="pictures", Key="whole", Range="bytes=5-9")
    assert part["Body"].read() == whole[5:10]
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="pictures", Key="another")


@pytest.mark.usefixtures("endpoint")
def test_a_packers_storage_works_on_it() -> None:
    bucket = S3Folder("pictures", "a/")
    pieces = [os.urandom(size) for size in (6_000_000, 1_000, 7_000_000)]
    for number, piece in enumerate(pieces):
        bucket.write(f"{number}", piece)
    bucket.concatenate("joined", [Span(f"{n}", 0, len(piece)) for n, piece in enumerate(pieces)])
    assert bucket.read("joined") == b"".join(pieces)
    with bucket.writer("streamed") as stream:
        for _ in range(3):
            stream.write(pieces[0])
    assert bucket.read("streamed") == 3 * pieces[0]
    versions = {listed.path: listed.version for listed in bucket.list()}
    assert sorted(versions) == ["0", "1", "2", "joined", "streamed"]
    bucket.write("1", b"another")
    with pytest.raises(FileChanged):
        bucket.read("1", versions["1"])
    bucket.remove(["0", "1", "gone"])
    assert [listed.path for listed in bucket.files()] == ["2", "joined", "streamed"]
    with pytest.raises(FileNotFoundError):
        bucket.read("0")


@pytest.mark.usefixtures("endpoint")
def test_more_objects_than_a_page_are_listed_once_each() -> None:
    bucket = S3Folder("pictures", "a/")
    names = [f"{number:04}&" for number in range(2_003)]
    for name in names:
        bucket.write(name, b"")
    bucket.write("below/x", b"")
    assert [listed.path for listed in bucket.list()] == [*names, "below/x"]
    assert [listed.path for listed in bucket.files()] == names


def test_every_answer_is_late(repo_root: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.packing.s3", "50"]
    with subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{server.stdout.readline().strip()}",
            aws_access_key_id="bench",
            aws_secret_access_key="bench",
        )
        started = time.monotonic()
        s3.create_bucket(Bucket="pictures")
        s3.list_objects_v2(Bucket="pictures")
        assert time.monotonic() - started >= 0.1
        server.kill()
