"""A channel on its way out: NAME.rec, NAME.idx and NAME.lst below the channel's name."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import BinaryIO, Self, cast

from batch_prep.split import Labelled
from batch_prep.storage import Folder
from droplens.recordio import RecordWriter


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: bytes, and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


def write_channel(
    destination: Folder, channel: str, pictures: Sequence[Labelled], spool: BinaryIO
) -> dict[str, Written]:
    """Write the records in the order given, ids counted from 0, and say what was written where.

    The .lst names each record's picture as MXNet's im2rec lists do: id, label and name between
    tabs. Control characters in a name are escaped there, since a line is a record.
    """
    path = f"{channel}/{channel}"
    index, listing = BytesIO(), BytesIO()
    with (
        _Hashing(destination.writer(f"{path}.rec")) as rec,
        RecordWriter(cast(BinaryIO, rec), index) as records,
    ):
        for number, labelled in enumerate(pictures):
            picture = labelled.picture
            spool.seek(picture.offset)
            records.write(number, labelled.label, spool.read(picture.length))
            listing.write(f"{number}\t{labelled.label:f}\t{_one_line(picture.name)}\n".encode())
    written = {f"{path}.rec": rec.written()}
    for suffix, content in ((".idx", index.getvalue()), (".lst", listing.getvalue())):
        written[path + suffix] = write_small(destination, path + suffix, content)
    return written


def write_small(destination: Folder, path: str, data: bytes) -> Written:
    """Write a file that fits into memory."""
    destination.write(path, data)
    return Written(len(data), hashlib.sha256(data).hexdigest())


def _one_line(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


class _Hashing:
    """Counts and hashes what is written to a file, opened and closed with it."""

    def __init__(self, opening: AbstractContextManager[BinaryIO]) -> None:
        self._opening = opening
        self._hash = hashlib.sha256()
        self._bytes = 0

    def __enter__(self) -> Self:
        self._file = self._opening.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._opening.__exit__(kind, error, trace)

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def written(self) -> Written:
        return Written(self._bytes, self._hash.hexdigest())
