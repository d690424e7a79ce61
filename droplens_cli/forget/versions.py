"""Versions of objects in the bucket: listed, compared by their bytes, and removed for good."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from botocore.exceptions import ClientError

from droplens.aws.s3 import Bucket
from droplens_cli.session import CONNECTIONS

_AT_ONCE = 1000  # of DeleteObjects
_READ_AT_ONCE = 1024 * 1024
_GONE = {"NoSuchKey", "NoSuchVersion", "404"}


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an object, or a delete marker, which has no ETag and no bytes.

    is_latest: whether it is what a reader of the key finds.
    """

    key: str
    version_id: str
    etag: str = ""
    bytes: int = 0
    is_marker: bool = False
    is_latest: bool = False


def versions(bucket: Bucket, prefix: str) -> Iterator[Version]:
    """All versions and delete markers below `prefix`, in the order of their keys."""
    client: Any = bucket.client
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket.name, Prefix=prefix)
    for page in pages:
        found = [
            Version(
                entry["Key"],
                entry["VersionId"],
                entry.get("ETag", "").strip('"'),
                entry.get("Size", 0),
                is_marker=kind == "DeleteMarkers",
                is_latest=entry["IsLatest"],
            )
            for kind in ("Versions", "DeleteMarkers")
            for entry in page.get(kind, [])
        ]
        yield from sorted(found, key=lambda one: one.key.encode())


def versions_of(bucket: Bucket, key: str) -> list[Version]:
    """All versions and delete markers of one key."""
    return list(takewhile(lambda one: one.key == key, versions(bucket, key)))


def versions_of_each(bucket: Bucket, keys: Iterable[str]) -> list[Version]:
    """All versions and delete markers of these keys."""
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        found = threads.map(lambda key: versions_of(bucket, key), keys)
        return [version for those in found for version in those]


def parts(bucket: Bucket, version: Version) -> Iterator[bytes] | None:
    """The bytes of a version, in parts; None if it is gone."""
    client: Any = bucket.client
    try:
        found = client.get_object(Bucket=bucket.name, Key=version.key, VersionId=version.version_id)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _GONE:
            raise
        return None
    return iter(found["Body"].iter_chunks(_READ_AT_ONCE))


class Digests:
    """The SHA-256 of versions in hexadecimal digits; each version is read once."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        # With the ETag: the version "null" of a key may be replaced.
        self._known: dict[tuple[str, str, str], str] = {}

    def of_each(self, those: Iterable[Version]) -> dict[Version, str]:
        """The digests of those versions that are still there; delete markers have none."""
        wanted = [one for one in those if not one.is_marker]
        unknown = [one for one in wanted if _identity(one) not in self._known]
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            read = threads.map(lambda one: _sha256(self._bucket, one), unknown)
            for one, digest in zip(unknown, read, strict=True):
                if digest is not None:
                    self._known[_identity(one)] = digest
        return {one: self._known[_identity(one)] for one in wanted if _identity(one) in self._known}


def _identity(version: Version) -> tuple[str, str, str]:
    return version.key, version.version_id, version.etag


def _sha256(bucket: Bucket, version: Version) -> str | None:
    """None if the version is gone."""
    found = parts(bucket, version)
    if found is None:
        return None
    digest = hashlib.sha256()
    for part in found:
        digest.update(part)
    return digest.hexdigest()


def with_markers(there: Iterable[Version], chosen: Set[Version]) -> list[Version]:
    """The chosen versions, and the delete markers of keys of which every version is chosen.

    there: all versions of those keys.
    """
    by_key: dict[str, list[Version]] = defaultdict(list)
    for one in there:
        by_key[one.key].append(one)
    found: list[Version] = []
    for those in by_key.values():
        own = [one for one in those if one in chosen]
        others = [one for one in those if not one.is_marker and one not in chosen]
        found += those if own and not others else own
    return found


def remove(bucket: Bucket, those: Iterable[Version]) -> list[str]:
    """Remove these versions for good; returns what S3 refused, a sentence each."""
    refused, wanted = [], list(those)
    for start in range(0, len(wanted), _AT_ONCE):
        batch = wanted[start : start + _AT_ONCE]
        response = bucket.client.delete_objects(
            Bucket=bucket.name,
            Delete={
                "Objects": [{"Key": one.key, "VersionId": one.version_id} for one in batch],
                "Quiet": True,
            },
        )
        refused += [
            f"{problem['Key']}, version {problem.get('VersionId', '')}: {problem['Message']}"
            for problem in response.get("Errors", [])
        ]
    return refused
