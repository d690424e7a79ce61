"""S3 Inventories, as S3 delivers them."""

import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
from pyarrow import parquet

SCHEMA = "Bucket, Key, Size, LastModifiedDate, ETag, StorageClass"
VERSIONS = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag"
FOLDER = "daily/photographs/all/"
MANIFEST = f"{FOLDER}2026-11-27T01-00Z/manifest.json"


def row(bucket: str, key: str, size: int = 2, etag: str = "", **more: Any) -> dict[str, Any]:
    """A row of a list; more: further columns, by their names in CSV."""
    return {"Bucket": bucket, "Key": key, "Size": size, "ETag": etag, **more}


def csv_file(rows: Iterable[Mapping[str, Any]], schema: str = SCHEMA) -> bytes:
    """A file of CSV: every field in quotes, keys encoded, no header."""
    names = schema.split(", ")
    cells = ([_cell(name, one.get(name, "")) for name in names] for one in rows)
    text = "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in cells)
    return gzip.compress(text.encode())


def _cell(name: str, value: Any) -> str:
    if name == "Key":
        return quote_plus(value, safe="/")
    return str(value).lower() if isinstance(value, bool) else str(value)


def parquet_file(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A file of Parquet, with keys as they are."""
    names = {"Bucket": "bucket", "Key": "key", "Size": "size", "ETag": "e_tag"}
    table = pa.Table.from_pylist([{own: one[name] for name, own in names.items()} for one in rows])
    target = io.BytesIO()
    parquet.write_table(table, target)
    return target.getvalue()


def store(s3: Any, place: str, source: str, *files: bytes, **changes: Any) -> str:
    """Store files with their manifest; returns its address. changes: fields of the manifest."""
    named = []
    for number, body in enumerate(files):
        key = f"{FOLDER}data/{number}.csv.gz"
        s3.put_object(Bucket=place, Key=key, Body=body)
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        named.append({"key": key, "size": len(body), "MD5checksum": digest})
    document = {
        "sourceBucket": source,
        "destinationBucket": f"arn:aws:s3:::{place}",
        "version": "2016-11-30",
        "creationTimestamp": "1795741200000",
        "fileFormat": "CSV",
        "fileSchema": SCHEMA,
        "files": named,
        **changes,
    }
    text = json.dumps(document).encode()
    checksum = hashlib.md5(text, usedforsecurity=False).hexdigest() + "\n"
    s3.put_object(Bucket=place, Key=MANIFEST, Body=text)
    beside = MANIFEST.replace("manifest.json", "manifest.checksum")
    s3.put_object(Bucket=place, Key=beside, Body=checksum.encode())
    return f"s3://{place}/{MANIFEST}"
