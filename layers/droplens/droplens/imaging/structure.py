"""What a file is made of, before any decoder sees it: its blocks counted, its metadata left out.

Decoders are lenient and thorough: they concatenate ten thousand EXIF segments, parse each tag of
each directory, and follow a picture that is laid over itself. A file of a few kilobytes then takes
minutes or gigabytes. So the blocks that a file says that it has are walked here, which copies
nothing and stops at a count that no camera comes near, and a JPEG or PNG goes on without what its
pixels do not need: comments, EXIF, XMP, thumbnails, further frames. How it lies is read first.

`Structure.plain` tells the few builds that are decoded in this process, since their cost follows
from the header: JPEG and PNG as cameras, editors and websites write them. Everything else is for
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

# A camera writes some ten segments; a phone's depth map may be a hundred more of XMP.
MOST_SEGMENTS = 2000
# 25 MB of PNG in pieces of 512 bytes.
MOST_CHUNKS = 50_000
_PLAIN_CHUNKS = 4096
# 1 MB of comments before a GIF's first frame.
_MOST_SUB_BLOCKS = 4096
_MOST_TAGS = 512
_MOST_ITEMS = 2000
_MOST_BOXES = 20_000

# About a second of a core: pixels times scans of a JPEG, and bytes of a PNG's rows.
_PLAIN_JPEG = 60_000_000
_PLAIN_PNG_BYTES = 100_000_000

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
# Either may hold AV1 or HEVC.
_NEUTRAL_BRANDS = (b"mif1", b"msf1")

# What a file that is none of the formats is, by its first bytes. A picture of another format is
# its owner's to convert; anything else under a picture's name is a mistake in the folder.
_OTHER_PICTURES = (
    (re.compile(rb"8BPS"), "a Photoshop file"),
    (re.compile(rb"\x00\x00\x01\x00"), "an icon file"),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 picture"),
    (re.compile(rb"\x00\x00\x00\x0cJXL |\xff\x0a"), "a JPEG XL picture"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", re.DOTALL), "an SVG drawing"),
    (re.compile(rb"FUJIFILMCCD-RAW|II\x1a\x00\x00\x00HEAPCCDR|IIU\x00"), "a camera's raw file"),
)
_NO_PICTURES = (
    (re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"\x1f\x8b"), "gzip-compressed data"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video"),
)
_DAMAGED = {"HEIF": "a damaged HEIC", "WEBP": "a damaged WebP"}


@dataclass(frozen=True, slots=True)
class Structure:
    """A file as its blocks tell it.

    format: Pillow's name of what it claims to be; width, height: pixels, 0 where they are not to
    be had without a decoder; orientation: as EXIF numbers them, None where only a decoder finds
    the EXIF; plain: as above; heavy: as `weight` means it, as far as is known; data: the file,
    without the metadata of a JPEG or PNG.
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
        """As `limits.weight` counts, 0 where the size is not known."""
        heavy = self.heavy or self.format in HEAVY_FORMATS
        return weight(self.width, self.height, heavy=heavy)


def structure_of(data: bytes) -> Structure:
    """The structure of a file that is not empty.

    Raises ImageError for what is none of the formats, and for blocks beyond all bounds.
    """
    kind = _format_of(data)
    if kind is None:
        raise _no_picture(data)
    try:
        return _WALKS[kind](data)
    except (struct.error, IndexError):
        # It ends too early, or its sizes lead out of it: what is there is its decoder's to judge.
        return Structure(kind, 0, 0, data)


def damaged(image_format: str) -> ImageError:
    """For what has a format's first bytes, and no decoder takes."""
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


def _no_picture(data: bytes) -> ImageError:
    start = data[:1024]
    for pattern, what in _OTHER_PICTURES:
        if pattern.match(start):
            return ImageError(
                "image.unsupported_format", f"{what}; the formats read are {', '.join(FORMATS)}"
            )
    for pattern, what in _NO_PICTURES:
        if pattern.match(start):
            return ImageError("image.unreadable", f"{what}, not a readable picture")
    return ImageError("image.unreadable", "the bytes are not those of a picture")


def _too_many(most: int, what: str) -> ImageError:
    return ImageError("image.unreadable", f"the file has more than {most:,} {what}")


# --- JPEG

_SOI, _SOS = 0xD8, 0xDA
_APP0, _APP1, _APP2, _COMMENT = 0xE0, 0xE1, 0xE2, 0xFE
# Huffman and quantisation tables, the restart interval, Adobe's word on the colours.
_KEPT = frozenset({0xC4, 0xDB, 0xDD, 0xEE})
_BASELINE = frozenset({0xC0, 0xC1})
_PROGRESSIVE = 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JFIF = b"JFIF\0"
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_SCAN_START = b"\xff\xda"
# Rows of 8x8 blocks that an encoder leaves out are not in the file, and cost their decoding still.
_MOST_SCANNED_PIXELS = 2_000_000_000
_USUAL_SCANS = 20


def _jpeg(data: bytes) -> Structure:
    frame: tuple[int, int, int, int, int] | None = None
    exif = xmp = b""
    kept, profile = [data[:2]], []
    regular = True
    fill = 0
    place = 2
    for _ in range(MOST_SEGMENTS):
        if data[place] != 0xFF:
            return Structure("JPEG", *_size(frame), data)  # junk between segments
        while data[place + 1] == 0xFF:  # fill bytes, of which there may be any number
            place += 1
            fill += 1
            regular = False
            if fill > MOST_SEGMENTS:
                raise _too_many(MOST_SEGMENTS, "fill bytes before its picture")
        kind = data[place + 1]
        start = place + 4
        end = place + 2 + int.from_bytes(data[place + 2 : start], "big")
        if kind == _SOS:
            break
        if end < start or end > len(data):
            return Structure("JPEG", *_size(frame), data)
        if kind in _FRAMES:
            regular &= frame is None
            frame = (kind, *struct.unpack_from(">BHHB", data, start))
            kept.append(data[place:end])
        elif kind in _KEPT or (kind == _APP0 and data.startswith(_JFIF, start)):
            kept.append(data[place:end])
        elif kind == _APP2 and data.startswith(_ICC, start):
            kept.append(data[place:end])
            profile.append(data[start + len(_ICC) + 2 : end])
        elif kind == _APP1 and data.startswith(_EXIF, start):
            exif = exif or data[start:end]
        elif kind == _APP1 and data.startswith(_XMP, start):
            xmp = xmp or data[start:end]
        elif not (_APP0 <= kind <= 0xEF or kind == _COMMENT):
            return Structure("JPEG", *_size(frame), data)  # a marker that opens no segment
        place = end
    else:
        raise _too_many(MOST_SEGMENTS, "segments before its picture")
    bare = data if sum(map(len, kept)) == place else b"".join((*kept, data[place:]))
    width, height = _size(frame)
    painted = data.count(_SCAN_START, place)
    _check_scans(painted, width, height)
    # Once, where the first scan has all components: a decoder heeds no further one.
    scans = 1 if frame and frame[0] in _BASELINE and data[place + 4] == frame[4] else painted
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
    return Structure("JPEG", width, height, bare, orientation_of(exif, xmp), plain, heavy)


def _size(frame: tuple[int, int, int, int, int] | None) -> tuple[int, int]:
    return (frame[3], frame[2]) if frame else (0, 0)


def _check_scans(scans: int, width: int, height: int) -> None:
    """Refuse a JPEG that paints its picture over and over.

    A progressive JPEG comes in some ten scans, each over the whole picture; one of half a megabyte
    may have thousands and take hours.
    """
    if scans > _USUAL_SCANS and scans * width * height > _MOST_SCANNED_PIXELS:
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
# A colour profile has some hundred kilobytes at most; Pillow inflates no more than this of it.
_MOST_PROFILE = 1024 * 1024


def _png(data: bytes) -> Structure:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, _PNG_START + 8)
    exif = xmp = b""
    kept = [data[:_PNG_START]]
    chunks = 0
    has_simple_colours = True
    has_transparency = colour in _WITH_ALPHA
    place = _PNG_START
    while True:
        chunks += 1
        if chunks > MOST_CHUNKS:
            raise _too_many(MOST_CHUNKS, "chunks")
        size, kind = struct.unpack_from(">I4s", data, place)
        start, end = place + 8, place + 12 + size
        if end > len(data):
            return Structure("PNG", width, height, data)
        if kind in _PNG_KEPT:
            kept.append(data[place:end])
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
        place = end
        if kind == b"IEND":
            break
    bare = data if sum(map(len, kept)) == len(data) else b"".join(kept)
    row = width * _CHANNELS.get(colour, 4) * max(depth, 8) // 8
    plain = (
        data[12:16] == b"IHDR"
        and colour in _CHANNELS
        and has_simple_colours
        and chunks <= _PLAIN_CHUNKS
        and row * height <= _PLAIN_PNG_BYTES
    )
    heavy = has_transparency or depth > 8
    return Structure("PNG", width, height, bare, orientation_of(exif, xmp), plain, heavy)


def _inflated(profile: bytes) -> bytes:
    """What an iCCP chunk holds behind its name and method, or as much of it as is looked at."""
    try:
        text = profile[profile.index(b"\0") + 2 :]
        return zlib.decompressobj().decompress(text, _MOST_PROFILE)
    except (zlib.error, ValueError):
        return b""


def _raw_exif(kind: bytes, text: bytes) -> bytes:
    """EXIF as ImageMagick used to write it: a name, a length, and lines of hexadecimal digits."""
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MOST_PROFILE)
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except (zlib.error, ValueError):
        return b""


# --- the others, which are never plain


def _gif(data: bytes) -> Structure:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    blocks = 0
    while data[place] == 0x21:  # an extension: comments, loops, and what a frame looks like
        place += 2
        while size := data[place]:
            place += size + 1
            blocks += 1
            if blocks > _MOST_SUB_BLOCKS:
                raise _too_many(_MOST_SUB_BLOCKS, "blocks before its first frame")
        place += 1
    return Structure("GIF", width, height, data)


_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF


def _tiff(data: bytes) -> Structure:
    """Refuses a first directory whose values are more than the file: they overlap, or lead out."""
    order = "<" if data[:2] == b"II" else ">"
    if 43 in (data[2], data[3]):
        (place,) = struct.unpack_from(order + "Q", data, 8)
        (count,) = struct.unpack_from(order + "Q", data, place)
        entries, entry = place + 8, struct.Struct(order + "HHQ8s")
    else:
        (place,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, place)
        entries, entry = place + 2, struct.Struct(order + "HHI4s")
    if count > _MOST_TAGS:
        raise _too_many(_MOST_TAGS, "tags")
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
    place, chunks = 12, 0
    while place + 8 <= len(data):
        place += 8 + (struct.unpack_from("<I", data, place + 4)[0] + 1 & ~1)
        chunks += 1
        if chunks > MOST_CHUNKS:
            raise _too_many(MOST_CHUNKS, "chunks")
    return Structure("WEBP", width, height, data)


def _avif(data: bytes) -> Structure:
    return Structure("AVIF", *_largest_extent(data), data)


def _heif(data: bytes) -> Structure:
    _check_items(data)
    return Structure("HEIF", *_largest_extent(data), data)


def _largest_extent(data: bytes) -> tuple[int, int]:
    """Width and height of the item with the most pixels, by the `ispe` boxes of the file's start.

    A grid of tiles has one of its own beside its tiles'.
    """
    sides = [
        (int.from_bytes(found[1], "big"), int.from_bytes(found[2], "big"))
        for found in _EXTENT.finditer(data, 0, 1024 * 1024)
    ]
    return max(sides, key=lambda side: side[0] * side[1], default=(0, 0))


_EXTENT = re.compile(rb"\x00\x00\x00\x14ispe\x00{4}(.{4})(.{4})", re.DOTALL)
# Coded pictures; what else an item may be is derived from others, or is no picture.
_CODED = (b"hvc1", b"hev1", b"av01", b"jpeg")
_NEVER = {b"iovl": "an overlay", b"mski": "a mask"}


def _check_items(data: bytes) -> None:
    """Refuse a HEIC whose picture is made of anything but tiles of coded pictures.

    A decoder makes a derived item anew wherever another refers to it, so that overlays of overlays
    take ten times as long for each further level: 4 KB took a minute. And masks overflowed the
    heap in libheif before 1.20. Phones write coded items, and grids of them.
    """
    kinds: dict[int, bytes] = {}
    made_of: dict[int, tuple[int, ...]] = {}
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        for inner, inner_start, inner_end in _boxes(data, start + 4, end):
            if inner == b"iinf":
                kinds |= _item_kinds(data, inner_start, inner_end)
            elif inner == b"iref":
                made_of |= _derivations(data, inner_start, inner_end)
    for item, kind in kinds.items():
        if kind in _NEVER:
            raise _unsupported(_NEVER[kind])
        if kind not in (b"grid", b"iden"):
            continue
        of = {kinds.get(other, b"") for other in made_of.get(item, ())}
        # A turned or cropped grid is an `iden` of it: that one level more.
        allowed = {*_CODED, b"grid"} if kind == b"iden" else set(_CODED)
        if not of <= allowed:
            raise _unsupported("a grid of derived pictures")


def _unsupported(what: str) -> ImageError:
    return ImageError(
        "image.unsupported_format", f"the HEIC has {what}; coded pictures and grids are read"
    )


def _boxes(data: bytes, place: int, end: int) -> "list[tuple[bytes, int, int]]":
    """The boxes in a part of a file: kind, and where their content begins and ends."""
    found = []
    while place + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, place)
        start = place + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = place + size if size else end
        if stop < start or stop > end:
            break  # it is cut off, which its decoder will say
        found.append((kind, start, stop))
        if len(found) > _MOST_BOXES:
            raise _too_many(_MOST_BOXES, "boxes")
        place = stop
    return found


def _item_kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    first = start + (6 if data[start] == 0 else 8)
    kinds = {}
    for kind, place, _ in _boxes(data, first, end):
        if kind == b"infe" and data[place] in (2, 3):
            item, _, name = struct.unpack_from(
                ">HH4s" if data[place] == 2 else ">IH4s", data, place + 4
            )
            kinds[item] = name
    if len(kinds) > _MOST_ITEMS:
        raise _too_many(_MOST_ITEMS, "items")
    return kinds


def _derivations(data: bytes, start: int, end: int) -> dict[int, tuple[int, ...]]:
    wide = "I" if data[start] else "H"
    found: dict[int, tuple[int, ...]] = {}
    for kind, place, _ in _boxes(data, start + 4, end):
        if kind != b"dimg":
            continue
        item, count = struct.unpack_from(f">{wide}H", data, place)
        after = place + struct.calcsize(f">{wide}H")
        found[item] = found.get(item, ()) + struct.unpack_from(f">{count}{wide}", data, after)
        if sum(map(len, found.values())) > 100 * _MOST_ITEMS:
            raise _too_many(100 * _MOST_ITEMS, "references between its items")
    return found


_WALKS = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "TIFF": _tiff,
    "BMP": _bmp,
    "WEBP": _webp,
    "AVIF": _avif,
    "HEIF": _heif,
}
