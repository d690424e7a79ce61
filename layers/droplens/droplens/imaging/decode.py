"""Decoding of one image with Pillow, in the caller's process.

Pillow's global settings are not changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from math import isfinite
from typing import Any, cast

from PIL import Image, UnidentifiedImageError

from droplens.imaging.exif import TRANSPOSITIONS, UPRIGHT, orientation_of
from droplens.imaging.limits import (
    HEAVY_FORMATS,
    PILLOW_FORMATS,
    ImageError,
    ImageInfo,
    Limits,
    SandboxError,
    weight,
)
from droplens.imaging.preprocess import DRAFT_MARGIN
from droplens.imaging.profile import to_srgb
from droplens.imaging.structure import Structure, damaged

_LIGHT_MODES = ("1", "L", "P", "RGB")
_WHITE = (255, 255, 255)
# EXIF orientations 5 to 8 exchange width and height.
_SIDEWAYS = (5, 6, 7, 8)
_JPEG_END = b"\xff\xd9"
_FILLER = bytes(range(1, 250)) * 4
_TO_8_BIT = [(value * 255 + 32767) // 65535 for value in range(65536)]


def check_size(width: int, height: int, limits: Limits, *, heavy: bool) -> None:
    """Raises ImageError where an image of `width` x `height` pixels is beyond `limits`."""
    if weight(width, height, heavy=heavy) > limits.max_pixels:
        most = limits.max_pixels // weight(1, 1, heavy=heavy)
        raise ImageError(
            "image.too_many_pixels",
            f"the picture is {width:,}x{height:,}, more than the limit of {most:,} pixels",
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise ImageError(
            "image.too_narrow",
            f"the picture is {width:,}x{height:,}: one side is more than {limits.max_aspect:g} "
            "times the other",
        )


def opened(structure: Structure, limits: Limits) -> Image.Image:
    """The image with only its header read and checked. Raises ImageError."""
    try:
        with decoder_errors_as_image_errors():
            image = _identified(structure)
    except UnidentifiedImageError:
        raise damaged(structure.format) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            "image.too_many_pixels",
            f"the picture has more pixels than the limit of {limits.max_pixels:,}",
        ) from None
    heavy = (
        image.format in HEAVY_FORMATS
        or image.mode not in _LIGHT_MODES
        or "transparency" in image.info
    )
    check_size(*image.size, limits, heavy=heavy)
    return image


def decoded(
    image: Image.Image, structure: Structure, shorter_side: int | None
) -> tuple[Image.Image, ImageInfo]:
    """The first frame of an opened image, upright and RGB."""
    width, height = image.size
    _shrink_while_decoding(image, shorter_side)
    orientation = loaded(image, structure)
    if image.format in ("JPEG", "MPO"):
        check_not_cut(image, structure, shorter_side)
    turn = TRANSPOSITIONS.get(orientation)
    upright = _to_rgb(image if turn is None else image.transpose(turn))
    upright.info = {}
    if image.format == "TIFF":  # Pillow turns a TIFF itself, and its header's sides with it
        width, height = upright.size
    elif orientation in _SIDEWAYS:
        width, height = height, width
    return upright, ImageInfo(_format_name(image), width, height)


def loaded(image: Image.Image, structure: Structure) -> int:
    """Decode the first frame; returns the EXIF orientation (1: upright) still to be applied."""
    image.load()
    if image.format == "TIFF":
        return UPRIGHT
    if structure.orientation is not None:
        return structure.orientation
    exif, xmp = (image.info.get(name) for name in ("exif", "xmp"))
    return orientation_of(
        exif if isinstance(exif, bytes) else b"", xmp if isinstance(xmp, bytes) else b""
    )


def check_not_cut(image: Image.Image, structure: Structure, shorter_side: int | None) -> None:
    """Raises ImageError for a JPEG whose data ends before its last row.

    libjpeg fills the missing part with middle grey and only warns, and Pillow drops the warning.
    So where the last row has that grey, the file is decoded again with filler bytes before its end
    marker: they change nothing behind complete data, and are decoded in place of missing data.
    """
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    if any(low < 127 or high > 128 for low, high in _levels(last_row)):
        return
    data = structure.data
    end = data.rfind(_JPEG_END)
    filled = Image.open(BytesIO(data[:end] + _FILLER + data[end:]), formats=("JPEG",))
    with filled:
        _shrink_while_decoding(filled, shorter_side)
        filled.load()
        if filled.tobytes() != image.tobytes():
            raise ImageError("image.unreadable", "the picture is damaged: its data ends early")


@contextmanager
def decoder_errors_as_image_errors() -> Iterator[None]:
    """Raise any exception of a decoder as an ImageError: the image is damaged."""
    try:
        yield
    except (ImageError, SandboxError, UnidentifiedImageError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except MemoryError as error:
        raise ImageError(
            "image.unreadable", "the picture takes more memory than there is for one"
        ) from error
    except Exception as error:
        detail = str(error) or type(error).__name__
        raise ImageError("image.unreadable", f"the picture is damaged: {detail}") from error


def _identified(structure: Structure) -> Image.Image:
    file = BytesIO(structure.data)
    if structure.format != "HEIF":
        return Image.open(file, formats=(structure.format,))
    if structure.data[8:12] in (b"mif1", b"msf1"):  # it may be an AVIF, which Pillow reads itself
        try:
            return Image.open(file, formats=("AVIF",))
        except UnidentifiedImageError:
            pass
    register_heif()
    return Image.open(BytesIO(structure.data), formats=("HEIF",))


@cache
def register_heif() -> None:
    """Register HEIC, which phones write, with Pillow; only here, since the import is slow.

    Raises ImageError where pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            "image.unsupported_format",
            "a HEIC picture, which is read on Python 3.12 and later only; the formats read are "
            + ", ".join(PILLOW_FORMATS),
        ) from None
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _shrink_while_decoding(image: Image.Image, shorter_side: int | None) -> None:
    if shorter_side is not None:
        image.draft(None, (shorter_side * DRAFT_MARGIN,) * 2)


def _levels(image: Image.Image) -> list[tuple[int, int]]:
    """The lowest and the highest level of each channel."""
    found = cast(Any, image.getextrema())
    return [found] if len(image.getbands()) == 1 else list(found)


def _to_rgb(image: Image.Image) -> Image.Image:
    """`image` in sRGB by its colour profile: transparency on white, 16 bits scaled to 8."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = _scale_to_8_bit(image)
    elif image.has_transparency_data:
        image = _on_white(image if image.mode == "RGBA" else image.convert("RGBA"))
    if profile and (converted := to_srgb(image, profile)):
        return converted
    if image.mode == "RGB":
        return image  # no copy: it may have 300 MB
    try:
        return image.convert("RGB")
    except ValueError:
        raise ImageError(
            "image.unsupported_format",
            f"{_format_name(image)} pixels of the kind {image.mode} cannot be read",
        ) from None


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, _WHITE)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _scale_to_8_bit(image: Image.Image) -> Image.Image:
    """Grey levels of 16 bits, 32 bits or floats, scaled to 8 bits.

    Pillow's own conversion clips at 255, which makes such images white.
    """
    if image.mode.startswith("I;16"):
        whole = image.convert("I")
        grey = whole.point(_TO_8_BIT, "L")
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            opaque = [0 if value == transparent else 255 for value in range(65536)]
            canvas = Image.new("L", image.size, 255)
            canvas.paste(grey, mask=whole.point(opaque, "L"))
            return canvas
        return grey
    # The file does not define white: take the smallest usual range that contains the values.
    levels = image.convert("F")
    lowest, highest = cast(tuple[float, float], levels.getextrema())
    if not (isfinite(lowest) and isfinite(highest)):
        raise ImageError("image.unreadable", "the picture has levels that are not numbers")
    black = min(0.0, lowest)
    whites = (255.0, 65535.0) if image.mode == "I" else (1.0, 255.0, 65535.0)
    white = next((level for level in whites if highest <= level), highest)
    scale = 255 / (white - black)
    return levels.point(lambda level: level * scale + (0.5 - black * scale)).convert("L")


def _format_name(image: Image.Image) -> str:
    """Pillow's name of the format; a JPEG with further images behind the first (MPO) is a JPEG."""
    return "JPEG" if image.format == "MPO" else str(image.format)
