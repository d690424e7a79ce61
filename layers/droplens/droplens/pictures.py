"""Pictures from strangers: hostile bytes in, an upright RGB picture within limits out.

Packing, measuring and answering all come through here, so that a model is asked with the very
pixels that it was trained on. Pillow's own global settings are neither needed nor changed.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from math import isfinite
from typing import Any, Self, cast

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag

CODES = frozenset(
    {
        "image.empty",
        "image.unreadable",
        "image.unsupported_format",
        "image.too_large",
        "image.too_many_pixels",
        "image.too_narrow",
    }
)

_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
FORMATS = (*_PILLOW_FORMATS, "HEIF")

# HEIC and its kin. "mif1" may also be an AVIF, which Pillow reads itself.
_HEIF_START = re.compile(rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)

# What a file that Pillow did not recognise is, by its first bytes. A picture of another format is
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
    (re.compile(rb"\xff\xd8\xff"), "a damaged JPEG"),
    (re.compile(rb"\x89PNG"), "a damaged PNG"),
    (re.compile(rb"GIF8"), "a damaged GIF"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "a damaged WebP"),
    (re.compile(rb"II[*+]\x00|MM\x00[*+]"), "a damaged TIFF"),
    (re.compile(rb"BM"), "a damaged BMP"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "a damaged AVIF"),
    (_HEIF_START, "a damaged HEIC"),
    (re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"\x1f\x8b"), "gzip-compressed data"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video"),
)

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
# About 3 s of a core. Up to the usual number of scans, the other limits are enough.
_USUAL_SCANS = 20
# What begins a scan of one component: marker, length, components, and how they are coded.
_SCAN_BYTES = 10
_MAX_SCANNED_PIXELS = 2_000_000_000
_FILLER = bytes(range(1, 250)) * 4

_WHITE = (255, 255, 255)
# EXIF orientations 5 to 8 lay the picture on its side.
_SIDEWAYS = (5, 6, 7, 8)
# A picture shrunk while it is decoded keeps this many times the wanted size for the real resize.
_DRAFT_MARGIN = 2
# The kind of colour profile that fits a picture's mode, in ICC's four letters.
_PROFILE_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_TO_8_BIT = [(value * 255 + 32767) // 65535 for value in range(65536)]


class PictureError(Exception):
    """The picture cannot be used. code: one of CODES; message: a sentence for its owner."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused before a pixel of it is decoded.

    max_bytes: size of the encoded file.
    max_pixels: width x height, read from the header; half of it for a WebP or AVIF, which takes
        twice the memory. 100 million take up to 1.3 GB while they are decoded (measured). Pillow's
        own guard stands above it: 178,956,970 pixels are refused whatever is set here.
    max_aspect: longer by shorter side. A 2000x3 strip becomes 170,667x256 once it is resized.
    """

    max_bytes: int = 25 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_aspect: float = 20


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """The picture as it came. format: Pillow's name of it; width, height: pixels, upright."""

    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes what a model is trained on and asked with.

    shorter_side: pixels of the shorter side after the resize; the longer one follows.
    crop: side of the square cut from the middle after the resize; None keeps the whole picture.
    quality: of the JPEG, 1 to 95, with 4:2:0 chroma.
    """

    shorter_side: int
    crop: int | None = None
    quality: int = 95

    def __post_init__(self) -> None:
        if not 1 <= self.shorter_side <= 4096:
            raise ValueError(f"shorter_side is {self.shorter_side}, expected 1 to 4096 pixels")
        if self.crop is not None and not 1 <= self.crop <= self.shorter_side:
            raise ValueError(f"crop is {self.crop}, expected 1 to {self.shorter_side} pixels")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality is {self.quality}, expected 1 to 95")

    def to_dict(self) -> dict[str, int | None]:
        """As dataset.json and the model card keep it."""
        return {"shorter_side": self.shorter_side, "crop": self.crop, "quality": self.quality}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """What `to_dict` gave."""
        crop = stored["crop"]
        return cls(
            shorter_side=int(stored["shorter_side"]),
            crop=None if crop is None else int(crop),
            quality=int(stored["quality"]),
        )


def decode(
    data: bytes, limits: Limits = Limits(), shorter_side: int | None = None
) -> tuple[Image.Image, PictureInfo]:
    """The first frame of `data` as an upright RGB picture, transparency on white.

    shorter_side: pixels that the caller will shrink the shorter side to. It lets a large JPEG be
        shrunk while it is decoded, to no less than twice that size.

    Raises PictureError for anything that is not a whole picture within `limits`.
    """
    with _open(data, limits) as picture:
        return _decode(picture, data, shorter_side)


def prepare(
    data: bytes,
    preprocessing: Preprocessing,
    limits: Limits = Limits(),
    room: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> tuple[bytes, PictureInfo]:
    """`data` as the JPEG that a record stores and an endpoint is asked with.

    The shorter side is brought to exactly `preprocessing.shorter_side` by Lanczos, up or down. An
    upright baseline JPEG that has that size already passes through byte for byte, once it has been
    decoded whole, so that what was prepared once is not encoded a second time.

    room: given the number of the picture's pixels, as `Limits` counts them, lets it in to be
        decoded once there is room.

    Raises PictureError as `decode` does.
    """
    jpeg, info, _ = prepare_with(data, preprocessing, limits, _lanczos, room)
    return jpeg, info


def prepare_with(
    data: bytes,
    preprocessing: Preprocessing,
    limits: Limits,
    resize: Callable[[Image.Image, tuple[int, int]], Image.Image],
    room: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> tuple[bytes, PictureInfo, Image.Image]:
    """As `prepare`, resizing by `resize`; third come the pixels before they are encoded, RGB or L.

    resize: an RGB picture to (width, height) pixels, called only where that is a change.
    """
    with _open(data, limits) as picture, room(_weight(picture)):
        try:
            jpeg, info, pixels = _prepare(picture, data, preprocessing, resize)
            return jpeg, info, pixels.copy() if pixels is picture else pixels
        finally:
            picture.close()  # its pixels are gone before the next one is let in


def _prepare(
    picture: Image.Image,
    data: bytes,
    preprocessing: Preprocessing,
    resize: Callable[[Image.Image, tuple[int, int]], Image.Image],
) -> tuple[bytes, PictureInfo, Image.Image]:
    if _is_prepared(picture, preprocessing) and _load(picture) == 1:
        _check_not_cut(picture, data, None)
        return data, PictureInfo("JPEG", *picture.size), picture
    decoded, info = _decode(picture, data, preprocessing.shorter_side)
    jpeg, prepared = encode(decoded, preprocessing, resize)
    return jpeg, info, prepared


def is_only_resized(size: tuple[int, int], preprocessing: Preprocessing, limits: Limits) -> bool:
    """Whether `prepare` decodes all of a JPEG of (width, height) pixels, and then resizes it.

    It is within the limits, is not prepared already, and is not shrunk while it is decoded.
    """
    shorter, longer = sorted(size)
    return (
        shorter * longer <= limits.max_pixels
        and longer <= limits.max_aspect * shorter
        and shorter != preprocessing.shorter_side
        and shorter < 2 * _DRAFT_MARGIN * preprocessing.shorter_side
    )


def encode(
    decoded: Image.Image,
    preprocessing: Preprocessing,
    resize: Callable[[Image.Image, tuple[int, int]], Image.Image],
) -> tuple[bytes, Image.Image]:
    """An upright RGB picture as the JPEG of `prepare_with`, and the pixels that it was made of."""
    size = _resized(decoded.size, preprocessing.shorter_side)
    resized = decoded if decoded.size == size else resize(decoded, size)
    prepared = _crop(resized, preprocessing.crop)
    jpeg = BytesIO()
    prepared.save(jpeg, "JPEG", quality=preprocessing.quality, subsampling="4:2:0")
    return jpeg.getvalue(), prepared


def _open(data: bytes, limits: Limits) -> Image.Image:
    """The picture with only its header read, once what that says passes the limits."""
    if not data:
        raise PictureError("image.empty", "the file is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise PictureError(
            "image.too_large",
            f"the file has {len(data):,} bytes, the limit is {limits.max_bytes:,}",
        )
    try:
        with _trouble_is_the_pictures():
            picture = _identified(data)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(
            "image.too_many_pixels",
            f"the picture has more pixels than the limit of {limits.max_pixels:,}",
        ) from None
    width, height = picture.size
    if _weight(picture) > limits.max_pixels:
        most = limits.max_pixels * width * height // _weight(picture)
        raise PictureError(
            "image.too_many_pixels",
            f"the picture is {width:,}x{height:,}, more than the limit of {most:,} pixels",
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise PictureError(
            "image.too_narrow",
            f"the picture is {width:,}x{height:,}: one side is more than {limits.max_aspect:g} "
            "times the other",
        )
    _check_passes(data, width, height)
    return picture


def _weight(picture: Image.Image) -> int:
    """Its pixels, in the memory that those of most formats take.

    The decoders of WebP and AVIF keep canvases of their own: 20 and 16 bytes for each pixel, where
    no other format was seen to take more than 13.
    """
    return picture.width * picture.height * (2 if picture.format in ("WEBP", "AVIF") else 1)


def _identified(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=_PILLOW_FORMATS)
    except UnidentifiedImageError:
        if not _HEIF_START.match(data):
            raise
    _register_heif()
    return Image.open(BytesIO(data), formats=("HEIF",))


@cache
def _register_heif() -> None:
    """Let Pillow read HEIC: phones send it, and other pictures need not wait for the import."""
    import pi_heif

    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _decode(
    picture: Image.Image, data: bytes, shorter_side: int | None
) -> tuple[Image.Image, PictureInfo]:
    width, height = picture.size
    _shrink_while_decoding(picture, shorter_side)
    orientation = _load(picture)
    if picture.format in ("JPEG", "MPO"):
        _check_not_cut(picture, data, shorter_side)
    upright = _to_rgb(picture if orientation == 1 else _turn(picture))
    upright.info = {}
    if picture.format == "TIFF":  # Pillow turns a TIFF itself, and its header's sides with it
        width, height = upright.size
    elif orientation in _SIDEWAYS:
        width, height = height, width
    return upright, PictureInfo(_format_name(picture), width, height)


def _check_passes(data: bytes, width: int, height: int) -> None:
    """Refuse a JPEG that paints its picture over and over.

    A progressive JPEG comes in some ten scans, each over the whole picture; one of half a megabyte
    may have thousands and take hours.
    """
    if not data.startswith(_JPEG_START):
        return
    if len(data) // _SCAN_BYTES * width * height <= _MAX_SCANNED_PIXELS:
        return  # there is no room for so many, and to count them takes time
    scans = data.count(_JPEG_SCAN)
    if scans > _USUAL_SCANS and scans * width * height > _MAX_SCANNED_PIXELS:
        raise PictureError(
            "image.too_many_pixels",
            f"the picture of {width:,}x{height:,} pixels is painted {scans:,} times over",
        )


def _load(picture: Image.Image) -> int:
    """Decode the first frame; the EXIF orientation (1: upright) that is still to be applied."""
    with _trouble_is_the_pictures():
        picture.load()
    try:
        orientation = picture.getexif().get(ExifTag.Orientation, 1)
    except Exception:  # noqa: BLE001  damaged EXIF around a sound picture: it stays as it lies
        return 1
    return orientation if orientation in range(1, 9) else 1


def _shrink_while_decoding(picture: Image.Image, shorter_side: int | None) -> None:
    if shorter_side is not None:
        picture.draft(None, (shorter_side * _DRAFT_MARGIN,) * 2)


def _check_not_cut(picture: Image.Image, data: bytes, shorter_side: int | None) -> None:
    """Refuse a JPEG whose picture stops before its end marker.

    libjpeg paints the missing part in its middle grey and only warns, and Pillow does not pass the
    warning on. So where the last row has that grey, the file is decoded again with filler before
    its end marker: bytes behind a whole picture change nothing, in place of a missing part they
    are taken for it.
    """
    last_row = picture.crop((0, picture.height - 1, picture.width, picture.height))
    if any(low < 127 or high > 128 for low, high in _levels(last_row)):
        return
    end = data.rfind(_JPEG_END)
    filled = Image.open(BytesIO(data[:end] + _FILLER + data[end:]), formats=("JPEG",))
    with filled, _trouble_is_the_pictures():
        _shrink_while_decoding(filled, shorter_side)
        filled.load()
        if filled.tobytes() != picture.tobytes():
            raise PictureError("image.unreadable", "the picture is damaged: its data ends early")


def _levels(picture: Image.Image) -> list[tuple[int, int]]:
    """The lowest and the highest level of each band."""
    found = cast(Any, picture.getextrema())
    return [found] if len(picture.getbands()) == 1 else list(found)


def _turn(picture: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(picture)
    turned.info = picture.info
    return turned


def _to_rgb(picture: Image.Image) -> Image.Image:
    """`picture` in sRGB: transparency on white, 16 bits scaled to 8, by its own colour profile."""
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _scale_to_8_bit(picture)
    elif picture.has_transparency_data:
        picture = _on_white(picture if picture.mode == "RGBA" else picture.convert("RGBA"))
    if profile and (converted := _to_srgb(picture, profile)):
        return converted
    if picture.mode == "RGB":
        return picture  # no copy of what may be 300 MB
    try:
        return picture.convert("RGB")
    except ValueError:
        raise PictureError(
            "image.unsupported_format",
            f"{_format_name(picture)} pixels of the kind {picture.mode} cannot be read",
        ) from None


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """`picture` in sRGB by its colour profile; None where that changes nothing or cannot be done.

    Phones store wide colours (Display P3): taken for sRGB they look pale, and unlike the pictures
    of the same things that a dataset from the web holds.
    """
    from PIL import ImageCms

    if picture.mode not in _PROFILE_SPACES:
        return None
    try:
        theirs = ImageCms.ImageCmsProfile(BytesIO(profile))
        space, name = theirs.profile.xcolor_space, ImageCms.getProfileName(theirs)
        if space != _PROFILE_SPACES[picture.mode] or "sRGB" in name:
            return None
        ours = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, theirs, ours, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None  # a damaged profile around a sound picture, as with EXIF


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
        raise PictureError("image.unreadable", "the picture has levels that are not numbers")
    black = min(0.0, lowest)
    whites = (255.0, 65535.0) if picture.mode == "I" else (1.0, 255.0, 65535.0)
    white = next((level for level in whites if highest <= level), highest)
    scale = 255 / (white - black)
    return levels.point(lambda level: level * scale + (0.5 - black * scale)).convert("L")


def _resized(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    shorter = min(size)
    width, height = (max(shorter_side, round(side * shorter_side / shorter)) for side in size)
    return width, height


def _lanczos(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize(size, Image.Resampling.LANCZOS)


def _crop(picture: Image.Image, side: int | None) -> Image.Image:
    if side is None:
        return picture
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _is_prepared(picture: Image.Image, preprocessing: Preprocessing) -> bool:
    """Whether the header is one of those that `prepare` writes."""
    return (
        picture.format == "JPEG"
        and picture.mode in ("RGB", "L")
        and not picture.info.keys() & {"progressive", "icc_profile"}
        and min(picture.size) == preprocessing.shorter_side
        and (preprocessing.crop is None or picture.size == (preprocessing.crop,) * 2)
    )


@contextmanager
def _trouble_is_the_pictures() -> Iterator[None]:
    """Pillow's parsers raise whatever they trip over: it is the picture that is damaged."""
    try:
        yield
    except (PictureError, UnidentifiedImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except Exception as error:
        detail = str(error) or type(error).__name__
        raise PictureError("image.unreadable", f"the picture is damaged: {detail}") from error


def _format_name(picture: Image.Image) -> str:
    """Pillow's name; a JPEG with further pictures behind the first (MPO) is a JPEG all the same."""
    return "JPEG" if picture.format == "MPO" else str(picture.format)


def _unidentified(data: bytes) -> PictureError:
    start = data[:1024]
    for pattern, what in _OTHER_PICTURES:
        if pattern.match(start):
            return PictureError(
                "image.unsupported_format", f"{what}; the formats read are {', '.join(FORMATS)}"
            )
    for pattern, what in _NO_PICTURES:
        if pattern.match(start):
            return PictureError("image.unreadable", f"{what}, not a readable picture")
    return PictureError("image.unreadable", "the bytes are not those of a picture")
