"""An object of the bucket without its body."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What S3 says of an object without its body. etag: without quotes; bytes: its size."""

    key: str
    etag: str
    version_id: str | None
    bytes: int
    stored_at: datetime
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing tells it."""

    key: str
    etag: str
    bytes: int
