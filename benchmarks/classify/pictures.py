"""Pictures for the measurements: real JPEGs, as many different ones as wanted, made in no time."""

import random
from collections.abc import Iterator
from io import BytesIO

from PIL import Image, ImageFilter

SEED = 20261122
QUALITY = 90
_KINDS = 16  # pictures that are really drawn and encoded


def jpegs(count: int, side: int, *, start: int = 0) -> Iterator[bytes]:
    """`count` different JPEGs of `side` x `side` pixels, of about as many bytes as a photograph.

    Sixteen are drawn; each copy of one carries its number in a comment, so that no two files are
    the same and each is decoded as any other.
    """
    drawn = [_photograph(random.Random(SEED + kind), side) for kind in range(_KINDS)]
    for number in range(start, start + count):
        comment = f"picture {number}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        whole = drawn[number % _KINDS]
        yield whole[:2] + segment + whole[2:]


def labelled(count: int, side: int) -> Iterator[tuple[str, bytes]]:
    """`count` drawn pictures with their class, in turns "colour" and "grey"; each is drawn anew."""
    for number in range(count):
        body = _photograph(random.Random(SEED - 1 - number), side, grey=bool(number % 2))
        yield ("colour", "grey")[number % 2], body


def bare(jpeg: bytes) -> bytes:
    """The request body for an endpoint: a prepared JPEG without its metadata."""
    if jpeg[:4] != b"\xff\xd8\xff\xfe":
        return jpeg
    return jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6], "big") :]


def _photograph(choose: random.Random, side: int, *, grey: bool = False) -> bytes:
    """Clouds of colour over fine grain: what costs a decoder as much as a photograph does."""
    coarse = Image.frombytes("RGB", (12, 12), choose.randbytes(12 * 12 * 3))
    clouds = coarse.resize((side, side), Image.Resampling.BICUBIC)
    grain = Image.frombytes("RGB", (side, side), choose.randbytes(side * side * 3))
    out = BytesIO()
    soft = grain.filter(ImageFilter.GaussianBlur(1))
    drawn = Image.blend(clouds, soft, 0.35)
    (drawn.convert("L").convert("RGB") if grey else drawn).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
