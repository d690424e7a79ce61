"""The one thing that EXIF is read for: how the picture lies.

Pillow reads every tag of a directory before it tells one, copies what each points at, and writes
all of it anew to turn a picture: a file of 200 KB then takes gigabytes, and a tag of a wrong type
raises from there (TypeError, struct.error). Here one directory is looked through and nothing is
copied.

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
# Cameras write some twenty.
_MOST_ENTRIES = 1000
_NUMBERS = {1: "B", 3: "H", 4: "I"}
# Without EXIF, Adobe's XMP may tell it, as an attribute or as an element.
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
_MOST_XMP = 1024 * 1024

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
    """1 to 8 as EXIF numbers them; 1, upright, where neither tells one."""
    found = _of_exif(exif)
    if found is None and (told := _XMP_ORIENTATION.search(xmp[:_MOST_XMP])):
        found = int(told[1])
    return found if found in TRANSPOSITIONS else UPRIGHT


def _of_exif(exif: bytes) -> int | None:
    tiff = memoryview(exif)
    while tiff[: len(_HEADER)] == _HEADER:
        tiff = tiff[len(_HEADER) :]
    order = _BYTE_ORDERS.get(bytes(tiff[:4]))
    if order is None:
        return None
    try:
        (place,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, place)
        found = None
        for number in range(min(entries, _MOST_ENTRIES)):
            start = place + 2 + _ENTRY_BYTES * number
            tag, kind, count = struct.unpack_from(order + "HHI", tiff, start)
            if tag == _ORIENTATION and kind in _NUMBERS and count == 1:
                (found,) = struct.unpack_from(order + _NUMBERS[kind], tiff, start + 8)
    except struct.error:
        return None  # damaged EXIF around a sound picture: it stays as it lies
    return found
