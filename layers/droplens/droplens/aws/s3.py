"""The S3 bucket of a stack, with conditional writes."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from droplens.aws.errors import error_code
from droplens.domain.errors import ObjectMissing
from droplens.domain.stored_object import ListedObject, ObjectInfo

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ObjectTypeDef,
    )

_MISSING = {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed"}  # 405: a delete marker
_MOST_DELETED_AT_ONCE = 1000
_NOT_MODIFIED = {"NotModified", "304"}
_LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


class Bucket:
    """One S3 bucket. Every method raises ClientError for errors that it does not document."""

    def __init__(self, client: "S3Client", name: str) -> None:
        self.client = client
        self.name = name

    def head(self, key: str, version_id: str | None = None) -> ObjectInfo:
        """The metadata of `key`. Raises ObjectMissing."""
        version = {"VersionId": version_id} if version_id else {}
        try:
            response = self.client.head_object(Bucket=self.name, Key=key, **version)  # type: ignore[arg-type]
        except ClientError as error:
            raise self._named(error, key) from error
        return _info(key, response)

    def read(self, key: str) -> tuple[bytes, ObjectInfo]:
        """The whole object. Raises ObjectMissing."""
        info, body = self._opened(key)
        return body.read(), info

    def read_if_changed(self, key: str, etag: str) -> tuple[bytes, ObjectInfo] | None:
        """The whole object, or None if its ETag is still `etag`. Raises ObjectMissing."""
        try:
            response = self.client.get_object(Bucket=self.name, Key=key, IfNoneMatch=etag)
        except ClientError as error:
            if error_code(error) in _NOT_MODIFIED:
                return None
            raise self._named(error, key) from error
        return response["Body"].read(), _info(key, response)

    def read_at_most(self, key: str, limit: int) -> tuple[bytes | None, ObjectInfo]:
        """The whole object, or None in its place if it has more than `limit` bytes.

        Raises ObjectMissing.
        """
        return _at_most(limit, *self._opened(key))

    def read_version_at_most(
        self, key: str, version_id: str, limit: int
    ) -> tuple[bytes | None, ObjectInfo]:
        """As `read_at_most`, of a version of the object."""
        return _at_most(limit, *self._opened(key, version_id))

    def stream(self, key: str) -> "StreamingBody":
        """The object as a stream, which the caller closes. Raises ObjectMissing."""
        return self._opened(key)[1]

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end`. Raises ObjectMissing."""
        try:
            response = self.client.get_object(
                Bucket=self.name, Key=key, Range=f"bytes={start}-{end - 1}"
            )
        except ClientError as error:
            raise self._named(error, key) from error
        return response["Body"].read()

    def write_json(
        self,
        key: str,
        body: bytes,
        *,
        replacing: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> bool:
        """Write `body` if `key` has not changed; False if another write was first.

        replacing: the ETag that the object must still have; None: it must not exist.
        """
        condition = {"IfNoneMatch": "*"} if replacing is None else {"IfMatch": replacing}
        described = {"ContentType": "application/json", "Metadata": metadata or {}}
        return self._put(key, body, **described, **condition)

    def replace(self, key: str, body: bytes, etag: str) -> bool:
        """Write `body` if the object still has this ETag; False if another write was first."""
        return self._put(key, body, IfMatch=etag)

    def copy(self, source: str, key: str, version_id: str | None = None) -> None:
        """Copy `source`, or a version of it, to `key`, without its tags. Raises ObjectMissing."""
        version = {"VersionId": version_id} if version_id else {}
        try:
            self.client.copy_object(
                Bucket=self.name,
                Key=key,
                CopySource={"Bucket": self.name, "Key": source, **version},  # type: ignore[arg-type]
                TaggingDirective="REPLACE",  # to copy tags takes further permissions
            )
        except ClientError as error:
            raise self._named(error, source) from error

    def entries(self, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
        """Everything below `prefix` in S3's order (UTF-8 bytes of the key), after `start_after`."""
        more = True
        while more:
            page, more = self.page(prefix, start_after)
            yield from page
            if page:
                start_after = page[-1].key

    def page(self, prefix: str, start_after: str = "") -> tuple[list[ListedObject], bool]:
        """The next objects, at most 1,000, by one call, and whether there are more."""
        response = self.client.list_objects_v2(
            Bucket=self.name, Prefix=prefix, StartAfter=start_after
        )
        return [_listed(entry) for entry in response.get("Contents", [])], response["IsTruncated"]

    def level(self, prefix: str, start_after: str = "") -> Iterator[ListedObject | str]:
        """The objects directly below `prefix`, and the names of the folders as text.

        Each page of S3's listing yields its objects, then its folders.
        """
        more: dict[str, str] = {"StartAfter": start_after}
        while more:
            response = self.client.list_objects_v2(
                Bucket=self.name,
                Prefix=prefix,
                Delimiter="/",
                **more,  # type: ignore[arg-type]
            )
            yield from map(_listed, response.get("Contents", []))
            for folder in response.get("CommonPrefixes", []):
                yield folder["Prefix"].removeprefix(prefix).removesuffix("/")
            more = (
                {"ContinuationToken": response["NextContinuationToken"]}
                if response["IsTruncated"]
                else {}
            )

    def delete(self, key: str, etag: str) -> bool:
        """Delete `key` if its ETag is still `etag`; False if it is not, or the object is missing.

        In a versioned bucket it stays as a noncurrent version.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
        """
        try:
            self.client.delete_object(Bucket=self.name, Key=key, IfMatch=etag)
        except ClientError as error:
            if error_code(error) in _LOST_RACE | _MISSING:
                return False
            raise
        return True

    def delete_below(self, prefix: str) -> int:
        """Delete all objects below `prefix`; returns their number."""
        deleted = 0
        keys = (entry.key for entry in self.entries(prefix))
        while batch := list(islice(keys, _MOST_DELETED_AT_ONCE)):
            response = self.client.delete_objects(
                Bucket=self.name,
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
            )
            for refused in response.get("Errors", []):
                raise ClientError({"Error": dict(refused)}, "DeleteObjects")  # type: ignore[typeddict-item]
            deleted += len(batch)
        return deleted

    def _put(self, key: str, body: bytes, **given: Any) -> bool:
        try:
            self.client.put_object(Bucket=self.name, Key=key, Body=body, **given)
        except ClientError as error:
            # If-Match on an object that was deleted returns NoSuchKey.
            if error_code(error) in _LOST_RACE | _MISSING:
                return False
            raise
        return True

    def _opened(
        self, key: str, version_id: str | None = None
    ) -> tuple[ObjectInfo, "StreamingBody"]:
        version = {"VersionId": version_id} if version_id else {}
        try:
            response = self.client.get_object(Bucket=self.name, Key=key, **version)  # type: ignore[arg-type]
        except ClientError as error:
            raise self._named(error, key) from error
        return _info(key, response), response["Body"]

    def _named(self, error: ClientError, key: str) -> Exception:
        return ObjectMissing(key) if error_code(error) in _MISSING else error


def _at_most(
    limit: int, info: ObjectInfo, body: "StreamingBody"
) -> tuple[bytes | None, ObjectInfo]:
    if info.bytes > limit:
        body.close()
        return None, info
    return body.read(), info


def _listed(entry: "ObjectTypeDef") -> ListedObject:
    etag = entry["ETag"].strip('"')
    return ListedObject(entry["Key"], etag, entry["Size"], entry["LastModified"])


def _info(key: str, response: "HeadObjectOutputTypeDef | GetObjectOutputTypeDef") -> ObjectInfo:
    return ObjectInfo(
        key=key,
        etag=response["ETag"].strip('"'),
        version_id=response.get("VersionId"),
        bytes=response["ContentLength"],
        stored_at=response["LastModified"],
        metadata=response.get("Metadata", {}),
    )
