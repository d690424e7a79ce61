"""The bucket as the functions use it: conditional writes, and errors with names."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

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
    """One S3 bucket. Every method raises ClientError for what it does not name itself."""

    def __init__(self, client: "S3Client", name: str) -> None:
        self.client = client
        self.name = name

    def head(self, key: str, version_id: str | None = None) -> ObjectInfo:
        """What S3 says of `key`. Raises ObjectMissing."""
        version = {"VersionId": version_id} if version_id else {}
        try:
            answer = self.client.head_object(Bucket=self.name, Key=key, **version)  # type: ignore[arg-type]
        except ClientError as error:
            raise self._named(error, key) from error
        return _info(key, answer)

    def read(self, key: str) -> tuple[bytes, ObjectInfo]:
        """The whole object. Raises ObjectMissing."""
        info, body = self._opened(key)
        return body.read(), info

    def read_if_changed(self, key: str, etag: str) -> tuple[bytes, ObjectInfo] | None:
        """The whole object, or None while its ETag still is `etag`. Raises ObjectMissing."""
        try:
            answer = self.client.get_object(Bucket=self.name, Key=key, IfNoneMatch=etag)
        except ClientError as error:
            if error_code(error) in _NOT_MODIFIED:
                return None
            raise self._named(error, key) from error
        return answer["Body"].read(), _info(key, answer)

    def read_at_most(self, key: str, limit: int) -> tuple[bytes | None, ObjectInfo]:
        """The whole object, or None in its place if it has more than `limit` bytes.

        Raises ObjectMissing.
        """
        info, body = self._opened(key)
        if info.bytes > limit:
            body.close()
            return None, info
        return body.read(), info

    def stream(self, key: str) -> "StreamingBody":
        """The object as it comes; to be closed by the caller. Raises ObjectMissing."""
        return self._opened(key)[1]

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` up to, not including, `end`. Raises ObjectMissing."""
        try:
            answer = self.client.get_object(
                Bucket=self.name, Key=key, Range=f"bytes={start}-{end - 1}"
            )
        except ClientError as error:
            raise self._named(error, key) from error
        return answer["Body"].read()

    def write_json(
        self,
        key: str,
        body: bytes,
        *,
        replacing: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> bool:
        """Write `body` if `key` is still what the caller saw; False means somebody was first.

        replacing: the ETag that the object must still have; None: it must not exist.
        """
        condition = {"IfNoneMatch": "*"} if replacing is None else {"IfMatch": replacing}
        try:
            self.client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType="application/json",
                Metadata=metadata or {},
                **condition,  # type: ignore[arg-type]
            )
        except ClientError as error:
            # If-Match on an object that is gone by now answers with "no such key".
            if error_code(error) in _LOST_RACE | _MISSING:
                return False
            raise
        return True

    def entries(self, prefix: str, start_after: str = "") -> Iterator[ListedObject]:
        """Everything below `prefix` in S3's order (UTF-8 bytes of the key), after `start_after`."""
        more = True
        while more:
            page, more = self.page(prefix, start_after)
            yield from page
            if page:
                start_after = page[-1].key

    def page(self, prefix: str, start_after: str = "") -> tuple[list[ListedObject], bool]:
        """The next objects, 1,000 at most, by one call; and whether there are more after them."""
        answer = self.client.list_objects_v2(
            Bucket=self.name, Prefix=prefix, StartAfter=start_after
        )
        return [_listed(entry) for entry in answer.get("Contents", [])], answer["IsTruncated"]

    def level(self, prefix: str, start_after: str = "") -> Iterator[ListedObject | str]:
        """What stands directly below `prefix`: objects, and the names of folders as text.

        In S3's order within each call's answer: its objects, then its folders.
        """
        more: dict[str, str] = {"StartAfter": start_after}
        while more:
            answer = self.client.list_objects_v2(
                Bucket=self.name,
                Prefix=prefix,
                Delimiter="/",
                **more,  # type: ignore[arg-type]
            )
            yield from map(_listed, answer.get("Contents", []))
            for folder in answer.get("CommonPrefixes", []):
                yield folder["Prefix"].removeprefix(prefix).removesuffix("/")
            more = (
                {"ContinuationToken": answer["NextContinuationToken"]}
                if answer["IsTruncated"]
                else {}
            )

    def delete(self, key: str, etag: str) -> bool:
        """Delete `key` if its ETag still is `etag`; False if it is not, or the object is gone.

        Where the bucket has versions, this one stays as a noncurrent version.
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
        """Delete everything below `prefix`, and return how many objects that was."""
        deleted = 0
        keys = (entry.key for entry in self.entries(prefix))
        while batch := list(islice(keys, _MOST_DELETED_AT_ONCE)):
            answer = self.client.delete_objects(
                Bucket=self.name,
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
            )
            for refused in answer.get("Errors", []):
                raise ClientError({"Error": dict(refused)}, "DeleteObjects")  # type: ignore[typeddict-item]
            deleted += len(batch)
        return deleted

    def _opened(self, key: str) -> tuple[ObjectInfo, "StreamingBody"]:
        try:
            answer = self.client.get_object(Bucket=self.name, Key=key)
        except ClientError as error:
            raise self._named(error, key) from error
        return _info(key, answer), answer["Body"]

    def _named(self, error: ClientError, key: str) -> Exception:
        return ObjectMissing(key) if error_code(error) in _MISSING else error


def _listed(entry: "ObjectTypeDef") -> ListedObject:
    return ListedObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"])


def _info(key: str, answer: "HeadObjectOutputTypeDef | GetObjectOutputTypeDef") -> ObjectInfo:
    return ObjectInfo(
        key=key,
        etag=answer["ETag"].strip('"'),
        version_id=answer.get("VersionId"),
        bytes=answer["ContentLength"],
        stored_at=answer["LastModified"],
        metadata=answer.get("Metadata", {}),
    )
