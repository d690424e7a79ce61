"""Reads the results of a classifier, filters them, and writes them as CSV, JSON Lines or Parquet.

Results of both versions of the schema are read; what v1 does not have is null.
"""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any

from droplens.aws.s3 import Bucket
from droplens.classify.former_results import MAX_RESULT_BYTES
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.session import CONNECTIONS

SCHEMAS = frozenset({"droplens.result.v1", "droplens.result.v2"})
# Results that are requested before the first of them is used.
_AT_ONCE = 8 * CONNECTIONS
_ROWS_AT_ONCE = 5000
_CLOCKS_APART = timedelta(minutes=5)

# Columns of every format. `candidates` is a list, in CSV with "|" between.
COLUMNS = (
    "key",
    "classifier",
    "status",
    "label",
    "probability",
    "confident",
    "familiar",
    "familiarity",
    "candidates",
    "error_code",
    "error_message",
    "run_id",
    "classified_at",
    "etag",
    "version_id",
    "bytes",
)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which results are wanted; None or "" of a field: all.

    below: first part of the path below the classifier's folder; confident, familiar: whether the
    prediction is; since, until: of classified_at, `until` not included.
    """

    below: str = ""
    label: str = ""
    status: str = ""
    confident: bool | None = None
    familiar: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether the result is wanted."""
        classified_at = datetime.fromisoformat(row["classified_at"])
        return (
            self.label in ("", row["label"])
            and self.status in ("", row["status"])
            and self.confident in (None, row["confident"])
            and self.familiar in (None, row["familiar"])
            and (self.since is None or classified_at >= self.since)
            and (self.until is None or classified_at < self.until)
        )


@dataclass(slots=True)
class Skipped:
    """Objects below results/ that are no results. first: the key of the first of them."""

    count: int = 0
    first: str = ""


def read(
    bucket: Bucket, classifier: str, wanted: Filter, skipped: Skipped
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The wanted results of the classifier in the order of their keys: row, and whole document.

    skipped: counts what is no result.
    """
    keys = _keys(bucket, f"{layout.RESULTS}{classifier}/{wanted.below}", wanted.since)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        while batch := list(islice(keys, _AT_ONCE)):
            for key, result in zip(
                batch, threads.map(lambda key: _result(bucket, key), batch), strict=True
            ):
                row = None if result is None else to_row(result)
                if result is None or row is None:
                    skipped.count += 1
                    skipped.first = skipped.first or key
                elif wanted.takes(row):
                    yield row, result


def to_row(result: Mapping[str, Any]) -> Row | None:
    """The columns of a result, v1 or v2; None where the document is no result."""
    try:
        if result["schema"] not in SCHEMAS:
            return None
        image, prediction = result["image"], result.get("prediction") or {}
        error = result.get("error") or {}
        if datetime.fromisoformat(result["classified_at"]).tzinfo is None:
            return None
        return {
            "key": image["key"],
            "classifier": result["classifier"],
            "status": result["status"],
            "label": prediction.get("label"),
            "probability": prediction.get("probability"),
            "confident": prediction.get("confident"),
            "familiar": prediction.get("familiar"),
            "familiarity": prediction.get("familiarity"),
            "candidates": result.get("candidates"),
            "error_code": error.get("code"),
            "error_message": error.get("message"),
            "run_id": result["model"]["run_id"],
            "classified_at": result["classified_at"],
            "etag": image["etag"],
            "version_id": image["version_id"],
            "bytes": image["bytes"],
        }
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _keys(bucket: Bucket, prefix: str, since: datetime | None) -> Iterator[str]:
    """The keys below the prefix. A result is stored after it was made, but by another clock."""
    oldest = None if since is None else since - _CLOCKS_APART
    client: Any = bucket.client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=prefix):
        for entry in page.get("Contents", []):
            if entry["Key"].endswith(".json") and (
                oldest is None or entry["LastModified"] >= oldest
            ):
                yield entry["Key"]


def _result(bucket: Bucket, key: str) -> dict[str, Any] | None:
    try:
        body, _ = bucket.read_at_most(key, MAX_RESULT_BYTES)
        found = json.loads(body) if body is not None else None
    except (ObjectMissing, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


Found = Iterable[tuple[Row, dict[str, Any]]]


def write(found: Found, kind: str, output: Path | None) -> int:
    """Write results as "csv", "jsonl" or "parquet"; returns how many.

    output: None for standard output. A file is written beside its place first, so that it is
    complete or not there. Raises CommandError for Parquet without a file, and where the file cannot
    be written.
    """
    if output is None:
        if kind == "parquet":
            raise CommandError(
                "Parquet is not text, so it is not printed", "name a file by -o", ExitCode.USAGE
            )
        return _WRITERS[kind](found, sys.stdout)
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        if kind == "parquet":
            count = _write_parquet(found, beside)
        else:
            with beside.open("w", encoding="utf-8", newline="") as file:
                count = _WRITERS[kind](found, file)
        beside.replace(output)
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)
    return count


def _write_csv(found: Found, file: IO[str]) -> int:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    count = 0
    for row, _ in found:
        count += 1
        candidates = row["candidates"]
        cells = {**row, "candidates": None if candidates is None else "|".join(candidates)}
        writer.writerow({name: _cell(value) for name, value in cells.items()})
    return count


def _write_json_lines(found: Found, file: IO[str]) -> int:
    count = 0
    for _, result in found:
        count += 1
        file.write(json.dumps(result, ensure_ascii=False) + "\n")
    return count


_WRITERS = {"csv": _write_csv, "jsonl": _write_json_lines}


def _write_parquet(found: Found, path: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {
        "probability": pa.float64(),
        "familiarity": pa.float64(),
        "confident": pa.bool_(),
        "familiar": pa.bool_(),
        "candidates": pa.list_(pa.string()),
        "bytes": pa.int64(),
        "classified_at": pa.timestamp("ms", tz="UTC"),
    }
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    count = 0
    rows = (
        {**row, "classified_at": datetime.fromisoformat(row["classified_at"])} for row, _ in found
    )
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def format_of(path: Path) -> str:
    """The format of a file by its name's ending. Raises CommandError for an unknown one."""
    known = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
    if path.suffix.lower() not in known:
        raise CommandError(
            f"the format of {path} is not known by its ending",
            f"use one of {', '.join(known)}, or say --format",
            ExitCode.USAGE,
        )
    return known[path.suffix.lower()]


def _cell(value: Any) -> Any:
    """A value as CSV has it: booleans as in JSON."""
    return str(value).lower() if isinstance(value, bool) else value
