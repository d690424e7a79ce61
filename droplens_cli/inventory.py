"""S3 Inventory: the objects of a bucket as a delivered manifest lists them.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html, "Amazon S3 Inventory
list"; storage-inventory-location.html, "Inventory manifest". manifest.json names the files of the
list with their MD5, and manifest.checksum beside it has its own. CSV files are compressed by gzip
and have no header: the manifest's fileSchema names the columns.
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from droplens.aws.s3 import Bucket
from droplens.domain.errors import ObjectMissing
from droplens.domain.inference_job import MOST_IMAGES
from droplens_cli.errors import CommandError, ExitCode

CSV, PARQUET = "CSV", "Parquet"
# An entry of a file has some 150 bytes, so that a manifest names 100,000.
MOST_MANIFEST_BYTES = 16 * 1024**2
MOST_FILE_BYTES = 4 * 1024**3
# Of a line of CSV: a key has 3,072 bytes at most when encoded, an access control list a few more.
MOST_LINE_BYTES = 64 * 1024
MOST_KEY_BYTES = 1024
# Of all files together, old versions and delete markers included: an hour's reading.
MOST_ROWS = 10 * MOST_IMAGES
# Of a row group of Parquet when it is read, all columns; S3 writes some 128 MB.
MOST_GROUP_BYTES = 1024**3
_READ_AT_ONCE = 1024**2
_ROWS_AT_ONCE = 10_000
# The columns that are read, as CSV and as Parquet name them. The first three are needed.
_COLUMNS = {
    "Bucket": "bucket",
    "Key": "key",
    "Size": "size",
    "ETag": "e_tag",
    "StorageClass": "storage_class",
    "IsLatest": "is_latest",
    "IsDeleteMarker": "is_delete_marker",
}
_NEEDED = ("Bucket", "Key", "Size")
_BOOLEANS = {"true": True, "false": False, None: None}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of an inventory. md5: of its bytes as they are stored, in hexadecimal digits."""

    key: str
    bytes: int
    md5: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """A manifest.

    address: its own; place: the bucket that has it and its files; bucket: whose objects it lists;
    format: CSV or Parquet; columns: those of CSV, in order.
    """

    address: str
    place: Bucket
    bucket: str
    format: str
    columns: tuple[str, ...]
    files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of an inventory, in its current version.

    etag, storage_class: None where the inventory does not have them.
    """

    key: str
    bytes: int
    etag: str | None
    storage_class: str | None


def opened(place: Bucket, key: str) -> Inventory:
    """Read the manifest `key` of a bucket. Raises CommandError."""
    address = _address(place, key)
    text = _read(place, key, MOST_MANIFEST_BYTES)
    checksum_key = f"{key.rpartition('/')[0]}/manifest.checksum".removeprefix("/")
    checksum = _read(place, checksum_key, MOST_LINE_BYTES)
    if hashlib.md5(text, usedforsecurity=False).hexdigest().encode() != checksum.strip().lower():
        raise _refusal(address, "it has another MD5 than manifest.checksum beside it says")
    try:
        document = json.loads(text)
        destination = document["destinationBucket"].rpartition(":")[2]
        found = Inventory(
            address=address,
            place=place,
            bucket=str(document["sourceBucket"]),
            format=str(document["fileFormat"]),
            columns=tuple(name.strip() for name in document["fileSchema"].split(",")),
            files=tuple(
                DataFile(str(one["key"]), int(one["size"]), str(one["MD5checksum"]).lower())
                for one in document["files"]
            ),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _refusal(address, f"it is no manifest of an S3 Inventory: {error!r}") from None
    if destination != place.name:
        raise _refusal(address, f"its files are in another bucket, {destination}")
    if found.format not in (CSV, PARQUET):
        raise _refusal(
            address,
            f"its files are {found.format}",
            "configure the inventory to be delivered as CSV or Parquet",
        )
    if found.format == CSV:
        _check_columns(address, found.columns)
    return found


def entries(inventory: Inventory, folder: Path) -> Iterator[Entry]:
    """The current objects that the inventory lists; old versions and delete markers are left out.

    folder: where one file at a time is kept while it is read. Raises CommandError.
    """
    path, rows = folder / "inventory", 0
    for file in inventory.files:
        address = _address(inventory.place, file.key)
        _download(inventory.place, file, path)
        found = (
            _csv_rows(path, address, inventory.columns)
            if inventory.format == CSV
            else _parquet_rows(path, address)
        )
        for number, row in enumerate(found, 1):
            rows += 1
            if rows > MOST_ROWS:
                raise _refusal(inventory.address, f"it lists more than {MOST_ROWS:,} versions")
            if row.get("IsLatest") is not False and not row.get("IsDeleteMarker"):
                yield _entry(row, inventory.bucket, f"{address}, row {number:,}")
    path.unlink(missing_ok=True)


def _entry(row: Row, bucket: str, where: str) -> Entry:
    if row["Bucket"] != bucket:
        raise _refusal(where, f"it is of bucket {row['Bucket']!r:.100}, not of {bucket}")
    key, size = row["Key"], row["Size"]
    if not key or len(key.encode("utf-8", "surrogatepass")) > MOST_KEY_BYTES:
        raise _refusal(where, f"{key!r:.100} is no key of an object")
    if size is None or size < 0:
        raise _refusal(where, f"{key!r} has no size")
    return Entry(key, size, (row.get("ETag") or "").strip('"') or None, row.get("StorageClass"))


def _csv_rows(path: Path, address: str, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a file of CSV. Empty fields are None."""
    number = 0
    try:
        with gzip.open(path) as file:
            for cells in csv.reader(_lines(io.BufferedReader(file), address), strict=True):
                number += 1
                if len(cells) != len(columns):
                    raise ValueError(f"{len(cells)} columns, not {len(columns)}")
                row: Row = dict(zip(columns, (cell or None for cell in cells), strict=True))
                # A space is a plus sign: cloud-custodian/cloud-custodian, issue 1997, on GitHub.
                row["Key"] = unquote_plus(row["Key"] or "", errors="strict")
                # Of a delete marker it is empty.
                row["Size"] = int(row["Size"]) if row["Size"] else None
                for name in ("IsLatest", "IsDeleteMarker"):
                    if name in row:
                        row[name] = _BOOLEANS[row[name]]
                yield row
    except (ValueError, KeyError, csv.Error) as error:
        where = f"{address}, row {number:,}"
        raise _refusal(where, f"it is not as the manifest says: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _refusal(address, f"it is no file of gzip, or damaged: {error}") from None


def _lines(file: io.BufferedReader, address: str) -> Iterator[str]:
    while line := file.readline(MOST_LINE_BYTES + 1):
        if len(line) > MOST_LINE_BYTES:
            raise _refusal(address, f"a line of it has more than {MOST_LINE_BYTES:,} bytes")
        yield line.decode()


def _parquet_rows(path: Path, address: str) -> Iterator[Row]:
    """The rows of a file of Parquet."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    kinds = {
        "size": pa.types.is_integer,
        "is_latest": pa.types.is_boolean,
        "is_delete_marker": pa.types.is_boolean,
    }
    try:
        metadata = parquet.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        names = [name for name, own in _COLUMNS.items() if own in schema.names]
        _check_columns(address, names)
        wanted = [_COLUMNS[name] for name in names]
        for own in wanted:
            kind = schema.field(own).type
            if not kinds.get(own, pa.types.is_string)(kind):
                raise ValueError(f"column {own} is of type {kind}")
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        if any(group.total_byte_size > MOST_GROUP_BYTES for group in groups):
            raise _refusal(address, "a row group of it is larger than any of S3's")
        # As dictionaries, whose texts can be measured before they are copied into each row.
        texts = [own for own in wanted if own not in kinds]
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
                for own in texts:
                    lengths = compute.binary_length(batch.column(own).dictionary)
                    if (compute.max(lengths).as_py() or 0) > MOST_KEY_BYTES:
                        raise ValueError(f"column {own} has a text of too many bytes")
                columns = (batch.column(own).to_pylist() for own in wanted)
                for values in zip(*columns, strict=True):
                    yield dict(zip(names, values, strict=True))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _refusal(address, f"it is no file of Parquet, or damaged: {error}") from None


def _check_columns(address: str, columns: Sequence[str]) -> None:
    if missing := [name for name in _NEEDED if name not in columns]:
        raise _refusal(
            address,
            f"it has no column {', '.join(missing)}",
            "configure the inventory with the field Size; Bucket and Key are always in it",
        )


def _download(place: Bucket, file: DataFile, path: Path) -> None:
    """Store a file of the list, once its size and its MD5 are those of the manifest."""
    address, digest, size = _address(place, file.key), hashlib.md5(usedforsecurity=False), 0
    if file.bytes > MOST_FILE_BYTES:
        raise _refusal(address, f"it has more than {MOST_FILE_BYTES:,} bytes")
    with _missing_refused(address):
        body = place.stream(file.key)
    with closing(body), path.open("wb") as target:
        for part in body.iter_chunks(_READ_AT_ONCE):
            size += len(part)
            if size > file.bytes:
                break
            digest.update(part)
            target.write(part)
    if (size, digest.hexdigest()) != (file.bytes, file.md5):
        raise _refusal(address, "it has another size or MD5 than the manifest says")


def _read(place: Bucket, key: str, most: int) -> bytes:
    address = _address(place, key)
    with _missing_refused(address):
        text, _ = place.read_at_most(key, most)
    if text is None:
        raise _refusal(address, f"it has more than {most:,} bytes")
    return text


@contextmanager
def _missing_refused(address: str) -> Iterator[None]:
    try:
        yield
    except ObjectMissing:
        raise _refusal(
            address,
            "there is no such object",
            "name the manifest.json of an inventory that is complete: manifest.checksum is beside "
            "it, and its files are still there",
        ) from None


def _address(place: Bucket, key: str) -> str:
    return f"s3://{place.name}/{key}"


def _refusal(address: str, reason: str, next_step: str = "") -> CommandError:
    return CommandError(f"{address}: {reason}", next_step, ExitCode.BAD_INPUT)
