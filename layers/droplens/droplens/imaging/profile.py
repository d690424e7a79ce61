"""Colour profiles: which are simple, and a picture in sRGB by its own.

Phones store wide colours (Display P3): taken for sRGB they look pale, and unlike the pictures of
the same things that a dataset from the web holds.
"""

import struct
from io import BytesIO

from PIL import Image

# The kind of colour profile that fits a picture's mode, in ICC's four letters.
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_HEADER = struct.Struct(">I4x4x4s4s4s")
_TAG = struct.Struct(">4sII")
_TAGS_AT = 128
_MOST_TAGS = 64
_MOST_BYTES = 64 * 1024
_CLASSES = (b"mntr", b"scnr", b"spac")


def is_simple(profile: bytes) -> bool:
    """Whether it holds matrices and curves only, as a display's or a camera's does.

    Tables of several dimensions, which printers need, are for the sandbox.
    Source: ICC.1:2022, 7.2 and 7.3.
    """
    try:
        size, kind, space, connection = _HEADER.unpack_from(profile)
        (count,) = struct.unpack_from(">I", profile, _TAGS_AT)
        if (
            size > len(profile)
            or len(profile) > _MOST_BYTES
            or kind not in _CLASSES
            or space not in (b"RGB ", b"GRAY")
            or connection != b"XYZ "
            or count > _MOST_TAGS
        ):
            return False
        for number in range(count):
            name, start, length = _TAG.unpack_from(profile, _TAGS_AT + 4 + number * _TAG.size)
            if name[:3] in (b"A2B", b"B2A", b"D2B", b"B2D") or start + length > len(profile):
                return False
    except struct.error:
        return False
    return True


def to_srgb(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """`picture` in sRGB by its colour profile; None where that changes nothing or cannot be done.

    A damaged profile around a sound picture is as none: lcms, or its binding, may raise anything.
    """
    from PIL import ImageCms  # most pictures need not wait for lcms

    if picture.mode not in _SPACES:
        return None
    try:
        theirs = ImageCms.ImageCmsProfile(BytesIO(profile))
        space, name = theirs.profile.xcolor_space, ImageCms.getProfileName(theirs)
        if space != _SPACES[picture.mode] or "sRGB" in name:
            return None
        ours = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, theirs, ours, outputMode="RGB")
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001
        return None
