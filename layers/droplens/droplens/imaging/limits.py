"""What a picture may be, and how it is said that one is not."""

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
# The decoders of these keep canvases of their own: 20 and 16 bytes for each pixel, where no other
# format was seen to take more than 13.
HEAVY_FORMATS = ("WEBP", "AVIF", "HEIF")


class ImageError(Exception):
    """The picture cannot be used. code: one of CODES; message: a sentence for its owner."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class SandboxError(RuntimeError):
    """The sandbox itself does not work here: no picture's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused before a pixel of it is decoded.

    max_bytes: size of the encoded file.
    max_pixels: width x height, read from the header; half of it for what takes twice the memory: a
        WebP, AVIF or HEIC, transparency, CMYK, and more than 8 bits a colour. Pillow's own guard
        stands above it: 178,956,970 pixels are refused whatever is set here.
    max_aspect: longer by shorter side. A 2000x3 strip becomes 170,667x256 once it is resized.
    """

    max_bytes: int = 25 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_aspect: float = 20


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The picture as it came. format: Pillow's name of it; width, height: pixels, upright."""

    format: str
    width: int
    height: int


def weight(width: int, height: int, *, heavy: bool) -> int:
    """A picture's pixels, in the memory that those of most take. heavy: it takes twice as much."""
    return width * height * (2 if heavy else 1)
