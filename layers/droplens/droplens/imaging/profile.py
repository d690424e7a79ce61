"""Conversion of images with an embedded ICC colour profile to sRGB.

Phones store Display P3. Read as sRGB such images look pale, unlike images of the same objects in a
dataset from the web.
"""

import struct
from io import BytesIO

from PIL import Image

# The ICC colour space signature that fits a Pillow mode.
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_HEADER = struct.Struct(">I4x4x4s4s4s")
_TAG = struct.Struct(">4sII")
_TAGS_AT = 128
_MAX_TAGS = 64
_MAX_BYTES = 64 * 1024
_CLASSES = (b"mntr", b"scnr", b"spac")


def is_simple(profile: bytes) -> bool:
    """Whether a profile has matrices and curves only, as those of displays and cameras.

    Profiles with multi-dimensional lookup tables, as of printers, are converted in the sandbox.
    Source: ICC.1:2022, 7.2 and 7.3.
    """
    try:
        size, kind, space, connection = _HEADER.unpack_from(profile)
        (count,) = struct.unpack_from(">I", profile, _TAGS_AT)
        if (
            size > len(profile)
            or len(profile) > _MAX_BYTES
            or kind not in _CLASSES
            or space not in (b"RGB ", b"GRAY")
            or connection != b"XYZ "
            or count > _MAX_TAGS
        ):
            return False
        for number in range(count):
            name, start, length = _TAG.unpack_from(profile, _TAGS_AT + 4 + number * _TAG.size)
            if name[:3] in (b"A2B", b"B2A", b"D2B", b"B2D") or start + length > len(profile):
                return False
    except struct.error:
        return False
    return True


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """`image` converted from `profile` to sRGB; None where it is sRGB already or cannot be.

    A damaged profile is ignored: lcms, or its binding, may raise any exception.
    """
    from PIL import ImageCms  # imported here: most images need no lcms

    if image.mode not in _SPACES:
        return None
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space, name = source.profile.xcolor_space, ImageCms.getProfileName(source)
        if space != _SPACES[image.mode] or "sRGB" in name:
            return None
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001
        return None
