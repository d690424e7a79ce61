"""An index of a stack's results in SQLite, from which the gallery reads its pages.

The results in S3 are authoritative; the index is a copy of their columns that can be deleted at any
time, and `results_sync` brings it up to date. Pages are found by the last row of the page before
(keyset pagination), so that a late page takes no longer than the first.
"""

import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from droplens_cli.results import Row

# Another number, and an index of an earlier version is made anew.
_VERSION = 1
# Of the file, read through the page cache of the system: 100,000 results have 45 MB.
_MAPPED_BYTES = 2**30
_COLUMNS = (
    "classifier",
    "key",
    "etag",
    "modified",
    "image",
    "version_id",
    "status",
    "label",
    "probability",
    "confident",
    "familiar",
    "error_code",
    "run_id",
    "classified_at",
)
_TABLES = """
CREATE TABLE results (
  id INTEGER PRIMARY KEY, classifier TEXT NOT NULL, key TEXT NOT NULL UNIQUE, etag TEXT NOT NULL,
  modified REAL NOT NULL, image TEXT NOT NULL, version_id TEXT, status TEXT NOT NULL, label TEXT,
  probability REAL, confident INTEGER, familiar INTEGER, error_code TEXT, run_id TEXT NOT NULL,
  classified_at INTEGER NOT NULL);
CREATE INDEX newest ON results (classifier, classified_at, id);
CREATE INDEX by_label ON results (classifier, label, classified_at, id);
CREATE INDEX by_answer ON results (classifier, status, confident, familiar, classified_at, id);
CREATE TABLE skipped (key TEXT PRIMARY KEY, classifier TEXT NOT NULL, etag TEXT NOT NULL);
"""
_PATTERN = re.compile(r"[%_\\]")
_INSERT = (
    f"INSERT INTO results ({', '.join(_COLUMNS)}) "  # noqa: S608  of these columns
    f"VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which results are wanted; None or "" of a field: all.

    confident, familiar: whether the prediction is; text: part of the image's key or the class,
    in any case; since, until: of classified_at, `until` not included.
    """

    label: str = ""
    status: str = ""
    confident: bool | None = None
    familiar: bool | None = None
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Indexed:
    """An object below results/ as a listing names it. modified: seconds since 1970."""

    key: str
    etag: str
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A result's columns. key: of the result; image: key of the image."""

    id: int
    key: str
    image: str
    version_id: str | None
    status: str
    label: str | None
    probability: float | None
    confident: bool | None
    familiar: bool | None
    error_code: str | None
    run_id: str
    classified_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """The place after a row in the order of the gallery; `str` of it is for addresses."""

    classified_at: int
    id: int

    def __str__(self) -> str:
        return f"{self.classified_at}-{self.id}"

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """The place that `str` wrote; None for "" and anything else."""
        time, _, number = text.partition("-")
        # SQLite's integers have 64 bits.
        if not (time.isdecimal() and number.isdecimal() and len(time) <= 18 >= len(number)):
            return None
        return cls(int(time), int(number))


@dataclass(frozen=True, slots=True)
class Page:
    """Results, the newest first. after: the place of the next page, None at the end."""

    rows: Sequence[Found]
    after: Place | None


class ResultsIndex:
    """The index in the file `path`. Thread-safe: each thread has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.local()
        self._writing = threading.Lock()
        try:
            self._prepare()
        except sqlite3.DatabaseError:  # damaged: it is read again from the bucket
            self._delete()
            self._prepare()

    def page(
        self, classifier: str, wanted: Wanted, after: Place | None = None, limit: int = 60
    ) -> Page:
        """The next wanted results, at most `limit`."""
        where, values = _conditions(classifier, wanted)
        if after is not None:
            where += " AND (classified_at, id) < (?, ?)"
            values += [after.classified_at, after.id]
        rows = self._connection.execute(
            f"SELECT * FROM results WHERE {where} "  # noqa: S608  values are bound
            "ORDER BY classified_at DESC, id DESC LIMIT ?",
            [*values, limit + 1],
        ).fetchall()
        found = [_found(row) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else None
        return Page(found, last and Place(last["classified_at"], last["id"]))

    def count(self, classifier: str, wanted: Wanted) -> int:
        """The number of wanted results."""
        where, values = _conditions(classifier, wanted)
        query = f"SELECT count(*) FROM results WHERE {where}"  # noqa: S608  values are bound
        return int(self._connection.execute(query, values).fetchone()[0])

    def labels(self, classifier: str) -> list[tuple[str, int]]:
        """Every predicted class with the number of its results, by name."""
        rows = self._connection.execute(
            "SELECT label, count(*) FROM results WHERE classifier = ? AND label IS NOT NULL "
            "GROUP BY label ORDER BY label",
            [classifier],
        )
        return [(str(label), int(count)) for label, count in rows]

    def get(self, key: str) -> Found | None:
        """The result with this key, or None."""
        row = self._connection.execute("SELECT * FROM results WHERE key = ?", [key]).fetchone()
        return row and _found(row)

    def missing(self, classifier: str, listed: Iterable[Indexed]) -> list[Indexed]:
        """Take a complete listing of the classifier's results: forget those that are gone.

        Returns those that are new or changed, the last stored first.
        """
        with self._transaction() as connection:
            connection.execute("CREATE TEMP TABLE listed (key TEXT PRIMARY KEY, etag, modified)")
            connection.executemany(
                "INSERT OR REPLACE INTO listed VALUES (?, ?, ?)",
                ((one.key, one.etag, one.modified) for one in listed),
            )
            for table in ("results", "skipped"):
                connection.execute(
                    f"DELETE FROM {table} WHERE classifier = ? "  # noqa: S608  of these two
                    "AND key NOT IN (SELECT key FROM listed)",
                    [classifier],
                )
            rows = connection.execute(
                "SELECT key, etag, modified FROM listed WHERE "
                "NOT EXISTS (SELECT 1 FROM results r WHERE r.key = listed.key "
                "AND r.etag = listed.etag) AND "
                "NOT EXISTS (SELECT 1 FROM skipped s WHERE s.key = listed.key "
                "AND s.etag = listed.etag) ORDER BY modified DESC"
            ).fetchall()
            connection.execute("DROP TABLE listed")
        return [Indexed(*row) for row in rows]

    def add(self, classifier: str, read: Iterable[tuple[Indexed, Row | None]]) -> None:
        """Store results with their columns; None for an object that is no result."""
        rows, skipped, known = [], [], []
        for one, row in read:
            if row is None or row["classifier"] != classifier:
                skipped.append((one.key, classifier, one.etag))
            else:
                rows.append(_values(one, row))
                known.append((one.key,))
        with self._transaction() as connection:
            connection.executemany(_INSERT, rows)
            connection.executemany("DELETE FROM skipped WHERE key = ?", known)
            connection.executemany("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)", skipped)
            connection.executemany(
                "DELETE FROM results WHERE key = ?", ((key,) for key, _, _ in skipped)
            )

    @property
    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if found is None:
            found = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            self._threads.connection = found
            found.row_factory = sqlite3.Row
            # The index can be made anew: a write need not wait until it is on the disk.
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = NORMAL")
            found.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _prepare(self) -> None:
        [version] = self._connection.execute("PRAGMA user_version").fetchone()
        if version == _VERSION:
            return
        with self._transaction() as connection:
            for table in ("results", "skipped"):
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in filter(str.strip, _TABLES.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _delete(self) -> None:
        self._connection.close()
        del self._threads.connection
        for ending in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)


def _conditions(classifier: str, wanted: Wanted) -> tuple[str, list[Any]]:
    """The WHERE clause, and the values bound in it."""
    where, values = ["classifier = ?"], [classifier]
    for name, value in (
        ("label", wanted.label or None),
        ("status", wanted.status or None),
        ("confident", wanted.confident),
        ("familiar", wanted.familiar),
    ):
        if value is not None:
            where.append(f"{name} = ?")
            values.append(value)  # type: ignore[arg-type]
    if wanted.text:
        # LIKE ignores the case of ASCII letters.
        where.append("(image LIKE ? ESCAPE '\\' OR label LIKE ? ESCAPE '\\')")
        pattern = "%" + _PATTERN.sub(r"\\\g<0>", wanted.text) + "%"
        values += [pattern, pattern]
    for operator, time in ((">=", wanted.since), ("<", wanted.until)):
        if time is not None:
            where.append(f"classified_at {operator} ?")
            values.append(int(time.timestamp()))  # type: ignore[arg-type]
    return " AND ".join(where), values


def _values(one: Indexed, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        row["classifier"],
        one.key,
        one.etag,
        one.modified,
        row["key"],
        row["version_id"],
        row["status"],
        row["label"],
        row["probability"],
        row["confident"],
        row["familiar"],
        row["error_code"],
        row["run_id"],
        int(datetime.fromisoformat(row["classified_at"]).timestamp()),
    )


def _found(row: sqlite3.Row) -> Found:
    return Found(
        id=row["id"],
        key=row["key"],
        image=row["image"],
        version_id=row["version_id"],
        status=row["status"],
        label=row["label"],
        probability=row["probability"],
        confident=_boolean(row["confident"]),
        familiar=_boolean(row["familiar"]),
        error_code=row["error_code"],
        run_id=row["run_id"],
        classified_at=datetime.fromtimestamp(row["classified_at"], UTC),
    )


def _boolean(value: int | None) -> bool | None:
    return None if value is None else bool(value)
