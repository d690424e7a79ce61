"""Structural scan of an untrusted image file before any decoder reads it.

Decoders concatenate ten thousand EXIF segments, parse every tag of every directory, and decode
an overlay that refers to itself, so that a file of a few kilobytes takes minutes or gigabytes. The
scan therefore walks the blocks that a file declares, without copies, up to a count far above what
cameras write. A JPEG or PNG goes on to its decoder without the data that its pixels do not need:
comments, EXIF, XMP, thumbnails, further frames. Its orientation is read before.

`Structure.plain` marks the files that are decoded in this process, since their cost follows from
the header: JPEG and PNG as cameras, editors and websites write them. All others are decoded in
`imaging.sandbox`.

Sources: JPEG, ITU-T T.81, annex B; PNG, W3C Recommendation (Third Edition), 5 and 11; GIF89a, 15
and following; TIFF 6.0, section 2; WebP, RFC 9649; HEIF, ISO/IEC 23008-12, 6.
"""

import re
import struct
import zlib
from dataclasses import dataclass

from droplens.imaging.exif import orientation_of
from droplens.imaging.limits import FORMATS, HEAVY_FORMATS, ImageError, weight
from droplens.imaging.profile import is_simple

# A camera writes about ten segments; a phone's depth map may add a hundred of XMP.
MAX_SEGMENTS = 2000
# 25 MB of PNG in chunks of 512 bytes.
MAX_CHUNKS = 50_000
_PLAIN_CHUNKS = 4096
# 1 MB of comments before a GIF's first frame.
_MAX_SUB_BLOCKS = 4096
_MAX_TAGS = 512
_MAX_ITEMS = 2000
_MAX_BOXES = 20_000

# About a second of CPU time: pixels times scans of a JPEG, and bytes of a PNG's rows.
_PLAIN_JPEG = 60_000_000
_PLAIN_PNG_BYTES = 100_000_000

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
# Either may hold AV1 or HEVC.
_NEUTRAL_BRANDS = (b"mif1", b"msf1")

# What a file in none of the formats is, by its first bytes. The owner can convert an image of
# another format; any other file with an image's name is a mistake in the folder.
_UNREAD_IMAGE_FORMATS = (
    (re.compile(rb"8BPS"), "a Photoshop file"),
    (re.compile(rb"\x00\x00\x01\x00"), "an icon file"),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 picture"),
    (re.compile(rb"\x00\x00\x00\x0cJXL |\xff\x0a"), "a JPEG XL picture"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", re.DOTALL), "an SVG drawing"),
    (re.compile(rb"FUJIFILMCCD-RAW|II\x1a\x00\x00\x00HEAPCCDR|IIU\x00"), "a camera's raw file"),
)
_OTHER_FILE_TYPES = (
    (re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"\x1f\x8b"), "gzip-compressed data"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video"),
)
_DAMAGED = {"HEIF": "a damaged HEIC", "WEBP": "a damaged WebP"}


@dataclass(frozen=True, slots=True)
class Structure:
    """The declared structure of an image file.

    format: Pillow's name of the format of its first bytes; width, height: pixels, 0 where only a
    decoder finds them; data: the file, of a JPEG or PNG without metadata; orientation: 1 to 8 as in
    EXIF, None where only a decoder finds it; plain: see the module; heavy: as in `limits.weight`,
    False where not known.
    """

    format: str
    width: int
    height: int
    data: bytes
    orientation: int | None = None
    plain: bool = False
    heavy: bool = False

    @property
    def weight(self) -> int:
        """Pixels as `limits.weight` counts them; 0 where the size is not known."""
        heavy = self.heavy or self.format in HEAVY_FORMATS
        return weight(self.width, self.height, heavy=heavy)


def structure_of(data: bytes) -> Structure:
    """The structure of a file that is not empty.

    Raises ImageError for a file in none of the formats, and for more blocks than the limits.
    """
    kind = _format_of(data)
    if kind is None:
        raise _not_an_image(data)
    try:
        return _SCANNERS[kind](data)
    except (struct.error, IndexError):
        # It is truncated, or a size leads beyond its end: the decoder refuses or repairs it.
        return Structure(kind, 0, 0, data)


def damaged(image_format: str) -> ImageError:
    """The error for a file with a format's first bytes that its decoder refuses."""
    what = _DAMAGED.get(image_format, f"a damaged {image_format}")
    return ImageError("image.unreadable", f"{what}, not a readable picture")


def _format_of(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith((b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        if data[8:12] in (b"avif", b"avis"):
            return "AVIF"
        if data[8:12] in (*_HEIF_BRANDS, *_NEUTRAL_BRANDS):
            return "HEIF"
    return None


def _not_an_image(data: bytes) -> ImageError:
    start = data[:1024]
    for pattern, what in _UNREAD_IMAGE_FORMATS:
        if pattern.match(start):
            return ImageError(
                "image.unsupported_format", f"{what}; the formats read are {', '.join(FORMATS)}"
            )
    for pattern, what in _OTHER_FILE_TYPES:
        if pattern.match(start):
            return ImageError("image.unreadable", f"{what}, not a readable picture")
    return ImageError("image.unreadable", "the bytes are not those of a picture")


def _too_many(most: int, what: str) -> ImageError:
    return ImageError("image.unreadable", f"the file has more than {most:,} {what}")


# --- JPEG

_SOI, _SOS = 0xD8, 0xDA
_APP0, _APP1, _APP2, _COMMENT = 0xE0, 0xE1, 0xE2, 0xFE
# Huffman and quantisation tables, the restart interval, Adobe's colour transform.
_KEPT = frozenset({0xC4, 0xDB, 0xDD, 0xEE})
_BASELINE = frozenset({0xC0, 0xC1})
_PROGRESSIVE = 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JFIF = b"JFIF\0"
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_SCAN_START = b"\xff\xda"
# An 8x8 block that the encoder skipped takes no bytes of the file, but time to decode.
_MAX_SCANNED_PIXELS = 2_000_000_000
_USUAL_SCANS = 20


def _jpeg(data: bytes) -> Structure:
    frame: tuple[int, int, int, int, int] | None = None
    exif = xmp = b""
    kept, profile = [data[:2]], []
    regular = True
    fill = 0
    position = 2
    for _ in range(MAX_SEGMENTS):
        if data[position] != 0xFF:
            return Structure("JPEG", *_size(frame), data)  # junk between segments
        while data[position + 1] == 0xFF:  # fill bytes, of which there may be any number
            position += 1
            fill += 1
            regular = False
            if fill > MAX_SEGMENTS:
                raise _too_many(MAX_SEGMENTS, "fill bytes before its picture")
        kind = data[position + 1]
        start = position + 4
        end = position + 2 + int.from_bytes(data[position + 2 : start], "big")
        if kind == _SOS:
            break
        if end < start or end > len(data):
            return Structure("JPEG", *_size(frame), data)
        if kind in _FRAMES:
            regular &= frame is None
            frame = (kind, *struct.unpack_from(">BHHB", data, start))
            kept.append(data[position:end])
        elif kind in _KEPT or (kind == _APP0 and data.startswith(_JFIF, start)):
            kept.append(data[position:end])
        elif kind == _APP2 and data.startswith(_ICC, start):
            kept.append(data[position:end])
            profile.append(data[start + len(_ICC) + 2 : end])
        elif kind == _APP1 and data.startswith(_EXIF, start):
            exif = exif or data[start:end]
        elif kind == _APP1 and data.startswith(_XMP, start):
            xmp = xmp or data[start:end]
        elif not (_APP0 <= kind <= 0xEF or kind == _COMMENT):
            return Structure("JPEG", *_size(frame), data)  # a marker that opens no segment
        position = end
    else:
        raise _too_many(MAX_SEGMENTS, "segments before its picture")
    stripped = data if sum(map(len, kept)) == position else b"".join((*kept, data[position:]))
    width, height = _size(frame)
    all_scans = data.count(_SCAN_START, position)
    _check_scans(all_scans, width, height)
    # One, where the first scan of a baseline JPEG has all components: the decoder stops after it.
    scans = 1 if frame and frame[0] in _BASELINE and data[position + 4] == frame[4] else all_scans
    plain = (
        regular
        and frame is not None
        and (frame[0] in _BASELINE or frame[0] == _PROGRESSIVE)
        and frame[1] == 8
        and frame[4] in (1, 3)
        and (not profile or is_simple(b"".join(profile)))
        and scans * width * height <= _PLAIN_JPEG
    )
    heavy = frame is not None and frame[4] == 4
    return Structure("JPEG", width, height, stripped, orientation_of(exif, xmp), plain, heavy)


def _size(frame: tuple[int, int, int, int, int] | None) -> tuple[int, int]:
    return (frame[3], frame[2]) if frame else (0, 0)


def _check_scans(scans: int, width: int, height: int) -> None:
    """Raises ImageError for a JPEG with too many scans.

    A progressive JPEG has about ten scans, each over the whole image; a malicious one of half a
    megabyte may have thousands and take hours to decode.
    """
    if scans > _USUAL_SCANS and scans * width * height > _MAX_SCANNED_PIXELS:
        raise ImageError(
            "image.too_many_pixels",
            f"the picture of {width:,}x{height:,} pixels is painted {scans:,} times over",
        )


# --- PNG

_PNG_START = 8
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"IDAT", b"IEND"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_WITH_ALPHA = (4, 6)
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_RAW_EXIF = b"Raw profile type exif\0"
# A colour profile has a few hundred kilobytes at most; Pillow inflates no more than this of it.
_MAX_PROFILE = 1024 * 1024


def _png(data: bytes) -> Structure:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, _PNG_START + 8)
    exif = xmp = b""
    kept = [data[:_PNG_START]]
    chunks = 0
    has_simple_colours = True
    has_transparency = colour in _WITH_ALPHA
    position = _PNG_START
    while True:
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise _too_many(MAX_CHUNKS, "chunks")
        size, kind = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 12 + size
        if end > len(data):
            return Structure("PNG", width, height, data)
        if kind in _PNG_KEPT:
            kept.append(data[position:end])
            has_transparency |= kind == b"tRNS"
            if kind == b"iCCP":
                has_simple_colours &= is_simple(_inflated(data[start : end - 4]))
        elif kind == b"eXIf":
            exif = exif or data[start : end - 4]
        elif kind == b"iTXt" and data.startswith(_XMP_KEYWORD, start):
            xmp = xmp or data[start : end - 4]
        elif kind in (b"zTXt", b"tEXt") and data.startswith(_RAW_EXIF, start):
            exif = exif or _raw_exif(kind, data[start + len(_RAW_EXIF) : end - 4])
        elif not kind.isalpha():
            return Structure("PNG", width, height, data)
        position = end
        if kind == b"IEND":
            break
    stripped = data if sum(map(len, kept)) == len(data) else b"".join(kept)
    row = width * _CHANNELS.get(colour, 4) * max(depth, 8) // 8
    plain = (
        data[12:16] == b"IHDR"
        and colour in _CHANNELS
        and has_simple_colours
        and chunks <= _PLAIN_CHUNKS
        and row * height <= _PLAIN_PNG_BYTES
    )
    heavy = has_transparency or depth > 8
    return Structure("PNG", width, height, stripped, orientation_of(exif, xmp), plain, heavy)


def _inflated(profile: bytes) -> bytes:
    """The profile of an iCCP chunk, at most _MAX_PROFILE bytes; empty where it is damaged."""
    try:
        text = profile[profile.index(b"\0") + 2 :]
        return zlib.decompressobj().decompress(text, _MAX_PROFILE)
    except (zlib.error, ValueError):
        return b""


def _raw_exif(kind: bytes, text: bytes) -> bytes:
    """EXIF as older ImageMagick wrote it: a name, a length, lines of hexadecimal digits."""
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_PROFILE)
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except (zlib.error, ValueError):
        return b""


# --- the others, which are never plain


def _gif(data: bytes) -> Structure:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    blocks = 0
    while data[position] == 0x21:  # an extension: comments, loops, and what a frame looks like
        position += 2
        while size := data[position]:
            position += size + 1
            blocks += 1
            if blocks > _MAX_SUB_BLOCKS:
                raise _too_many(_MAX_SUB_BLOCKS, "blocks before its first frame")
        position += 1
    return Structure("GIF", width, height, data)


_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF


def _tiff(data: bytes) -> Structure:
    """Refuses a first directory whose values have more bytes than the file: they overlap."""
    order = "<" if data[:2] == b"II" else ">"
    if 43 in (data[2], data[3]):
        (position,) = struct.unpack_from(order + "Q", data, 8)
        (count,) = struct.unpack_from(order + "Q", data, position)
        entries, entry = position + 8, struct.Struct(order + "HHQ8s")
    else:
        (position,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, position)
        entries, entry = position + 2, struct.Struct(order + "HHI4s")
    if count > _MAX_TAGS:
        raise _too_many(_MAX_TAGS, "tags")
    sides = {256: 0, 257: 0}
    total = 0
    for number in range(count):
        tag, kind, values, inline = entry.unpack_from(data, entries + number * entry.size)
        total += _TYPE_BYTES.get(kind, 1) * values
        if tag in sides and kind in (3, 4):
            (sides[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), inline)
    if total > len(data):
        raise ImageError(
            "image.unreadable",
            f"the file of {len(data):,} bytes has tags of {total:,} bytes",
        )
    return Structure("TIFF", sides[256], sides[257], data)


def _bmp(data: bytes) -> Structure:
    (header,) = struct.unpack_from("<I", data, 14)
    sides = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return Structure("BMP", abs(sides[0]), abs(sides[1]), data)


def _webp(data: bytes) -> Structure:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    position, chunks = 12, 0
    while position + 8 <= len(data):
        position += 8 + (struct.unpack_from("<I", data, position + 4)[0] + 1 & ~1)
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise _too_many(MAX_CHUNKS, "chunks")
    return Structure("WEBP", width, height, data)


def _avif(data: bytes) -> Structure:
    return Structure("AVIF", *_largest_extent(data), data)


def _heif(data: bytes) -> Structure:
    _check_items(data)
    return Structure("HEIF", *_largest_extent(data), data)


def _largest_extent(data: bytes) -> tuple[int, int]:
    """Width and height of the item with the most pixels, from the `ispe` boxes.

    A grid of tiles has an `ispe` box of its own, beside those of its tiles.
    """
    sides = [
        (int.from_bytes(found[1], "big"), int.from_bytes(found[2], "big"))
        for found in _EXTENT.finditer(data, 0, 1024 * 1024)
    ]
    return max(sides, key=lambda side: side[0] * side[1], default=(0, 0))


_EXTENT = re.compile(rb"\x00\x00\x00\x14ispe\x00{4}(.{4})(.{4})", re.DOTALL)
# Coded images. Other items are derived from these, or are metadata.
_CODED_ITEMS = (b"hvc1", b"hev1", b"av01", b"jpeg")
_UNREAD_ITEMS = {b"iovl": "an overlay", b"mski": "a mask"}


def _check_items(data: bytes) -> None:
    """Raises ImageError for a HEIC with other items than coded images and grids of them.

    A decoder computes a derived item again for each reference to it, so that each level of nested
    overlays takes ten times as long: 4 KB took a minute. Masks overflowed the heap in libheif
    before 1.20. Phones write coded items, and grids of them.
    """
    kinds: dict[int, bytes] = {}
    references: dict[int, tuple[int, ...]] = {}
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        for inner, inner_start, inner_end in _boxes(data, start + 4, end):
            if inner == b"iinf":
                kinds |= _item_kinds(data, inner_start, inner_end)
            elif inner == b"iref":
                references |= _derivations(data, inner_start, inner_end)
    for item, kind in kinds.items():
        if kind in _UNREAD_ITEMS:
            raise _unsupported(_UNREAD_ITEMS[kind])
        if kind not in (b"grid", b"iden"):
            continue
        of = {kinds.get(other, b"") for other in references.get(item, ())}
        # A rotated or cropped grid is an `iden` of it: one more level.
        allowed = {*_CODED_ITEMS, b"grid"} if kind == b"iden" else set(_CODED_ITEMS)
        if not of <= allowed:
            raise _unsupported("a grid of derived pictures")


def _unsupported(what: str) -> ImageError:
    return ImageError(
        "image.unsupported_format", f"the HEIC has {what}; coded pictures and grids are read"
    )


def _boxes(data: bytes, position: int, end: int) -> "list[tuple[bytes, int, int]]":
    """The boxes in data[position:end]: kind, and the start and end of their content."""
    found = []
    while position + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = position + size if size else end
        if stop < start or stop > end:
            break  # truncated: the decoder refuses it
        found.append((kind, start, stop))
        if len(found) > _MAX_BOXES:
            raise _too_many(_MAX_BOXES, "boxes")
        position = stop
    return found


def _item_kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    first = start + (6 if data[start] == 0 else 8)
    kinds = {}
    for kind, position, _ in _boxes(data, first, end):
        if kind == b"infe" and data[position] in (2, 3):
            item, _, name = struct.unpack_from(
                ">HH4s" if data[position] == 2 else ">IH4s", data, position + 4
            )
            kinds[item] = name
    if len(kinds) > _MAX_ITEMS:
        raise _too_many(_MAX_ITEMS, "items")
    return kinds


def _derivations(data: bytes, start: int, end: int) -> dict[int, tuple[int, ...]]:
    wide = "I" if data[start] else "H"
    found: dict[int, tuple[int, ...]] = {}
    for kind, position, _ in _boxes(data, start + 4, end):
        if kind != b"dimg":
            continue
        item, count = struct.unpack_from(f">{wide}H", data, position)
        after = position + struct.calcsize(f">{wide}H")
        found[item] = found.get(item, ()) + struct.unpack_from(f">{count}{wide}", data, after)
        if sum(map(len, found.values())) > 100 * _MAX_ITEMS:
            raise _too_many(100 * _MAX_ITEMS, "references between its items")
    return found


_SCANNERS = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "TIFF": _tiff,
    "BMP": _bmp,
    "WEBP": _webp,
    "AVIF": _avif,
    "HEIF": _heif,
}
