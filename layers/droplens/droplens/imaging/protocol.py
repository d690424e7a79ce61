"""The protocol between the sandbox and its client, over one socket per image.

Request: HEADER (lengths), a JSON object, the image file. Response: frames of a kind, a length and a
body: RESULT, a JSON object with the size in pixels, followed by PIXELS, bands of whole RGB rows; or
REFUSED, a code and a message; or, from the parent of the decoding process, ENDED: how that process
ended without a response.
"""

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any, Protocol

HEADER = struct.Struct(">II")
FRAME = struct.Struct(">cI")
READY = b"ready"
RESULT, PIXELS, REFUSED, ENDED = b"R", b"P", b"E", b"X"
# Of a band of pixels.
BAND_BYTES = 1024 * 1024
# Limits of one process. An image may take 3 s of CPU and 1 GiB in all: the rest of both is for the
# client, which receives the pixels, resizes and encodes them.
_CPU_SECONDS, _CPU_SECONDS_OF_MANY, _MANY_PIXELS = 2.6, 1.6, 100_000_000
WALL_SECONDS = 30.0
MAX_MEMORY = 900 * 1024 * 1024


def cpu_seconds(pixels: int) -> float:
    """The CPU time in seconds that a process may take that sends so many pixels."""
    share = min(1.0, pixels / _MANY_PIXELS)
    return _CPU_SECONDS + share * (_CPU_SECONDS_OF_MANY - _CPU_SECONDS)


class Reader(Protocol):
    """A stream with blocking reads into a buffer."""

    def recv_into(self, buffer: memoryview) -> int:
        """The number of bytes read; 0 at the end."""


@dataclass(frozen=True, slots=True)
class Request:
    """An image to decode; the other fields are those of `Structure` and `Limits`.

    memory: bytes that the process may allocate; seconds: of CPU time.
    """

    format: str
    orientation: int | None
    shorter_side: int | None
    max_bytes: int
    max_pixels: int
    max_aspect: float
    memory: int
    seconds: float

    def header(self, data: bytes) -> bytes:
        """The bytes that precede the file `data`."""
        body = json.dumps(asdict(self)).encode()
        return HEADER.pack(len(body), len(data)) + body

    @classmethod
    def read(cls, body: bytes | bytearray) -> "Request":
        """Read the JSON object that `header` wrote."""
        return cls(**json.loads(body))


def frame(kind: bytes, value: dict[str, Any]) -> bytes:
    """A frame whose body is `value` as JSON."""
    body = json.dumps(value).encode()
    return FRAME.pack(kind, len(body)) + body


def fill(source: Reader, buffer: bytearray) -> bool:
    """Fill all of `buffer`; False where the stream ended before."""
    view = memoryview(buffer)
    while view:
        count = source.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True
