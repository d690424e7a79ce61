"""Objects of S3 as batch inference reads and writes them."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from droplens.domain.inference_job import Image
from droplens.domain.stored_object import ObjectInfo
from droplens.imaging.prepare import ImageError, Limits

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# Objects that are read at the same time, most of which wait for S3.
READERS = 32
_MISSING = {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed"}  # 405: a delete marker
_DENIED = {"AccessDenied", "403", "AllAccessDisabled"}
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html: in an archive storage class.
_ARCHIVED = {"InvalidObjectState"}
_CHANGED = {"PreconditionFailed", "412"}
_MAX_BYTES = Limits().max_bytes


class StorageError(Exception):
    """S3 failed; another attempt may not."""


# In place of a code of imaging.limits.CODES: the object cannot be read, or is not what was listed.
UNREADABLE, CHANGED = "object.unreadable", "object.changed"


class Unreadable(Exception):
    """One object cannot be read, at the next attempt neither. denied: for lack of permission."""

    def __init__(self, reason: str, code: str = UNREADABLE, *, denied: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.denied = denied


class Objects:
    """S3, as the job's role may use it."""

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    @classmethod
    def connected(cls) -> "Objects":
        """With the container's own credentials."""
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 10},
            max_pool_connections=READERS,
            # The global address is not served by a VPC's interface endpoint.
            s3={"us_east_1_regional_endpoint": "regional"},
        )
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return cls(boto3.client("s3", region_name=region, config=config))

    def image(self, bucket: str, image: Image) -> tuple[bytes, ObjectInfo]:
        """An image of any bucket: as it is now, in its version or with its ETag.

        Raises Unreadable; ImageError where it has more bytes than an image may.
        """
        wanted: dict[str, Any] = {"VersionId": image.version_id} if image.version_id else {}
        if image.etag:
            wanted["IfMatch"] = f'"{image.etag}"'
        try:
            got = self._client.get_object(Bucket=bucket, Key=image.key, **wanted)
            with closing(got["Body"]) as body:
                check_size(got["ContentLength"])
                data = body.read()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _MISSING:
                raise Unreadable("the object is not there any more") from None
            if code in _CHANGED:
                raise Unreadable("the object has changed since the inventory", CHANGED) from None
            if code in _DENIED:
                raise Unreadable(
                    "the stack may not read the object, or it is not there any more", denied=True
                ) from None
            if code in _ARCHIVED:
                raise Unreadable("the object is archived, and has to be restored first") from None
            raise StorageError(f"s3://{bucket}/{image.key} cannot be read: {error}") from error
        except BotoCoreError as error:
            raise StorageError(f"s3://{bucket}/{image.key} cannot be read: {error}") from error
        found = ObjectInfo(
            key=image.key,
            etag=got["ETag"].strip('"'),
            version_id=got.get("VersionId"),
            bytes=len(data),
            stored_at=got["LastModified"],
            metadata={},
        )
        return data, found

    def read(self, bucket: str, key: str) -> bytes:
        """An object of the stack's own."""
        with _explained(bucket, key):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def exists(self, bucket: str, key: str) -> bool:
        """Whether there is such an object."""
        with _explained(bucket, key):
            found = self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
            return any(one["Key"] == key for one in found.get("Contents", []))

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Write an object, as a whole or not at all."""
        with _explained(bucket, key):
            self._client.put_object(Bucket=bucket, Key=key, Body=body)


def check_size(size: int) -> None:
    """Raise ImageError for an object of more bytes than an image may have."""
    if size > _MAX_BYTES:
        raise ImageError(
            "image.too_large", f"the file has {size:,} bytes, more than {_MAX_BYTES:,}"
        )


@contextmanager
def _explained(bucket: str, key: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise StorageError(f"s3://{bucket}/{key}: {error}") from error
