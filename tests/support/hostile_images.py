"""Malicious and broken files with names of images, the same in every run."""

import random
import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from io import BytesIO
from itertools import pairwise
from typing import Any

from PIL import Image, ImageCms

SEED = 20261122
MIB = 2**20
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


@cache
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
    """Names and files of which none is an image that can be classified."""
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


def costly() -> Iterator[tuple[str, bytes, str]]:
    """Names, files of at most 25 MiB, and verdicts: "picture" or a code.

    Each once took minutes or gigabytes of whoever prepared it, and mostly was a picture in the end:
    what is counted, read again or painted again is in the metadata, or in rows that are hardly
    there.
    """
    jpeg, png, webp = (sound()[name] for name in ("jpeg", "png", "webp"))
    small_exif = b"\xff\xe1\x00\x12Exif\0\0" + b"x" * 10
    yield "jpeg of EXIF segments", _inside(jpeg, small_exif * (6 * MIB // 20)), "image.unreadable"
    yield "jpeg of remarks", _inside(jpeg, b"\xff\xe5\0\3x" * 5_000_000), "image.unreadable"
    yield "jpeg of fill bytes", _inside(jpeg, b"\xff" * 24 * MIB), "image.unreadable"
    yield "jpeg with junk between segments", _inside(jpeg, b"j" * 24 * MIB), "image.unreadable"
    tags = exif_of_overlapping_tags(5400, 65_000)
    yield (
        "jpeg with an EXIF of overlapping tags",
        _inside(jpeg, b"\xff\xe1" + struct.pack(">H", len(tags) + 8) + b"Exif\0\0" + tags),
        "picture",
    )
    for size in (200_000, 20 * MIB):
        tags = exif_of_overlapping_tags(10_000, size)
        yield (
            f"png with an EXIF of {size:,} bytes",
            png[:33] + _chunk(b"eXIf", tags) + png[33:],
            "picture",
        )
        yield (
            f"webp with an EXIF of {size:,} bytes",
            _encoded(Image.open(BytesIO(webp)), "WEBP", exif=tags),
            "picture",
        )
    yield "png of empty chunks", png[:33] + _chunk(b"teSt", b"") * 2_000_000, "image.unreadable"
    yield (
        "png of little pieces",
        png[:33] + _chunk(b"IDAT", b"") * 49_000 + png[33:],
        "picture",
    )
    comments = b"\x21\xfe" + b"\x01c" * (4 * MIB // 2) + b"\0"
    gif = sound()["gif"]
    start = 13 + (3 << (gif[10] & 7) + 1)
    yield "gif of comments", gif[:start] + comments + gif[start:], "image.unreadable"
    for count, size in ((3000, MIB), (500, MIB), (60, 25 * MIB - 1000)):
        yield (
            f"tiff of {count} tags in {size:,} bytes",
            _tiff_of_overlapping_tags(count, size),
            "image.unreadable",
        )
    yield "bmp of runs of one pixel", bmp_of_runs(24 * MIB), "image.unreadable"
    for name, levels in (("once", [1, 1]), ("of overlays", [10, 10, 10, 10, 1])):
        yield f"heic overlay {name}", heic_of_items(levels, b"iovl"), "image.unsupported_format"
    yield "heic grid of grids", heic_of_items([4, 4, 1], b"grid"), "image.unsupported_format"
    yield "heic mask", heic_of_items([1], b"iovl", coded=b"mski"), "image.unsupported_format"
    yield "png of grey rows", _png_of_rows(8000, 8000, 8, 0), "picture"
    yield "png of deep rows", _png_of_rows(4000, 4000, 16, 6), "picture"
    yield "png of too many deep rows", _png_of_rows(9000, 9000, 16, 6), "image.too_many_pixels"
    yield "webp of 36 megapixels", _encoded(_plain(6000), "WEBP", lossless=True), "picture"
    yield "gif of 49 megapixels", _encoded(_plain(7000).convert("P"), "GIF"), "picture"


def troubled() -> Iterator[tuple[str, bytes]]:
    """Names and valid images whose metadata made Pillow raise unexpected exceptions."""
    photo = Image.effect_mandelbrot((64, 48), (-2, -1.2, 0.6, 1.2), 60).convert("RGB")
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for place in (16, 20, 12):
        profile[place] = 0xE9
        for kind in ("JPEG", "PNG", "WEBP"):
            data = _encoded(photo, kind, icc_profile=bytes(profile))
            yield f"{kind} whose profile's byte {place} is not ASCII", data
    turned = Image.Exif()
    turned[0x0112], turned[0x010F], turned[0x011A], turned[0x0132] = 6, "Maker", 72.0, "2026"
    turned[0x8769] = {0x9003: "2026", 0x829A: (1, 50), 0x927C: b"Nikon\0" + bytes(40)}
    for kind in ("JPEG", "WEBP", "PNG"):
        data = _encoded(photo, kind, exif=turned)
        start = data.index(b"MM\0*") if b"MM\0*" in data else data.index(b"II*\0")
        for entry in range(4):
            for wrong in (0, 2, 7, 10, 12, 255):
                damaged = bytearray(data)
                damaged[start + 10 + 12 * entry + 3] = wrong
                yield f"{kind}, tag {entry} of type {wrong}", bytes(damaged)


def exif_of_overlapping_tags(count: int, size: int) -> bytes:
    """A TIFF directory of `count` tags that each claim nearly all of its `size` bytes."""
    directory = b"II*\0" + struct.pack("<IH", 8, count)
    for number in range(count):
        directory += struct.pack("<HHII", 1000 + number, 7, size - 8, 8)
    return (directory + bytes(4)).ljust(size, b"\0")


def _tiff_of_overlapping_tags(count: int, size: int) -> bytes:
    side = 32
    tags = [(256, 3, 1, side), (257, 3, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, size - side * side), (277, 3, 1, 1), (278, 3, 1, side)]
    tags += [(279, 4, 1, side * side)]
    tags += [(1000 + number, 7, size - 8, 8) for number in range(count)]
    body = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return (body + b"".join(struct.pack("<HHII", *tag) for tag in tags)).ljust(size, b"\0")


def bmp_of_runs(size: int) -> bytes:
    """One byte of 25 megapixels in two of the file's, each of which is decoded on its own."""
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    start = 54 + len(palette)
    header = struct.pack("<IHHI", start + size, 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, size, 0, 0, 256, 0)
    return b"BM" + header + palette + b"\x01\x07" * (size // 2)


def _plain(side: int) -> Image.Image:
    return Image.linear_gradient("L").resize((side, side)).convert("RGB")


def _png_of_rows(width: int, height: int, depth: int, colour: int) -> bytes:
    row = width * {0: 1, 6: 4}[colour] * depth // 8
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(b"\4" + b"\3" * row) for _ in range(height))
    return _png(width, height, rows + packer.flush(), depth, colour=colour)


def _inside(jpeg: bytes, segments: bytes) -> bytes:
    return jpeg[:2] + segments + jpeg[2:]


def heic_of_items(levels: list[int], derived: bytes, coded: bytes = b"hvc1") -> bytes:
    """A HEIC whose first items are coded, and each level's made of all of the level below.

    Its coded items have no picture in them: nobody is to get as far.
    """
    side = 256
    counts = [range(sum(levels[:n]) + 1, sum(levels[: n + 1]) + 1) for n in range(len(levels))]
    last = counts[-1][0]

    def items(of: bytes, ids: Iterable[int]) -> bytes:
        return b"".join(
            _full_box(b"infe", struct.pack(">HH4s", item, 0, of) + b"\0", version=2) for item in ids
        )

    names = items(coded, counts[0]) + b"".join(items(derived, level) for level in counts[1:])
    made_of = b"".join(
        _box(b"dimg", struct.pack(f">HH{len(below)}H", item, len(below), *below))
        for below, level in pairwise(counts)
        for item in level
    )
    extent = _full_box(b"ispe", struct.pack(">II", side, side))
    uses = b"".join(struct.pack(">HBB", item, 1, 1) for level in counts for item in level)
    meta = (
        _full_box(b"hdlr", struct.pack(">I4s12s", 0, b"pict", b"") + b"\0")
        + _full_box(b"pitm", struct.pack(">H", last))
        + _full_box(b"iinf", struct.pack(">H", last) + names)
        + _box(
            b"iprp",
            _box(b"ipco", extent) + _full_box(b"ipma", struct.pack(">I", last) + uses),
        )
        + _full_box(b"iref", made_of)
    )
    return _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic") + _full_box(b"meta", meta)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full_box(kind: bytes, body: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + body)


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


def _png(
    width: int, height: int, data: bytes, depth: int = 8, text: bytes = b"", colour: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    comment = _chunk(b"zTXt", b"Comment\x00\x00" + text) if text else b""
    return (
        _MAGIC["png"]
        + _chunk(b"IHDR", header)
        + comment
        + _chunk(b"IDAT", data)
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()
