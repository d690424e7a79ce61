"""Pillow at work on one picture, in whatever process it is.

Pillow's own global settings are neither needed nor changed here.
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
# EXIF orientations 5 to 8 lay the picture on its side.
_SIDEWAYS = (5, 6, 7, 8)
_JPEG_END = b"\xff\xd9"
_FILLER = bytes(range(1, 250)) * 4
_TO_8_BIT = [(value * 255 + 32767) // 65535 for value in range(65536)]


def check_size(width: int, height: int, limits: Limits, *, heavy: bool) -> None:
    """Raises ImageError for a picture of so many pixels that is not within `limits`."""
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
    """The picture with only its header read, once what that says passes the limits."""
    try:
        with decoder_errors_as_image_errors():
            picture = _identified(structure)
    except UnidentifiedImageError:
        raise damaged(structure.format) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            "image.too_many_pixels",
            f"the picture has more pixels than the limit of {limits.max_pixels:,}",
        ) from None
    heavy = (
        picture.format in HEAVY_FORMATS
        or picture.mode not in _LIGHT_MODES
        or "transparency" in picture.info
    )
    check_size(*picture.size, limits, heavy=heavy)
    return picture


def decoded(
    picture: Image.Image, structure: Structure, shorter_side: int | None
) -> tuple[Image.Image, ImageInfo]:
    """The first frame of an opened picture, upright and RGB."""
    width, height = picture.size
    _shrink_while_decoding(picture, shorter_side)
    orientation = loaded(picture, structure)
    if picture.format in ("JPEG", "MPO"):
        check_not_cut(picture, structure, shorter_side)
    turn = TRANSPOSITIONS.get(orientation)
    upright = _to_rgb(picture if turn is None else picture.transpose(turn))
    upright.info = {}
    if picture.format == "TIFF":  # Pillow turns a TIFF itself, and its header's sides with it
        width, height = upright.size
    elif orientation in _SIDEWAYS:
        width, height = height, width
    return upright, ImageInfo(_format_name(picture), width, height)


def loaded(picture: Image.Image, structure: Structure) -> int:
    """Decode the first frame; the EXIF orientation (1: upright) that is still to be applied."""
    picture.load()
    if picture.format == "TIFF":
        return UPRIGHT
    if structure.orientation is not None:
        return structure.orientation
    exif, xmp = (picture.info.get(name) for name in ("exif", "xmp"))
    return orientation_of(
        exif if isinstance(exif, bytes) else b"", xmp if isinstance(xmp, bytes) else b""
    )


def check_not_cut(picture: Image.Image, structure: Structure, shorter_side: int | None) -> None:
    """Refuse a JPEG whose picture stops before its end marker.

    libjpeg paints the missing part in its middle grey and only warns, and Pillow does not pass the
    warning on. So where the last row has that grey, the file is decoded again with filler before
    its end marker: bytes behind a whole picture change nothing, in place of a missing part they
    are taken for it.
    """
    last_row = picture.crop((0, picture.height - 1, picture.width, picture.height))
    if any(low < 127 or high > 128 for low, high in _levels(last_row)):
        return
    data = structure.data
    end = data.rfind(_JPEG_END)
    filled = Image.open(BytesIO(data[:end] + _FILLER + data[end:]), formats=("JPEG",))
    with filled:
        _shrink_while_decoding(filled, shorter_side)
        filled.load()
        if filled.tobytes() != picture.tobytes():
            raise ImageError("image.unreadable", "the picture is damaged: its data ends early")


@contextmanager
def decoder_errors_as_image_errors() -> Iterator[None]:
    """Decoders raise whatever they trip over: it is the picture that is damaged."""
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
    """Let Pillow read HEIC: phones send it, and other pictures need not wait for the import."""
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


def _shrink_while_decoding(picture: Image.Image, shorter_side: int | None) -> None:
    if shorter_side is not None:
        picture.draft(None, (shorter_side * DRAFT_MARGIN,) * 2)


def _levels(picture: Image.Image) -> list[tuple[int, int]]:
    """The lowest and the highest level of each band."""
    found = cast(Any, picture.getextrema())
    return [found] if len(picture.getbands()) == 1 else list(found)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """`picture` in sRGB: transparency on white, 16 bits scaled to 8, by its own colour profile."""
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _scale_to_8_bit(picture)
    elif picture.has_transparency_data:
        picture = _on_white(picture if picture.mode == "RGBA" else picture.convert("RGBA"))
    if profile and (converted := to_srgb(picture, profile)):
        return converted
    if picture.mode == "RGB":
        return picture  # no copy of what may be 300 MB
    try:
        return picture.convert("RGB")
    except ValueError:
        raise ImageError(
            "image.unsupported_format",
            f"{_format_name(picture)} pixels of the kind {picture.mode} cannot be read",
        ) from None


def _on_white(picture: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", picture.size, _WHITE)
    canvas.paste(picture, mask=picture.getchannel("A"))
    return canvas


def _scale_to_8_bit(picture: Image.Image) -> Image.Image:
    """Grey levels of 16 bits, of 32 bits or of floats as 8 bits.

    Pillow's own conversion clips at 255 and turns such pictures white.
    """
    if picture.mode.startswith("I;16"):
        whole = picture.convert("I")
        grey = whole.point(_TO_8_BIT, "L")
        transparent = picture.info.get("transparency")
        if isinstance(transparent, int):
            opaque = [0 if value == transparent else 255 for value in range(65536)]
            canvas = Image.new("L", picture.size, 255)
            canvas.paste(grey, mask=whole.point(opaque, "L"))
            return canvas
        return grey
    # Nothing in the file says what is white: take the smallest usual range that holds the values.
    levels = picture.convert("F")
    lowest, highest = cast(tuple[float, float], levels.getextrema())
    if not (isfinite(lowest) and isfinite(highest)):
        raise ImageError("image.unreadable", "the picture has levels that are not numbers")
    black = min(0.0, lowest)
    whites = (255.0, 65535.0) if picture.mode == "I" else (1.0, 255.0, 65535.0)
    white = next((level for level in whites if highest <= level), highest)
    scale = 255 / (white - black)
    return levels.point(lambda level: level * scale + (0.5 - black * scale)).convert("L")


def _format_name(picture: Image.Image) -> str:
    """Pillow's name; a JPEG with further pictures behind the first (MPO) is a JPEG all the same."""
    return "JPEG" if picture.format == "MPO" else str(picture.format)
