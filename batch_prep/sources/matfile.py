"""Reader of structs, cells, texts and numbers in untrusted .mat files of MATLAB.

SciPy reads more types, but would add 110 MB to the container image, and allocates arrays of the
size that a file declares; tests compare this reader with it. The format is documented in "MAT-File
Format" by MathWorks, chapter "Level 5 MAT-Files", which MATLAB writes by default (-v7).
"""

import math
import struct
import zlib
from collections.abc import Collection
from typing import TypeAlias, cast

# The most unpacked bytes of a file: Stanford Cars' largest has a tenth of them.
_MOST_BYTES = 64 * 1024 * 1024
# The most elements, and numbers in arrays: Stanford Cars' annotations have 230,000 elements.
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
    """A file that is damaged, too large or of another format; the message says which."""


def read_mat(data: bytes, names: Collection[str]) -> dict[str, Value]:
    """The variables of a .mat file that are in `names`, by name.

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
    budget = _Budget()
    elements = _Elements(memoryview(data)[_HEADER_BYTES:], order, budget)
    remaining = _MOST_BYTES
    while elements.left():
        kind, body = elements.take()
        if kind == _COMPRESSED:
            unpacked = _inflate(body, remaining)
            remaining -= len(unpacked)
            kind, body = _Elements(memoryview(unpacked), order, budget).take()
        if kind == _MATRIX:
            matrix = _Matrix(body, order, budget)
            if matrix.name in names:
                found[matrix.name] = matrix.value(0)
    return found


def _inflate(body: memoryview, remaining: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, remaining + 1)
    except zlib.error as error:
        raise MatError(f"it is damaged: {error}") from None
    if len(data) > remaining:
        raise MatError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
    if not inflater.eof:
        raise MatError("it is cut off")
    return data


class _Budget:
    """The remaining budget of elements and numbers, each of which becomes a Python object."""

    def __init__(self) -> None:
        self._elements, self._numbers = _MOST_ELEMENTS, _MOST_NUMBERS

    def take(self, *, elements: int = 0, numbers: int = 0) -> None:
        """Take from the budget. Raises MatError where it is exceeded."""
        self._elements -= elements
        self._numbers -= numbers
        if self._elements < 0:
            raise MatError(f"it has more than {_MOST_ELEMENTS:,} elements")
        if self._numbers < 0:
            raise MatError(f"its arrays have more than {_MOST_NUMBERS:,} numbers")


class _Elements:
    """A sequence of data elements, each a type and bytes."""

    def __init__(self, data: memoryview, order: str, budget: _Budget) -> None:
        self.budget = budget
        self._data = data
        self._order = order
        self._position = 0

    def left(self) -> int:
        return len(self._data) - self._position

    def take(self) -> tuple[int, memoryview]:
        self.budget.take(elements=1)
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
        self.budget.take(numbers=len(body) // struct.calcsize(code))
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
    """An array, whose name is read at once and whose value on demand."""

    def __init__(self, body: memoryview, order: str, budget: _Budget) -> None:
        self._order = order
        self._rest = _Elements(body, order, budget)
        self.name = ""
        self._class = 0
        self._shape: tuple[int, ...] = (0,)
        if not body:
            return  # an empty field of a cell or struct array
        self._class = self._rest.whole_numbers()[0] & 0xFF
        self._shape = self._rest.whole_numbers()
        if len(self._shape) > _MOST_DIMENSIONS:
            raise MatError(f"it has an array of more than {_MOST_DIMENSIONS} dimensions")
        self.name = bytes(self._rest.take()[1]).decode("latin-1")

    def value(self, depth: int) -> Value:
        if depth > _DEEPEST:
            raise MatError("its arrays are nested too deeply")
        count = math.prod(self._shape)
        # Every value takes at least eight bytes, whatever the declared shape.
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
        return _Matrix(body, self._order, self._rest.budget).value(depth + 1)
