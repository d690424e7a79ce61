"""The list of the source file of each packed record: digest, channel and record id, a line each.

By it an image is found in a packed dataset by its bytes, under whatever name it was packed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Half of the SHA-256, by which packing finds equal files too.
_DIGITS = 32


@dataclass(frozen=True, slots=True)
class PackedFrom:
    """A record that was made from a file. digest: shortened, as `shortened` makes it."""

    digest: str
    channel: str
    record: int


def shortened(sha256: str) -> str:
    """The part of a SHA-256 in hexadecimal digits that the list has."""
    return sha256[:_DIGITS]


def digest_line(sha256: str, channel: str, record: int) -> bytes:
    """The line of one record. sha256: of its source file, in hexadecimal digits."""
    return f"{shortened(sha256)} {channel} {record}\n".encode()


def find(lines: Iterable[bytes], digests: frozenset[str]) -> Iterator[PackedFrom]:
    """The records made from files with these digests. digests: shortened.

    lines: without their ends. Raises ValueError for a line that is none.
    """
    for line in lines:
        if line[:_DIGITS].decode("ascii", "replace") in digests:
            digest, channel, record = line.decode("ascii").split()
            yield PackedFrom(digest, channel, int(record))
