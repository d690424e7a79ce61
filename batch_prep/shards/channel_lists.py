"""A channel's lists: .idx, the offset of each record, and .lst, the image in each record."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from batch_prep.shards.files import PackedImage
from batch_prep.storage.folder import Folder


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: its size in bytes and its SHA-256 in hexadecimal.

    sha256: None for an object that S3 assembled by copies, whose bytes did not pass through here.
    """

    bytes: int
    sha256: str | None


class ChannelLists:
    """Writes a channel's .idx and .lst to files that the caller opened.

    A line of .lst is as in MXNet's im2rec lists: id, label and name, separated by tabs. Control
    characters in a name are escaped, since each record takes one line.
    """

    def __init__(self, idx: BinaryIO, lst: BinaryIO) -> None:
        self._idx = _Hashed(idx)
        self._lst = _Hashed(lst)
        self._offset = 0

    def add(self, image: PackedImage) -> None:
        """Append the next record of the channel to both lists."""
        self._idx.write(f"{image.id}\t{self._offset}\n".encode())
        self._lst.write(f"{image.id}\t{image.label:f}\t{_one_line(image.name)}\n".encode())
        self._offset += image.end - image.start

    def written(self, path: str) -> Iterator[tuple[str, Written]]:
        """Path and size of both files. path: the files' common path without the ending."""
        yield f"{path}.idx", self._idx.written()
        yield f"{path}.lst", self._lst.written()


def write_small(destination: Folder, path: str, data: bytes) -> Written:
    """Write a file that fits into memory."""
    destination.write(path, data)
    return Written(len(data), hashlib.sha256(data).hexdigest())


def _one_line(name: str) -> str:
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


class _Hashed:
    """Counts and hashes what is written to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def written(self) -> Written:
        return Written(self._bytes, self._hash.hexdigest())
