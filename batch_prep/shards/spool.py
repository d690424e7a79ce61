"""The prepared pictures of an archive, until its end tells which record each of them becomes.

They are a small fraction of the archive. What does not fit into the budget of memory waits in the
destination, beside the shards, and never on this machine's disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from batch_prep.image.prepare import Prepared
from batch_prep.sources.entries import Refused
from batch_prep.storage.folder import Folder, Span

_PIECE_BYTES = 32 * 1024 * 1024
_MOST_HELD_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that was read before its place was known.

    name, parts, split: as in `entries.File`; version: SHA-256 of its file; size: of its file in
    bytes; outcome: the picture, all but its JPEG, which is `length` bytes from `offset` in piece
    number `piece`, or why there is none.
    """

    name: str
    parts: tuple[str, ...]
    version: str
    size: int
    outcome: Prepared | Refused
    piece: int = 0
    offset: int = 0
    length: int = 0
    split: str = ""


class Staging:
    """Bytes in pieces, the latest in memory and the first, beyond the budget, in a folder."""

    def __init__(self, place: Folder, most_bytes: int = _MOST_HELD_BYTES) -> None:
        self._place = place
        self._most = most_bytes
        self._pieces: list[bytearray | None] = []
        self._written = 0

    def add(self, data: bytes) -> tuple[int, int]:
        """Keep `data`; its piece and offset there."""
        last = self._pieces[-1] if self._pieces else None
        if last is None or len(last) + len(data) > _PIECE_BYTES:
            last = bytearray()
            self._pieces.append(last)
            if (len(self._pieces) - self._written) * _PIECE_BYTES > self._most:
                self._write_out(self._written)
        last += data
        return len(self._pieces) - 1, len(last) - len(data)

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """What was kept there. Threads may read at the same time."""
        kept = self._pieces[piece]
        if kept is not None:
            return bytes(kept[offset : offset + length])
        return self._place.read_span(Span(self._path(piece), offset, offset + length))

    def clear(self) -> None:
        """Forget everything."""
        self._place.remove(self._path(piece) for piece in range(self._written))
        self._pieces.clear()
        self._written = 0

    def _write_out(self, piece: int) -> None:
        self._place.write(self._path(piece), bytes(self._pieces[piece] or b""))
        self._pieces[piece] = None
        self._written += 1

    def _path(self, piece: int) -> str:
        return f"work/staged/{piece:05}"


@contextmanager
def staging(place: Folder) -> Iterator[Staging]:
    """A staging whose pieces are gone afterwards."""
    stage = Staging(place)
    try:
        yield stage
    finally:
        stage.clear()
