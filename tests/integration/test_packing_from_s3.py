"""Packing from and to a real S3 server, by a way on which things go wrong."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import boto3
import pytest

from batch_prep.storage import s3 as s3_storage
from tests.support.faulty_s3 import Fault, FaultyS3, Request, nothing
from tests.support.packing import Files, good, job, jpeg, manifest, put, zipped

RECORDS = [
    f"{channel}/{channel}.{kind}"
    for channel in ("train", "validation")
    for kind in ("rec", "idx", "lst")
]


@pytest.fixture
def front(seaweed: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """The only way to S3 that the packing job knows."""
    with FaultyS3(seaweed).serving() as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.url)
        yield faulty


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives up after a second, not after minutes."""
    retries = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
    monkeypatch.setattr(s3_storage, "RETRY", retries)


@pytest.fixture
def s3(seaweed: str) -> Any:
    """A client that meets no fault."""
    return boto3.client("s3", endpoint_url=seaweed)


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"pictures-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


def upload(s3: Any, bucket: str, files: Files) -> str:
    for name, data in files.items():
        s3.put_object(Bucket=bucket, Key=f"datasets/letters/{name}", Body=data)
    return f"s3://{bucket}/datasets/letters/"


def records(s3: Any, bucket: str, prefix: str) -> dict[str, str]:
    """The SHA-256 of every file that training reads."""
    found = {}
    for path in RECORDS:
        data = s3.get_object(Bucket=bucket, Key=f"{prefix}{path}")["Body"].read()
        found[path] = hashlib.sha256(data).hexdigest()
    return found


def keys(s3: Any, bucket: str, prefix: str) -> list[str]:
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return [item["Key"].removeprefix(prefix) for item in listed]


def often(request: Request) -> bool:
    """A third of all requests, always the same ones, when they come for the first time."""
    return request.before == 0 and crc32(f"{request.method} {request.key}".encode()) % 3 == 0


@pytest.mark.parametrize("fault", Fault)
def test_what_passes_changes_nothing(front: FaultyS3, s3: Any, bucket: str, fault: Fault) -> None:
    source = upload(s3, bucket, good("abc", each=10))
    front.fate = lambda request: fault if often(request) else None
    assert job(source, f"s3://{bucket}/troubled/") == 0
    assert front.met[fault] > 5
    front.fate = nothing
    assert job(source, f"s3://{bucket}/calm/") == 0
    assert records(s3, bucket, "troubled/") == records(s3, bucket, "calm/")
    assert manifest(f"s3://{bucket}/troubled/")["counts"]["skipped"] == 0


def test_a_listing_that_is_throttled_is_asked_for_again(
    front: FaultyS3, s3: Any, bucket: str, tmp_path: Path
) -> None:
    source = upload(s3, bucket, good())
    front.fate = lambda request: (
        Fault.SLOW_DOWN if "list-type" in request.query and request.before < 2 else None
    )
    assert job(source, tmp_path) == 0
    assert front.met[Fault.SLOW_DOWN] >= 2


def test_a_picture_that_vanishes_or_changes_on_the_way_is_left_out(
    front: FaultyS3, s3: Any, bucket: str, tmp_path: Path
) -> None:
    source = upload(s3, bucket, good("ab", each=10))
    gone, changed = "datasets/letters/a/3.jpg", "datasets/letters/b/4.jpg"

    def fate(request: Request) -> None:
        if request.method == "GET" and request.key == gone:
            s3.delete_object(Bucket=bucket, Key=gone)
        if request.method == "GET" and request.key == changed and not request.before:
            s3.put_object(Bucket=bucket, Key=changed, Body=jpeg(99))

    front.fate = fate
    assert job(source, tmp_path) == 0
    done = manifest(tmp_path)
    assert {entry["name"]: entry["code"] for entry in done["skipped"]} == {
        "a/3.jpg": "file.gone",
        "b/4.jpg": "file.changed",
    }
    assert done["counts"]["train"] + done["counts"]["validation"] == 18


def test_a_picture_that_never_comes_fails_by_its_name(
    front: FaultyS3, s3: Any, bucket: str, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    source = upload(s3, bucket, good())
    lost = "datasets/letters/b/2.jpg"
    front.fate = lambda request: Fault.INTERNAL_ERROR if request.key == lost else None
    assert job(source, f"s3://{bucket}/packed/") == 75
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith(f"Could not read s3://{bucket}/{lost}: ")
    assert front.met[Fault.INTERNAL_ERROR] > 1
    told = s3.get_object(Bucket=bucket, Key="packed/failure.json")["Body"].read()
    assert json.loads(told) == {"message": sentence}
    assert "dataset.json" not in keys(s3, bucket, "packed/")
    # The bucket has recovered, and another attempt is all that it takes.
    front.fate = nothing
    assert job(source, f"s3://{bucket}/packed/") == 0
    assert job(source, f"s3://{bucket}/reference/") == 0
    assert records(s3, bucket, "packed/") == records(s3, bucket, "reference/")
    assert "failure.json" not in keys(s3, bucket, "packed/")


@pytest.mark.parametrize("fault", [Fault.INTERNAL_ERROR, Fault.RESET])
def test_an_upload_that_never_succeeds_fails_by_its_name(
    front: FaultyS3,
    s3: Any,
    bucket: str,
    impatient: None,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
) -> None:
    source = upload(s3, bucket, good())
    front.fate = lambda request: (
        fault if request.method == "PUT" and request.key.endswith("train.rec") else None
    )
    assert job(source, f"s3://{bucket}/packed/") == 75
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith(f"Could not write s3://{bucket}/packed/")
    assert "train.rec" in sentence
    assert "dataset.json" not in keys(s3, bucket, "packed/")


def test_an_s3_that_is_gone_fails_with_a_sentence(
    front: FaultyS3, s3: Any, bucket: str, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    source = upload(s3, bucket, good())
    front.fate = lambda _: Fault.RESET
    assert job(source, f"s3://{bucket}/packed/") == 75
    assert capsys.readouterr().err.splitlines()[-1].startswith("Could not ")
    assert not keys(s3, bucket, "packed/")


def test_a_part_of_a_large_upload_that_fails_is_sent_again(
    front: FaultyS3, s3: Any, bucket: str
) -> None:
    large = {f"{'ab'[n % 2]}/{n}.jpg": jpeg(n, (1500, 1500)) for n in range(16)}
    source = upload(s3, bucket, large)
    more = ("--shorter-side", "1500")
    front.fate = lambda request: (
        Fault.SLOW_DOWN if "partNumber" in request.query and not request.before else None
    )
    assert job(source, f"s3://{bucket}/troubled/", *more) == 0
    assert front.met[Fault.SLOW_DOWN] > 1
    front.fate = nothing
    assert job(source, f"s3://{bucket}/calm/", *more) == 0
    assert records(s3, bucket, "troubled/") == records(s3, bucket, "calm/")


def test_every_name_that_s3_takes_is_packed(
    front: FaultyS3, s3: Any, bucket: str, tmp_path: Path
) -> None:
    longest = "a/" + "/".join(["é" * 100] * 4) + "/"
    longest += "x" * (1024 - len(f"datasets/letters/{longest}.jpg".encode())) + ".jpg"
    names = ["a/é 😀.jpg", "a/new\nline.jpg", "a/tab\there.jpg", "b/100%2F%.jpg", "b/#?&+=.jpg"]
    names += ["b/ .jpg", "b/~'\"*.jpg", longest]
    files = good() | {name: jpeg(50 + number) for number, name in enumerate(names)}
    source = upload(s3, bucket, files)
    assert len(f"datasets/letters/{longest}".encode()) == 1024
    assert job(source, tmp_path) == 0
    done = manifest(tmp_path)
    refused = {entry["name"]: entry["code"] for entry in done["skipped"]}
    assert refused == {"a/new line.jpg": "file.path", "a/tab here.jpg": "file.path"}
    lists = [(tmp_path / channel / f"{channel}.lst") for channel in ("train", "validation")]
    packed = {line.split("\t")[2] for path in lists for line in path.read_text().splitlines()}
    # What was refused is named on one line, whatever its key holds.
    assert packed == {name for name in files if "\n" not in name and "\t" not in name}


@pytest.mark.parametrize("fault", Fault)
def test_an_archive_is_read_through_trouble(
    front: FaultyS3, s3: Any, bucket: str, tmp_path: Path, fault: Fault
) -> None:
    files = {f"{'ab'[n % 2]}/{n}.jpg": jpeg(n, (1500, 1500)) for n in range(16)}
    archive = zipped(files)
    assert len(archive) > 8 * 1024 * 1024  # more than one request's worth
    s3.put_object(Bucket=bucket, Key="datasets/letters.zip", Body=archive)
    front.fate = lambda request: (
        fault if request.method == "GET" and request.before % 2 == 0 else None
    )
    assert job(f"s3://{bucket}/datasets/letters.zip", tmp_path / "troubled") == 0
    assert front.met[fault] > 1
    assert (
        job(put(tmp_path / "in", {"letters.zip": archive}) / "letters.zip", tmp_path / "calm") == 0
    )
    for path in RECORDS:
        troubled, calm = (tmp_path / way / path for way in ("troubled", "calm"))
        assert troubled.read_bytes() == calm.read_bytes()
