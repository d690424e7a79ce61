"""The original file of a training image, as its dataset in the bucket has it.

A correction must have the bytes of the file that it corrects: packing compares digests of files,
and the image in a record has been encoded anew.
"""

import io
from typing import Any, cast

from batch_prep.errors import JobError
from batch_prep.sources.archives import ArchiveLimits, open_archive
from batch_prep.sources.entries import File, Unreadable
from droplens.aws.s3 import Bucket
from droplens.domain.errors import ObjectMissing
from droplens.domain.layout import DatasetSource
from droplens.imaging.limits import Limits

# Read at once of an archive: a zip's central directory and one image are a few requests.
_BLOCK = 4 * 1024 * 1024


class OriginalMissing(Exception):
    """The bucket does not have the file any more, or has it in a form that is not read here."""


def identity_of(dataset: DatasetSource, name: str) -> str:
    """What names of corrections are made of: the file's key, or that of its archive and its name.

    name: of the file, as train.lst has it.
    """
    return f"{dataset.key}/{name}" if dataset.folder is None else f"{dataset.folder}{name}"


def copy_original(bucket: Bucket, dataset: DatasetSource, name: str, key: str) -> None:
    """Copy the file to `key`. Raises OriginalMissing."""
    if dataset.folder is None:
        body = _member(bucket, dataset.key, name)
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
        return
    source = identity_of(dataset, name)
    try:
        bucket.copy(source, key)
    except ObjectMissing:
        raise OriginalMissing(f"{source} is not in the bucket any more") from None


def _member(bucket: Bucket, archive: str, name: str) -> bytes:
    limits = ArchiveLimits(max_member_bytes=Limits().max_bytes)
    try:
        stream = io.BufferedReader(cast(Any, _Ranges(bucket, archive)), _BLOCK)
        for entry in open_archive(cast(Any, stream), archive.rpartition("/")[2], limits).entries:
            if isinstance(entry, File) and entry.name == name:
                return entry.read()
    except ObjectMissing:
        raise OriginalMissing(f"{archive} is not in the bucket any more") from None
    except (JobError, Unreadable) as error:
        raise OriginalMissing(f"{name} cannot be read from {archive}: {error}") from None
    raise OriginalMissing(f"{archive} has no {name} any more")


class _Ranges(io.RawIOBase):
    """An object of S3 as a file that can be read at any place."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        super().__init__()
        self._bucket = bucket
        self._key = key
        self._size = bucket.head(key).bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._bucket.read_range(self._key, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
