"""Metadata of S3 objects."""

from dataclasses import dataclass
from datetime import datetime

# The version id of an object that was stored before its bucket had versions.
NO_VERSION = "null"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object without its body. etag: without quotes; bytes: its size."""

    key: str
    etag: str
    version_id: str | None
    bytes: int
    stored_at: datetime
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object of a listing. etag: without quotes; bytes: its size."""

    key: str
    etag: str
    bytes: int
    stored_at: datetime
