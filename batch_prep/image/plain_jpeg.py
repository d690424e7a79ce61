"""A fast decoder for upright baseline JPEGs, which most photographs of a dataset are.

It declines every other or damaged file, which droplens.imaging.prepare then decodes or refuses.
Both use libjpeg-turbo and return the same pixels.
"""

import struct

import simplejpeg
from PIL import Image

from droplens.imaging.exif import UPRIGHT, orientation_of
from droplens.imaging.structure import MAX_SEGMENTS

_START = b"\xff\xd8\xff"
_BASELINE, _SCAN, _APP0, _APP1 = 0xC0, 0xDA, 0xE0, 0xE1
# Tables, restart intervals and comments: they do not change the meaning of the pixels.
_SKIPPED = frozenset({0xC4, 0xDB, 0xDD, 0xFE, _APP0})
_EXIF = b"Exif\0\0"
_SEGMENT = struct.Struct(">xBH")
_FRAME = struct.Struct(">BHHB")
_COMPONENTS = 3


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a JPEG that `decode` takes, or None for another file.

    It takes 8 bits, three components, a single scan, upright, without a colour profile and without
    another image after it.
    """
    if not data.startswith(_START):
        return None
    found = None
    has_exif = False
    offset = 2
    for _ in range(MAX_SEGMENTS):
        start = offset + 4
        if start + _FRAME.size > len(data):
            return None
        kind, length = _SEGMENT.unpack_from(data, offset)
        if kind == _SCAN:
            return found if data[start : start + 1] == bytes([_COMPONENTS]) else None
        if kind == _BASELINE and found is None and length >= 2 + _FRAME.size:
            bits, height, width, components = _FRAME.unpack_from(data, start)
            if (bits, components) != (8, _COMPONENTS):
                return None
            found = width, height
        elif kind == _APP1 and not has_exif:
            has_exif = True
            if not _is_upright(data[start : offset + 2 + length]):
                return None
        elif kind not in _SKIPPED:
            return None
        offset += 2 + length
    return None


def decode(data: bytes) -> Image.Image | None:
    """The RGB pixels of a JPEG that has a `size_of`; None where libjpeg reports any problem."""
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGBX", fastdct=False, fastupsample=False)
    except ValueError:
        return None
    height, width, _ = pixels.shape
    image = Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)
    image._mode = "RGB"  # Pillow keeps RGB in four bytes a pixel, like RGBX
    return image


def _is_upright(segment: bytes) -> bool:
    return segment.startswith(_EXIF) and orientation_of(segment) == UPRIGHT
