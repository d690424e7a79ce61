"""Structs, cells, texts and numbers out of MATLAB's .mat files, within limits.

SciPy reads more kinds, but it would add 110 MB to the image, and it trusts a file's word for how
large its arrays are; tests compare this reader with it. The format is "MAT-File Format" by
MathWorks, chapter "Level 5 MAT-Files", which MATLAB writes by default (-v7).
"""

import math
import struct
import zlib
from collections.abc import Collection
from typing import TypeAlias, cast

# What is unpacked of a file: Stanford Cars' largest is a tenth of it.
_MOST_BYTES = 64 * 1024 * 1024
# Its elements, and the numbers of its arrays: Stanford Cars' annotations have 230,000 elements.
_MOST_ELEMENTS = 2_000_000
_MOST_NUMBERS = 4_000_000
_DEEPEST = 8
_MOST_DIMENSIONS = 32
_HEADER_BYTES = 128
_LEVEL_5 = 1
# Data types: numbers by their struct codes, texts by their codecs.
_NUMBERS = {
    1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q",
}  # fmt: skip
_TEXTS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
# Array classes.
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)

Value: TypeAlias = "str | tuple[float, ...] | tuple[Value, ...] | tuple[dict[str, Value], ...]"


class MatError(ValueError):
    """A file that is damaged, too large or of another kind; the message says which."""


def read_mat(data: bytes, wanted: Collection[str]) -> dict[str, Value]:
    """The variables of a .mat file whose names are `wanted`, those that it has.

    A char array of one row is a str, a numeric array its real numbers, a cell array its values and
    a struct array its structs by field name: tuples, in MATLAB's order, which is by columns.
    Raises MatError.
    """
    if data.startswith(b"MATLAB 7.3"):
        raise MatError("it was saved in MATLAB's version 7.3: save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER_BYTES])
    if order is None or struct.unpack_from(order + "H", data, 124)[0] >> 8 != _LEVEL_5:
        raise MatError("it is no MATLAB file of version 5 to 7")
    found: dict[str, Value] = {}
    room_for = _Room()
    elements = _Elements(memoryview(data)[_HEADER_BYTES:], order, room_for)
    room = _MOST_BYTES
    while elements.left():
        kind, body = elements.take()
        if kind == _COMPRESSED:
            unpacked = _inflate(body, room)
            room -= len(unpacked)
            kind, body = _Elements(memoryview(unpacked), order, room_for).take()
        if kind == _MATRIX:
            matrix = _Matrix(body, order, room_for)
            if matrix.name in wanted:
                found[matrix.name] = matrix.value(0)
    return found


def _inflate(body: memoryview, room: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, room + 1)
    except zlib.error as error:
        raise MatError(f"it is damaged: {error}") from None
    if len(data) > room:
        raise MatError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
    if not inflater.eof:
        raise MatError("it is cut off")
    return data


class _Room:
    """What is still read of one file: every element and every number becomes an object."""

    def __init__(self) -> None:
        self._elements, self._numbers = _MOST_ELEMENTS, _MOST_NUMBERS

    def take(self, *, elements: int = 0, numbers: int = 0) -> None:
        """So many more are read. Raises MatError where they are too many."""
        self._elements -= elements
        self._numbers -= numbers
        if self._elements < 0:
            raise MatError(f"it has more than {_MOST_ELEMENTS:,} elements")
        if self._numbers < 0:
            raise MatError(f"its arrays have more than {_MOST_NUMBERS:,} numbers")


class _Elements:
    """Data elements one after another: each its type and bytes."""

    def __init__(self, data: memoryview, order: str, room: _Room) -> None:
        self.room = room
        self._data = data
        self._order = order
        self._position = 0

    def left(self) -> int:
        return len(self._data) - self._position

    def take(self) -> tuple[int, memoryview]:
        self.room.take(elements=1)
        if self.left() < 8:
            raise MatError("it is cut off")
        kind, size = struct.unpack_from(self._order + "II", self._data, self._position)
        start, padded = self._position + 8, -(-size // 8) * 8
        if kind >> 16:  # the small format: at most four bytes within the tag
            kind, size = kind & 0xFFFF, kind >> 16
            start, padded = self._position + 4, 4
            if size > 4:
                raise MatError("it is damaged: a small element is too long")
        if start + size > len(self._data):
            raise MatError("it is cut off")
        self._position = start + (size if kind == _COMPRESSED else padded)
        return kind, self._data[start : start + size]

    def numbers(self) -> tuple[float, ...]:
        kind, body = self.take()
        code = _NUMBERS.get(kind)
        if code is None or len(body) % struct.calcsize(code):
            raise MatError(f"it is damaged: type {kind} where numbers should be")
        self.room.take(numbers=len(body) // struct.calcsize(code))
        return struct.unpack(f"{self._order}{len(body) // struct.calcsize(code)}{code}", body)

    def whole_numbers(self) -> tuple[int, ...]:
        numbers = self.numbers()
        if not numbers or not all(isinstance(number, int) for number in numbers):
            raise MatError("it is damaged: no whole numbers where they should be")
        return cast("tuple[int, ...]", numbers)

    def text(self) -> str:
        kind, body = self.take()
        codec = _TEXTS.get(kind)
        if codec is None:
            raise MatError(f"it is damaged: type {kind} where a text should be")
        if codec in ("utf-16", "utf-32"):
            codec += "-le" if self._order == "<" else "-be"
        try:
            return str(body, codec)
        except UnicodeDecodeError:
            raise MatError("it is damaged: a text that cannot be decoded") from None


class _Matrix:
    """An array: its name at once, its value where it is asked for."""

    def __init__(self, body: memoryview, order: str, room: _Room) -> None:
        self._order = order
        self._rest = _Elements(body, order, room)
        self.name = ""
        self._class = 0
        self._shape: tuple[int, ...] = (0,)
        if not body:
            return  # how an empty place of a cell or struct array is written
        self._class = self._rest.whole_numbers()[0] & 0xFF
        self._shape = self._rest.whole_numbers()
        if len(self._shape) > _MOST_DIMENSIONS:
            raise MatError(f"it has an array of more than {_MOST_DIMENSIONS} dimensions")
        self.name = bytes(self._rest.take()[1]).decode("latin-1")

    def value(self, depth: int) -> Value:
        if depth > _DEEPEST:
            raise MatError("its arrays are nested too deeply")
        count = math.prod(self._shape)
        # Every value takes eight bytes at least, whatever the shape says.
        if self._class in (_CELL, _STRUCT) and not 0 <= count <= self._rest.left() / 8 + 1:
            raise MatError("it is damaged: its arrays are larger than the file")
        if self._class == _CELL:
            return tuple(self._child(depth) for _ in range(count))
        if self._class == _STRUCT:
            fields = self._fields()
            return tuple({field: self._child(depth) for field in fields} for _ in range(count))
        if self._class == _CHAR and count:
            if self._shape[0] != 1:
                raise MatError("it has a text of several rows")
            return self._rest.text()
        if self._class in _NUMERIC and count:
            return self._rest.numbers()
        if self._class in (0, _CHAR, *_NUMERIC):
            return "" if self._class == _CHAR else ()
        raise MatError(f"it has an array of class {self._class}, which is not read")

    def _fields(self) -> list[str]:
        length = self._rest.whole_numbers()[0]
        names = bytes(self._rest.take()[1])
        if length < 1 or len(names) % length:
            raise MatError("it is damaged: its field names have no length")
        starts = range(0, len(names), length)
        return [
            names[start : start + length].partition(b"\0")[0].decode("latin-1") for start in starts
        ]

    def _child(self, depth: int) -> Value:
        kind, body = self._rest.take()
        if kind != _MATRIX:
            raise MatError(f"it is damaged: type {kind} where an array should be")
        return _Matrix(body, self._order, self._rest.room).value(depth + 1)
