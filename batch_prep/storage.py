"""Where datasets come from and records go to: a folder of this machine or a prefix in S3."""

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast
from urllib.parse import urlsplit

import boto3
import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import S3Store

from batch_prep.errors import JobError, StorageTrouble

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# One request of an archive that is read in order. Larger ones only cost memory.
_READ_AHEAD_BYTES = 8 * 1024 * 1024
# An upload's parts: 10,000 of them, which S3 allows, hold 80 GB.
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Listed:
    """A file below a folder: its path from there ("/" between parts) and its size in bytes.

    A path that ends in "/" is a folder, or in S3 the empty object that marks one.
    """

    path: str
    size: int


class Folder(Protocol):
    """A place with files. Every path is relative to it."""

    url: str

    def list(self) -> Iterator[Listed]:
        """Everything below the folder, sorted by path."""

    def exists(self, path: str) -> bool:
        """Whether there is a file at `path`."""

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError where it is gone."""

    def open(self, path: str) -> BinaryIO:
        """A file to read and seek in. Raises FileNotFoundError where there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Write a small file."""

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to write from front to back; it is complete when the context is left."""


def locate(url: str) -> tuple[Folder, str]:
    """The folder that holds `url`'s object, and its name there; "" for a URL ending in "/"."""
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise JobError(f"{url} names no bucket.")
        prefix, slash, name = key.rpartition("/")
        return Bucket(bucket, prefix + slash), name
    if "://" in url:
        raise JobError(f"{url} is neither an s3:// URL nor a local path.")
    if url.endswith("/") or Path(url).is_dir():
        return LocalFolder(Path(url)), ""
    return LocalFolder(Path(url).parent), Path(url).name


def folder(url: str) -> Folder:
    """The folder at `url`, whether or not it ends in "/"."""
    return locate(url if url.endswith("/") else url + "/")[0]


class LocalFolder:
    """A folder of this machine's file system. It belongs to whoever runs the job."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = f"{root}/"

    def list(self) -> Iterator[Listed]:
        """Everything below the folder; what is neither file nor folder is left out."""
        for parent, folders, files in os.walk(self._root):
            folders.sort()
            here = Path(parent)
            if here != self._root:
                yield Listed(here.relative_to(self._root).as_posix() + "/", 0)
            for name in sorted(files):
                path = here / name
                if path.is_file():
                    yield Listed(path.relative_to(self._root).as_posix(), path.stat().st_size)

    def exists(self, path: str) -> bool:
        """Whether there is a file at `path`."""
        return (self._root / path).is_file()

    def read(self, path: str) -> bytes:
        """A whole file."""
        return (self._root / path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        """A file to read and seek in."""
        return (self._root / path).open("rb")

    def write(self, path: str, data: bytes) -> None:
        """Write a small file."""
        with self.writer(path) as file:
            file.write(data)

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A file to write from front to back."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            yield file


class Bucket:
    """A prefix of an S3 bucket.

    Objects are read and written by obstore, at a fifth of boto3's cost each; boto3 lists them,
    since obstore's listing fails as a whole at a key such as a//b.jpg, and finds the credentials.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self.url = f"s3://{bucket}/{prefix}"

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session()

    @cached_property
    def _client(self) -> "S3Client":
        return self._session.client("s3")

    @cached_property
    def _store(self) -> S3Store:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        local = endpoint is not None and urlsplit(endpoint).hostname in _LOOPBACK
        return S3Store(
            self._bucket,
            region=self._session.region_name,
            credential_provider=Boto3CredentialProvider(self._session),
            client_options={"allow_http": local},
            config={"endpoint": endpoint} if endpoint else {},
        )

    def list(self) -> Iterator[Listed]:
        """Every object below the prefix, in the order of the keys."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._explained("list", ""):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for item in page.get("Contents", []):
                    if path := item["Key"].removeprefix(self._prefix):
                        yield Listed(path, item["Size"])

    def exists(self, path: str) -> bool:
        """Whether there is an object at `path`."""
        with self._explained("look at", path):
            try:
                obstore.head(self._store, self._prefix + path)
            except FileNotFoundError:
                return False
            return True

    def read(self, path: str) -> bytes:
        """A whole object. Raises ValueError for a key that obstore cannot name."""
        with self._explained("read", path):
            return bytes(obstore.get(self._store, self._prefix + path).bytes())

    def open(self, path: str) -> BinaryIO:
        """An object to read and seek in, fetched in large ranges."""
        with self._explained("read", path):
            head = obstore.head(self._store, self._prefix + path)
        ranges = _Ranges(self, path, head["size"], head["e_tag"])
        return io.BufferedReader(ranges, _READ_AHEAD_BYTES)

    def read_range(self, path: str, start: int, end: int, etag: str | None) -> bytes:
        """The bytes `start` to `end` (not included) of the object, if its ETag still is `etag`."""
        with self._explained("read", path):
            options: obstore.GetOptions = {"range": (start, end), "if_match": etag}
            got = obstore.get(self._store, self._prefix + path, options=options)
            return bytes(got.bytes())

    def write(self, path: str, data: bytes) -> None:
        """Write a small object."""
        with self._explained("write", path):
            obstore.put(self._store, self._prefix + path, data)

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """An object to write from front to back, uploaded in parts as it grows."""
        with (
            self._explained("write", path),
            obstore.open_writer(
                self._store,
                self._prefix + path,
                buffer_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            ) as upload,
        ):
            yield cast(BinaryIO, upload)

    @contextmanager
    def _explained(self, deed: str, path: str) -> Iterator[None]:
        """Turn the clients' errors into a sentence. A missing object stays FileNotFoundError."""
        try:
            yield
        except (ClientError, BotoCoreError, ObstoreError) as error:
            cause = str(error).splitlines()[0]
            raise StorageTrouble(f"Could not {deed} {self.url}{path}: {cause}") from error


class _Ranges(io.RawIOBase):
    """The bytes of one object, each read a request of its own: to be buffered."""

    def __init__(self, bucket: Bucket, path: str, size: int, etag: str | None) -> None:
        self._bucket = bucket
        self._path = path
        self._size = size
        self._etag = etag
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        data = self._bucket.read_range(self._path, self._position, end, self._etag)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
