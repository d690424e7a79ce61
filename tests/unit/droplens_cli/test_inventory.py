"""An S3 Inventory gives the current objects of a bucket, or says in a sentence why it cannot."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from droplens.aws.s3 import Bucket
from droplens_cli import inventory
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.inventory import MOST_LINE_BYTES, Entry
from tests.support.inventories import (
    MANIFEST,
    VERSIONS,
    csv_file,
    parquet_file,
    row,
    store,
)

PLACE, SOURCE = "inventories", "photographs"


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=PLACE)
        yield client


def read(s3: Any, folder: Path) -> list[Entry]:
    found = inventory.opened(Bucket(s3, PLACE), MANIFEST)
    return list(inventory.entries(found, folder))


def test_the_objects_of_all_files_in_their_order_with_decoded_keys(s3: Any, tmp_path: Path) -> None:
    rows = [row(SOURCE, key, etag="e", StorageClass="STANDARD") for key in ("a b+é,%2B.jpg", "b/")]
    store(s3, PLACE, SOURCE, csv_file(rows), csv_file([row(SOURCE, 'c\n"d.jpg')]))
    assert read(s3, tmp_path) == [
        Entry("a b+é,%2B.jpg", 2, "e", "STANDARD"),
        Entry("b/", 2, "e", "STANDARD"),
        Entry('c\n"d.jpg', 2, None, None),
    ]
    assert list(tmp_path.iterdir()) == []


def test_of_versions_only_current_objects_are_taken(s3: Any, tmp_path: Path) -> None:
    rows = [
        row(SOURCE, "a.jpg", 3, "new", VersionId="2", IsLatest=True, IsDeleteMarker=False),
        row(SOURCE, "a.jpg", 2, "old", VersionId="1", IsLatest=False, IsDeleteMarker=False),
        {"Bucket": SOURCE, "Key": "gone.jpg", "IsLatest": True, "IsDeleteMarker": True},
        row(SOURCE, "gone.jpg", 2, "old", IsLatest=False, IsDeleteMarker=False),
    ]
    store(s3, PLACE, SOURCE, csv_file(rows, VERSIONS), fileSchema=VERSIONS)
    assert read(s3, tmp_path) == [Entry("a.jpg", 3, "new", None)]


def test_parquet_has_keys_as_they_are(s3: Any, tmp_path: Path) -> None:
    body = parquet_file([row(SOURCE, "a+%20 é.jpg", 7, "e"), row(SOURCE, "b.jpg", 8, "f")])
    store(s3, PLACE, SOURCE, body, fileFormat="Parquet", fileSchema="message s3.inventory { … }")
    assert read(s3, tmp_path) == [
        Entry("a+%20 é.jpg", 7, "e", None),
        Entry("b.jpg", 8, "f", None),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fileFormat": "ORC"}, "its files are ORC"),
        ({"fileSchema": "Bucket, Key"}, "no column Size"),
        ({"destinationBucket": "arn:aws:s3:::others"}, "in another bucket, others"),
        ({"files": [{"key": "a"}]}, "no manifest of an S3 Inventory"),
        ({"files": [{"key": "none", "size": 1, "MD5checksum": ""}]}, "there is no such object"),
        ({"files": [{"key": MANIFEST, "size": 9, "MD5checksum": ""}]}, "another size or MD5"),
        ({"files": [{"key": "a", "size": 10**12, "MD5checksum": ""}]}, "more than 4,294,967,296"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(
    s3: Any, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    store(s3, PLACE, SOURCE, csv_file([row(SOURCE, "a.jpg")]), **changes)
    with pytest.raises(CommandError, match=said) as refused:
        read(s3, tmp_path)
    assert refused.value.code == ExitCode.BAD_INPUT


def named(value: bytes | str) -> str:
    """A parameter's part of a test's name: a gzip file's bytes have the time of its making."""
    return value if isinstance(value, str) else "file"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no gzip", "no file of gzip, or damaged"),
        (csv_file([row(SOURCE, f"{n}.jpg") for n in range(999)])[:-20], "or damaged"),
        (gzip.compress(b'"photographs","a.jpg"\n'), "row 1: .* 2 columns, not 6"),
        (gzip.compress(b'"' + b"\n" * MOST_LINE_BYTES * 4), "is not as the manifest says"),
        (gzip.compress(bytes(MOST_LINE_BYTES * 500)), "a line of it has more than 65,536 bytes"),
        (gzip.compress(b"\xff" * 9 + b",,,,,\n"), "is not as the manifest says"),
        (csv_file([row(SOURCE, "a"), row("others", "b")]), "row 2: .* of bucket 'others'"),
        (csv_file([row(SOURCE, "a" * 1025)]), "is no key"),
        (csv_file([row(SOURCE, "")]), "is no key"),
        (csv_file([{"Bucket": SOURCE, "Key": "a"}]), "'a' has no size"),
        (csv_file([{"Bucket": SOURCE, "Key": "a", "Size": "-1"}]), "'a' has no size"),
        (csv_file([{"Bucket": SOURCE, "Key": "a", "Size": "x"}]), "is not as the manifest says"),
    ],
    ids=named,
)
def test_a_damaged_or_hostile_file_is_refused_by_its_name(
    s3: Any, tmp_path: Path, body: bytes, said: str
) -> None:
    store(s3, PLACE, SOURCE, body)
    with pytest.raises(CommandError, match=rf"s3://inventories/.*data/0\.csv\.gz.*{said}"):
        read(s3, tmp_path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no parquet", "no file of Parquet"),
        (parquet_file([row(SOURCE, "a", 1)])[:-9], "no file of Parquet"),
        (parquet_file([row(SOURCE, "a" * 5000, 1)]), "a text of too many bytes"),
        (parquet_file([{"Bucket": SOURCE, "Key": 3, "Size": 1, "ETag": ""}]), "of type int64"),
        (parquet_file([{"Bucket": SOURCE, "Key": "a", "Size": "1", "ETag": ""}]), "of type string"),
        (parquet_file([row(SOURCE, "a", None)]), "column size is of type null"),  # type: ignore[arg-type]
    ],
    ids=named,
)
def test_a_damaged_or_hostile_file_of_parquet_too(
    s3: Any, tmp_path: Path, body: bytes, said: str
) -> None:
    store(s3, PLACE, SOURCE, body, fileFormat="Parquet")
    with pytest.raises(CommandError, match=said):
        read(s3, tmp_path)


def test_a_manifest_of_another_md5_or_without_one_is_refused(s3: Any, tmp_path: Path) -> None:
    store(s3, PLACE, SOURCE, csv_file([row(SOURCE, "a.jpg")]))
    checksum = MANIFEST.replace("manifest.json", "manifest.checksum")
    s3.put_object(Bucket=PLACE, Key=checksum, Body=b"0" * 32)
    with pytest.raises(CommandError, match="another MD5 than"):
        read(s3, tmp_path)
    s3.delete_object(Bucket=PLACE, Key=checksum)
    with pytest.raises(CommandError, match=r"manifest\.checksum: there is no such object"):
        read(s3, tmp_path)


def test_a_list_of_too_many_versions_is_refused(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "MOST_ROWS", 3)
    old = row(SOURCE, "a.jpg", IsLatest=False)
    store(s3, PLACE, SOURCE, csv_file([old] * 4, VERSIONS), fileSchema=VERSIONS)
    with pytest.raises(CommandError, match="more than 3 versions"):
        read(s3, tmp_path)
