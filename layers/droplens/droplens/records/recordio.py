"""Reader and writer of MXNet's RecordIO files, without MXNet.

A file is a sequence of records, each a multiple of 4 bytes long; numbers are little-endian:

    magic    uint32  0xCED7230A
    head     uint32  part (3 bits) and length in bytes (29 bits)
    data     length bytes, then zeros up to the next multiple of 4

A reader resynchronises at the magic at multiples of 4, so data that contains the magic there is
split at it: the record becomes parts (first = 1, middle = 2, last = 3; 0 is an undivided record),
and the reader inserts the magic between them again. An image record's data begins with

    flag     uint32  number of labels that follow the header; 0: the one label is in the header
    label    float32
    id       uint64
    id2      uint64  unused, 0

The index is text, one line per record: id, tab, byte offset in the record file.
Sources: dmlc-core `recordio.cc` for the frame, MXNet `recordio.py` for the image header. A test
compares every byte with what mx.recordio writes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import BinaryIO, Self

MAGIC = 0xCED7230A
MAX_RECORD_BYTES = (1 << 29) - 1

_MAGIC_BYTES = struct.pack("<I", MAGIC)
_FRAME = struct.Struct("<4sI")
_IMAGE_HEADER = struct.Struct("<IfQQ")
_LABEL = struct.Struct("<f")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class RecordIOError(ValueError):
    """Bytes that are not a record; the message has the byte offset and the cause."""


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled image: label (the class number), id, payload (an encoded JPEG)."""

    label: float
    id: int
    payload: bytes


class RecordWriter:
    """Writes records to `rec`, opened in binary by the caller.

    bytes: written so far. Leaving the context flushes `rec`; closing it stays with the caller.
    """

    def __init__(self, rec: BinaryIO) -> None:
        self._rec = rec
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rec.flush()

    def write(self, id: int, label: float, payload: bytes) -> int:  # noqa: A002  the format's word
        """Append a record and return its byte offset in the record file."""
        framed = _frame(_IMAGE_HEADER.pack(0, label, id, 0) + payload)
        offset = self.bytes
        self._rec.write(framed)
        self.bytes += len(framed)
        return offset


def read_records(stream: BinaryIO) -> Iterator[Record]:
    """The records of `stream` in order, one in memory at a time.

    Raises RecordIOError, naming the byte offset, where the stream is not RecordIO or ends early.
    """
    offset = 0
    while framed := _read_frames(stream, offset):
        data, length = framed
        yield _image_record(data, offset)
        offset += length


def parse_record(data: bytes) -> Record:
    """The record whose framed bytes, from its offset in the index to the next one's, are `data`."""
    framed = _read_frames(BytesIO(data), 0)
    if framed is None:
        raise RecordIOError("no bytes where a record was expected")
    body, length = framed
    if length != len(data):
        raise RecordIOError(f"the record ends at byte {length} of {len(data)}")
    return _image_record(body, 0)


def read_index(text: str) -> list[tuple[int, int]]:
    """The pairs (id, byte offset) of an index file, in file order."""
    pairs = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            id_, offset = line.split("\t")
            pairs.append((int(id_), int(offset)))
        except ValueError:
            raise RecordIOError(f"line {number} of the index is not 'id<tab>offset'") from None
    return pairs


def _frame(data: bytes) -> bytes:
    if len(data) > MAX_RECORD_BYTES:
        raise RecordIOError(
            f"a record of {len(data)} bytes is longer than the format's {MAX_RECORD_BYTES}"
        )
    parts = []
    start = 0
    for cut in _aligned_magics(data):
        parts.append(_FRAME.pack(_MAGIC_BYTES, _head(_MIDDLE if start else _FIRST, cut - start)))
        parts.append(data[start:cut])
        start = cut + 4
    parts.append(_FRAME.pack(_MAGIC_BYTES, _head(_LAST if start else _WHOLE, len(data) - start)))
    parts.append(data[start:])
    parts.append(bytes(-len(data) % 4))
    return b"".join(parts)


def _head(part: int, length: int) -> int:
    return part << 29 | length


def _aligned_magics(data: bytes) -> Iterator[int]:
    """Every multiple of 4 at which `data` contains the magic."""
    found = data.find(_MAGIC_BYTES)
    while found >= 0:
        if found % 4 == 0:
            yield found
        # No byte of the magic occurs in it twice, so two magics never overlap.
        found = data.find(_MAGIC_BYTES, found + 4)


def _read_frames(stream: BinaryIO, offset: int) -> tuple[bytes, int] | None:
    """The next record's data and its framed length, or None at the end of the stream."""
    parts: list[bytes] = []
    position = offset
    while True:
        frame = stream.read(_FRAME.size)
        if not frame and not parts:
            return None
        if len(frame) < _FRAME.size:
            raise RecordIOError(f"the file ends inside the record at byte {offset}")
        magic, head = _FRAME.unpack(frame)
        if magic != _MAGIC_BYTES:
            raise RecordIOError(f"no record begins at byte {position}: the magic number is missing")
        part, length = head >> 29, head & MAX_RECORD_BYTES
        if part not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
            raise RecordIOError(f"part {part} of a record is out of place at byte {position}")
        padded = stream.read(length + -length % 4)
        if len(padded) < length + -length % 4:
            raise RecordIOError(f"the file ends inside the record at byte {offset}")
        parts.append(padded[:length])
        position += _FRAME.size + len(padded)
        if part in (_WHOLE, _LAST):
            return _MAGIC_BYTES.join(parts), position - offset


def _image_record(data: bytes, offset: int) -> Record:
    if len(data) < _IMAGE_HEADER.size:
        raise RecordIOError(f"the record at byte {offset} is too short for an image header")
    labels, label, id_, _ = _IMAGE_HEADER.unpack_from(data)
    if labels == 0:
        return Record(label, id_, data[_IMAGE_HEADER.size :])
    if labels == 1 and len(data) >= _IMAGE_HEADER.size + _LABEL.size:
        (label,) = _LABEL.unpack_from(data, _IMAGE_HEADER.size)
        return Record(label, id_, data[_IMAGE_HEADER.size + _LABEL.size :])
    raise RecordIOError(f"the record at byte {offset} has {labels} labels, a class has one")
