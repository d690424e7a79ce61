"""A prefix of an S3 bucket as a folder."""

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast
from urllib.parse import urlsplit

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError as ObstoreError
from obstore.exceptions import PreconditionError
from obstore.store import S3Store

from batch_prep.errors import StorageError
from batch_prep.storage.folder import FileChanged, Listed, Span
from batch_prep.storage.s3_session import aws_environment, client_for, credentials_for

if TYPE_CHECKING:
    from obstore.store import RetryConfig
    from types_boto3_s3 import S3Client

# Bytes per request for a file that is read in order. More take memory and save no time.
_READ_AHEAD_BYTES = 8 * 1024 * 1024
# Bytes of an upload's part: 10,000 of them, the most that S3 takes, hold 80 GB.
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
# S3 takes about a minute to copy the largest part.
_COPIES_AT_ONCE = 8
# The most objects that S3 removes by one request.
_REMOVED_AT_ONCE = 1000
# S3's limits: the smallest part except the last, the largest copied part, and the most parts.
_SMALLEST_PART = 5 * 1024 * 1024
_LARGEST_COPY = 5 * 1024**3
_MOST_PARTS = 10_000
# Retries of throttled and failed requests: exponential backoff with jitter.
RETRY: "RetryConfig" = {
    "max_retries": 10,
    "backoff": {
        "base": 2,
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=15),
    },
    "retry_timeout": timedelta(minutes=3),
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class S3Folder:
    """A prefix of an S3 bucket.

    obstore reads and writes objects, with a fifth of boto3's CPU time for each; boto3 lists them,
    since obstore's listing fails as a whole at a key such as a//b.jpg, and finds the credentials.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self.url = f"s3://{bucket}/{prefix}"

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """Pickle the location only: another process opens its own connections."""
        return type(self), (self._bucket, self._prefix)

    @property
    def _client(self) -> "S3Client":
        return client_for(aws_environment())

    @cached_property
    def _store(self) -> S3Store:
        environment = aws_environment()
        client = client_for(environment)
        # As botocore resolves it, for every partition, FIPS and the environment's settings.
        endpoint = client.meta.endpoint_url
        return S3Store(
            self._bucket,
            region=client.meta.region_name,
            credential_provider=credentials_for(environment),
            client_options={"allow_http": urlsplit(endpoint).hostname in _LOOPBACK},
            config={"endpoint": endpoint, "virtual_hosted_style_request": False},
            retry_config=RETRY,
        )

    def list(self) -> Iterator[Listed]:
        """Every object below the prefix, in the order of the keys."""
        return self._listed("")

    def files(self) -> Iterator[Listed]:
        """The objects below the prefix without a further "/"."""
        return self._listed("/")

    def _listed(self, delimiter: str) -> Iterator[Listed]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._explained("list", ""):
            for page in pages.paginate(
                Bucket=self._bucket, Prefix=self._prefix, Delimiter=delimiter
            ):
                for item in page.get("Contents", []):
                    if path := item["Key"].removeprefix(self._prefix):
                        yield Listed(path, item["Size"], item["ETag"])

    def exists(self, path: str) -> bool:
        """Whether there is an object at `path`."""
        with self._explained("look at", path):
            try:
                obstore.head(self._store, self._prefix + path)
            except FileNotFoundError:
                return False
            return True

    def read(self, path: str, version: str | None = None) -> bytes:
        """A whole object. Raises ValueError for a key that obstore cannot express."""
        with self._explained("read", path):
            options: obstore.GetOptions = {"if_match": version} if version is not None else {}
            try:
                got = obstore.get(self._store, self._prefix + path, options=options)
                return bytes(got.bytes())
            except PreconditionError:
                raise FileChanged(path) from None

    def read_span(self, span: Span, version: str | None = None) -> bytes:
        """A part of an object, of the ETag `version` where given."""
        with self._explained("read", span.path):
            options: obstore.GetOptions = {"range": (span.start, span.end)}
            if version is not None:
                options["if_match"] = version
            got = obstore.get(self._store, self._prefix + span.path, options=options)
            return bytes(got.bytes())

    def open(self, path: str) -> BinaryIO:
        """A seekable object to read, fetched in large ranges."""
        with self._explained("read", path):
            try:
                options: obstore.GetOptions = {"range": (0, _READ_AHEAD_BYTES)}
                got = obstore.get(self._store, self._prefix + path, options=options)
                found, start = got.meta, bytes(got.bytes())
            except ObstoreError:  # an empty object has no ranges; head raises any other error
                found, start = obstore.head(self._store, self._prefix + path), b""
        ranges = _Ranges(self, path, found["size"], found["e_tag"], start)
        return io.BufferedReader(ranges, _READ_AHEAD_BYTES)

    def write(self, path: str, data: bytes) -> None:
        """Write a small object."""
        with self._explained("write", path):
            obstore.put(self._store, self._prefix + path, data)

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """An object to write sequentially, uploaded in parts as it grows."""
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

    def concatenate(self, path: str, spans: Sequence[Span]) -> None:
        """Write an object as the concatenation of parts of others, copied within S3.

        Only spans shorter than S3's smallest part are downloaded and uploaded.
        """
        total = sum(span.length for span in spans)
        smallest = max(_SMALLEST_PART, 2 * total // _MOST_PARTS)
        if total < smallest:
            self.write(path, b"".join(map(self.read_span, spans)))
            return
        begun: Future[Any] | None = None
        with self._explained("write", path):
            try:
                with (
                    ThreadPoolExecutor(_COPIES_AT_ONCE) as pool,
                    ThreadPoolExecutor(_COPIES_AT_ONCE) as readers,
                ):
                    begun = readers.submit(self._begin, self._prefix + path)
                    upload = partial(self._upload, begun, readers)
                    numbered = enumerate(parts_of(spans, smallest), start=1)
                    parts: Any = list(pool.map(lambda one: upload(*one), numbered))
                self._client.complete_multipart_upload(
                    **begun.result(), MultipartUpload={"Parts": parts}
                )
            except BaseException:
                if begun is not None and begun.exception() is None:
                    self._client.abort_multipart_upload(**begun.result())
                raise

    def _begin(self, key: str) -> Any:
        """Create a multipart upload. Returns the arguments that identify it in further calls."""
        begun = self._client.create_multipart_upload(Bucket=self._bucket, Key=key)
        return {"Bucket": self._bucket, "Key": key, "UploadId": begun["UploadId"]}

    def _upload(
        self, begun: "Future[Any]", readers: Executor, number: int, part: Sequence[Span]
    ) -> dict[str, Any]:
        """Upload one part: a copy within S3 where it is one span, else the bytes of its spans."""
        if len(part) == 1:
            (span,) = part
            copied = self._client.upload_part_copy(
                **begun.result(),
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": self._prefix + span.path},
                CopySourceRange=f"bytes={span.start}-{span.end - 1}",
            )
            return {"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]}
        body = b"".join(readers.map(self.read_span, part))
        sent = self._client.upload_part(**begun.result(), PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": sent["ETag"]}

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects."""
        keys = [self._prefix + path for path in paths]
        for start in range(0, len(keys), _REMOVED_AT_ONCE):
            part: Any = [{"Key": key} for key in keys[start : start + _REMOVED_AT_ONCE]]
            with self._explained("remove", keys[start].removeprefix(self._prefix)):
                removed = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": part, "Quiet": True}
                )
            for error in removed.get("Errors", []):
                raise StorageError(
                    f"s3://{self._bucket}/{error['Key']} could not be removed: {error['Message']}"
                )

    @contextmanager
    def _explained(self, action: str, path: str) -> Iterator[None]:
        """Raise the clients' errors as StorageError; FileNotFoundError and FileChanged pass.

        OSError is included, since obstore raises it for a failed upload.
        """
        try:
            yield
        except (FileNotFoundError, FileChanged):
            raise
        except (ClientError, BotoCoreError, ObstoreError, OSError) as error:
            cause = str(error).splitlines()[0]
            raise StorageError(f"Could not {action} {self.url}{path}: {cause}") from error


def parts_of(spans: Iterable[Span], smallest: int) -> Iterator[list[Span]]:
    """Group the spans, in their order, into the parts of a multipart upload.

    Every part except the last has at least `smallest` bytes. A part of one span is at most as long
    as S3 copies in one request; a part of several is shorter than twice `smallest`.
    """
    short: list[Span] = []
    missing = smallest
    for span in spans:
        start = span.start
        if short:
            start = min(span.end, start + missing)
            short.append(Span(span.path, span.start, start))
            missing -= start - span.start
            if missing == 0:
                yield short
                short, missing = [], smallest
        while span.end - start >= smallest:
            end = min(span.end, start + _LARGEST_COPY)
            yield [Span(span.path, start, end)]
            start = end
        if start < span.end:
            short.append(Span(span.path, start, span.end))
            missing -= span.end - start
    if short:
        yield short


class _Ranges(io.RawIOBase):
    """An object as an unbuffered file: each read is a request.

    start: the object's first bytes, fetched already; they are released once read.
    """

    def __init__(
        self, bucket: S3Folder, path: str, size: int, etag: str | None, start: bytes
    ) -> None:
        self._bucket = bucket
        self._path = path
        self._size = size
        self._etag = etag
        self._start = start
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
        data = self._start[: end - self._position] if self._position == 0 else b""
        self._start = b""
        if not data:
            data = self._bucket.read_span(Span(self._path, self._position, end), self._etag)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
