"""What the sandbox and who asks it say to each other, over one socket for each picture.

There: a length, a JSON request, and the picture's file. Back: frames of a kind, a length and a
body: RESULT, a JSON object with the pixels' size, and then PIXELS, bands of whole rows, RGB; or
REFUSED, a code and a message; or, from the process that forks, ENDED: how one ended without an
answer.
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
# What one process may take. No picture shall take 3 s and 1 GiB in all: the rest of both is for who
# asks, who takes the pixels over, resizes and encodes them.
_CPU_SECONDS, _CPU_SECONDS_OF_MANY, _MANY_PIXELS = 2.6, 1.6, 100_000_000
WALL_SECONDS = 30.0
MOST_MEMORY = 900 * 1024 * 1024


def cpu_seconds(pixels: int) -> float:
    """What the process of a picture of so many pixels may take of a core."""
    share = min(1.0, pixels / _MANY_PIXELS)
    return _CPU_SECONDS + share * (_CPU_SECONDS_OF_MANY - _CPU_SECONDS)


class Reader(Protocol):
    """Blocking reads, into a buffer."""

    def recv_into(self, buffer: memoryview) -> int:
        """How many bytes came; 0 at the end."""


@dataclass(frozen=True, slots=True)
class Request:
    """A picture to decode, as `Structure` and `Limits` tell of it.

    memory: bytes that may be taken for it; seconds: of a core.
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
        """What goes before the file."""
        body = json.dumps(asdict(self)).encode()
        return HEADER.pack(len(body), len(data)) + body

    @classmethod
    def read(cls, body: bytes | bytearray) -> "Request":
        """What `header` wrote."""
        return cls(**json.loads(body))


def frame(kind: bytes, value: dict[str, Any]) -> bytes:
    """A frame with a JSON object."""
    body = json.dumps(value).encode()
    return FRAME.pack(kind, len(body)) + body


def fill(source: Reader, buffer: bytearray) -> bool:
    """Read all of `buffer`; False where the other side ended before."""
    view = memoryview(buffer)
    while view:
        count = source.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True
