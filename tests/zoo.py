"""Hostile files under pictures' names, the same in every run: what strangers may drop."""

import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from PIL import Image

SEED = 20261122
HEADER = 160  # bytes in which every format keeps its sizes, counts and offsets
_MAGIC = {
    "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "png": b"\x89PNG\r\n\x1a\n",
    "webp": b"RIFF\xff\xff\x00\x00WEBPVP8 ",
    "gif": b"GIF89a",
    "tiff": b"II*\x00\x08\x00\x00\x00",
    "bmp": b"BM",
    "avif": b"\x00\x00\x00\x20ftypavif",
    "heic": b"\x00\x00\x00\x18ftypheic",
}


def sound() -> dict[str, bytes]:
    """One small picture in each format that Pillow writes, in the variants that differ inside."""
    photo = Image.effect_mandelbrot((64, 48), (-2, -1.2, 0.6, 1.2), 60).convert("RGB")
    return {
        "jpeg": _encoded(photo, "JPEG"),
        "progressive": _encoded(photo, "JPEG", progressive=True),
        "cmyk": _encoded(photo.convert("CMYK"), "JPEG"),
        "png": _encoded(photo, "PNG"),
        "palette": _encoded(photo.quantize(16), "PNG", transparency=3),
        "deep": _encoded(photo.convert("I;16"), "PNG"),
        "webp": _encoded(photo, "WEBP"),
        "lossless": _encoded(photo, "WEBP", lossless=True),
        "gif": _encoded(photo, "GIF", save_all=True, append_images=[photo.rotate(90)]),
        "tiff": _encoded(photo, "TIFF", compression="tiff_lzw"),
        "bmp": _encoded(photo, "BMP"),
        "avif": _encoded(photo, "AVIF"),
    }


def certainly_hostile() -> Iterator[tuple[str, bytes]]:
    """Names and files of which none is a picture that anybody could answer."""
    chance = random.Random(SEED)
    yield "empty", b""
    for size in (1, 3, 64, 5000):
        yield f"random {size}", chance.randbytes(size)
    for name, magic in _MAGIC.items():
        yield f"only the magic of {name}", magic
        yield f"random after the magic of {name}", magic + chance.randbytes(3000)
    for name, data in sound().items():
        for share in (0.05, 0.25, 0.45):
            yield f"{name} cut at {share:.0%}", data[: int(len(data) * share)]
    yield from _bombs()
    yield "a page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "a drawing", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield "a document", b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n"
    yield "an archive", b"PK\x03\x04" + chance.randbytes(200)
    yield "a program", b"\x7fELF\x02\x01\x01" + bytes(200)
    yield "a video", b"\x00\x00\x00\x18ftypmp42" + chance.randbytes(500)
    yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file"
    yield "a strip", _encoded(Image.new("L", (5000, 2)), "PNG")


def mutants(picture: bytes, count: int) -> Iterator[bytes]:
    """`count` changed copies of a picture; some may still be pictures.

    Half have bytes of the header replaced, the others are spliced: parts doubled, dropped, blanked,
    or taken from a picture of another format.
    """
    chance, others = random.Random(SEED), list(sound().values())
    for number in range(count):
        changed = bytearray(picture)
        if number % 2 == 0:
            for _ in range(chance.randint(1, 6)):
                place = chance.randrange(min(HEADER, len(changed)))
                changed[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        else:
            start = chance.randrange(len(changed))
            end = min(len(changed), start + chance.randint(1, 400))
            changed[start:end] = chance.choice(
                (
                    b"",
                    changed[start:end] * 2,
                    bytes(end - start),
                    chance.choice(others)[start:end],
                )
            )
        yield bytes(changed)


def polyglots() -> Iterator[tuple[str, bytes]]:
    """Sound pictures with something else behind them: they are pictures all the same."""
    for name in ("jpeg", "png", "gif", "webp"):
        yield f"{name} with an archive behind it", sound()[name] + b"PK\x03\x04" + bytes(400)
        yield f"{name} with a script behind it", sound()[name] + b"<script>alert(1)</script>"


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Little files that claim, or hold, far more pixels than anybody may drop."""
    for sides in ((100_000, 100_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (0, 0)):
        yield f"png of {sides}", _png(*sides, zlib.compress(bytes(1000)))
    yield "png bomb", _png(15_000, 15_000, zlib.compress(bytes(15_000 * 1876), 9), depth=1)
    yield "png text bomb", _png(8, 8, b"", text=zlib.compress(bytes(80_000_000), 9))
    yield "gif of 65535x65535", b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b",\x00\x3b"
    yield (
        "bmp of 2^31",
        b"BM"
        + struct.pack(
            "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0
        ),
    )
    jpeg = bytearray(sound()["jpeg"])
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = b"\xff\xff\xff\xff"
    yield "jpeg of 65535x65535", bytes(jpeg)
    tiff = struct.pack("<2sHIH", b"II", 42, 8, 3)
    for tag in (256, 257):
        tiff += struct.pack("<HHII", tag, 4, 1, 2**32 - 1)
    yield "tiff of 2^32", tiff + struct.pack("<HHII", 262, 3, 1, 1) + bytes(4)
    yield "tiff whose directory is itself", struct.pack("<2sHIHI", b"II", 42, 8, 0, 8)


def _png(width: int, height: int, data: bytes, depth: int = 8, text: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    comment = chunk(b"zTXt", b"Comment\x00\x00" + text) if text else b""
    return (
        _MAGIC["png"]
        + chunk(b"IHDR", header)
        + comment
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()
