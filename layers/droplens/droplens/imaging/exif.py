"""The orientation of an image, from its EXIF or XMP.

Pillow reads every tag of a directory before it returns one, copies the data that each points at,
and serialises all of it again to rotate an image: a file of 200 KB then takes gigabytes, and a tag
of a wrong type raises TypeError or struct.error. Here one directory is scanned without copies.

Source: CIPA DC-008-2019 (Exif 2.32), 4.6.2 and 4.6.4 A, Orientation; TIFF 6.0, section 2.
"""

import re
import struct

from PIL import Image

UPRIGHT = 1
_HEADER = b"Exif\0\0"
_ORIENTATION = 0x0112
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ENTRY_BYTES = 12
# Cameras write about twenty.
_MAX_ENTRIES = 1000
_NUMBERS = {1: "B", 3: "H", 4: "I"}
# Without EXIF, Adobe's XMP may contain it, as an attribute or as an element.
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
_MAX_XMP = 1024 * 1024

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where neither EXIF nor XMP contains one."""
    found = _of_exif(exif)
    if found is None and (xmp_match := _XMP_ORIENTATION.search(xmp[:_MAX_XMP])):
        found = int(xmp_match[1])
    return found if found in TRANSPOSITIONS else UPRIGHT


def _of_exif(exif: bytes) -> int | None:
    tiff = memoryview(exif)
    while tiff[: len(_HEADER)] == _HEADER:
        tiff = tiff[len(_HEADER) :]
    order = _BYTE_ORDERS.get(bytes(tiff[:4]))
    if order is None:
        return None
    try:
        (position,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, position)
        found = None
        for number in range(min(entries, _MAX_ENTRIES)):
            start = position + 2 + _ENTRY_BYTES * number
            tag, kind, count = struct.unpack_from(order + "HHI", tiff, start)
            if tag == _ORIENTATION and kind in _NUMBERS and count == 1:
                (found,) = struct.unpack_from(order + _NUMBERS[kind], tiff, start + 8)
    except struct.error:
        return None  # damaged EXIF does not make the image unusable: no rotation
    return found
