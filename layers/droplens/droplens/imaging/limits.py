"""Limits that an image file must keep, with the errors for one that does not."""

from dataclasses import dataclass

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

PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
FORMATS = (*PILLOW_FORMATS, "HEIF")
# The decoders of these keep a canvas of their own: 16 to 20 bytes a pixel were measured, and at
# most 13 for every other format.
HEAVY_FORMATS = ("WEBP", "AVIF", "HEIF")


class ImageError(Exception):
    """An image that cannot be used. code: one of CODES; message: a sentence for its owner."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class SandboxError(RuntimeError):
    """The sandbox cannot run on this machine, whatever the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits that are checked before a pixel is decoded.

    max_bytes: size of the encoded file.
    max_pixels: width x height, read from the header; half of it for images that take twice the
        memory: WebP, AVIF, HEIC, transparency, CMYK, and more than 8 bits per channel. Pillow's own
        limit of 178,956,970 pixels holds whatever is set here.
    max_aspect: longer by shorter side. A 2000x3 image becomes 170,667x256 once it is resized.
    """

    max_bytes: int = 25 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_aspect: float = 20


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The image file. format: Pillow's name of it; width, height: pixels, upright."""

    format: str
    width: int
    height: int


def weight(width: int, height: int, *, heavy: bool) -> int:
    """Width x height, doubled for a `heavy` image, whose pixels take twice the usual memory."""
    return width * height * (2 if heavy else 1)
