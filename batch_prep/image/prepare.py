"""An image as the JPEG that a record stores, at more than twice the speed of Pillow alone.

Limits and encoder are those of droplens.imaging.prepare, and the decoder returns the same pixels:
exactly the same images are refused, and an endpoint receives what its model was trained on.
"""

from dataclasses import dataclass
from functools import partial

from cykooz_resizer import FilterType

from batch_prep.image import plain_jpeg
from batch_prep.image.fingerprint import fingerprint
from droplens.imaging.decode import decoder_errors_as_image_errors
from droplens.imaging.prepare import (
    ImageInfo,
    Limits,
    Preprocessing,
    encode,
    is_only_resized,
    prepare_with,
)
from droplens.imaging.vector_resize import resized

# The filter that an endpoint's images are resized with; rounding differs.
_LANCZOS = partial(resized, kind=FilterType.lanczos3)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as a record stores it.

    jpeg: the encoded file; width, height: pixels of the source image, upright; format: Pillow's
    name of the source's format; upscaled: whether the source was smaller than the stored image;
    fingerprint: for `near_duplicates.near_groups`.
    """

    jpeg: bytes
    width: int
    height: int
    format: str
    upscaled: bool
    fingerprint: bytes


def prepare(data: bytes, preprocessing: Preprocessing, limits: Limits) -> Prepared:
    """`data` as `droplens.imaging.prepare.prepare` prepares it, except for rounding in the resize.

    Of the pixels before they are encoded, 99.7 % are within 1 level of that function's (measured
    on photographs of cars); beside edges of black or white, where Lanczos overshoots and the two
    libraries clip at different times, a pixel may differ by 40. The bytes are the same on every
    processor. Thread-safe; nearly all of the work is done without Python's lock.

    Raises droplens.imaging.prepare.ImageError exactly where that function does.
    """
    with decoder_errors_as_image_errors():
        return _prepared(data, preprocessing, limits)


def _prepared(data: bytes, preprocessing: Preprocessing, limits: Limits) -> Prepared:
    decoded = None
    size = plain_jpeg.size_of(data) if len(data) <= limits.max_bytes else None
    if size is not None and is_only_resized(size, preprocessing, limits):
        decoded = plain_jpeg.decode(data)
    if decoded is not None:
        jpeg, image = encode(decoded, preprocessing, _LANCZOS)
        info = ImageInfo("JPEG", *decoded.size)
    else:
        jpeg, info, image = prepare_with(data, preprocessing, limits, _LANCZOS)
    return Prepared(
        jpeg,
        info.width,
        info.height,
        info.format,
        min(info.width, info.height) < preprocessing.shorter_side,
        fingerprint(image),
    )
