"""The prepared images of an archive, kept until the whole archive is read and the plan is known.

They are a small fraction of the archive. What exceeds the budget of memory is written to the
destination, beside the shards, and never to this machine's disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from batch_prep.image.prepare import Prepared
from batch_prep.sources.entries import Refused
from batch_prep.storage.folder import Folder, Span

_CHUNK_BYTES = 32 * 1024 * 1024
_MOST_HELD_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Spooled:
    """A file that was read before its record was planned.

    name, parts, split, corrected: as in `entries.File`; version: SHA-256 of its file; size: of its
    file in bytes; outcome: the prepared image with an empty `jpeg`, or why there is none. The JPEG
    is `length` bytes from `offset` in chunk number `chunk` of the spool.
    """

    name: str
    parts: tuple[str, ...]
    version: str
    size: int
    outcome: Prepared | Refused
    chunk: int = 0
    offset: int = 0
    length: int = 0
    split: str = ""
    corrected: bool = False


class Spool:
    """Bytes in chunks: the latest in memory, earlier ones beyond the budget in a folder."""

    def __init__(self, folder: Folder, most_bytes: int = _MOST_HELD_BYTES) -> None:
        self._folder = folder
        self._most = most_bytes
        self._chunks: list[bytearray | None] = []
        self._written = 0

    def add(self, data: bytes) -> tuple[int, int]:
        """Keep `data` and return its chunk's number and its offset there."""
        last = self._chunks[-1] if self._chunks else None
        if last is None or len(last) + len(data) > _CHUNK_BYTES:
            last = bytearray()
            self._chunks.append(last)
            if (len(self._chunks) - self._written) * _CHUNK_BYTES > self._most:
                self._write_out(self._written)
        last += data
        return len(self._chunks) - 1, len(last) - len(data)

    def read(self, chunk: int, offset: int, length: int) -> bytes:
        """What `add` kept there. Thread-safe, as long as nothing is added."""
        kept = self._chunks[chunk]
        if kept is not None:
            return bytes(kept[offset : offset + length])
        return self._folder.read_span(Span(self._path(chunk), offset, offset + length))

    def clear(self) -> None:
        """Remove all chunks, in memory and in the folder."""
        self._folder.remove(self._path(chunk) for chunk in range(self._written))
        self._chunks.clear()
        self._written = 0

    def _write_out(self, chunk: int) -> None:
        self._folder.write(self._path(chunk), bytes(self._chunks[chunk] or b""))
        self._chunks[chunk] = None
        self._written += 1

    def _path(self, chunk: int) -> str:
        return f"work/staged/{chunk:05}"


@contextmanager
def temporary_spool(folder: Folder) -> Iterator[Spool]:
    """A spool that is cleared when the context is left."""
    spool = Spool(folder)
    try:
        yield spool
    finally:
        spool.clear()
