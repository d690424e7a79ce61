"""Pictures from strangers: hostile bytes in, an upright RGB picture within limits out.

Packing, measuring and answering all come through here, so that a model is asked with the very
pixels that it was trained on. A file's structure is looked through first; what is plain is decoded
in this process, the rest in one of its own (`imaging.sandbox`). No file of at most 25 MiB takes
more than 3 s of a core or 1 GiB.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from PIL import Image

from droplens.imaging import decode as decoding
from droplens.imaging import sandbox
from droplens.imaging.exif import UPRIGHT
from droplens.imaging.limits import (
    CODES,
    FORMATS,
    ImageError,
    ImageInfo,
    Limits,
)
from droplens.imaging.preprocess import (
    Preprocessing,
    Resize,
    encode,
    is_only_resized,
    is_prepared,
    lanczos,
)
from droplens.imaging.structure import Structure, structure_of

__all__ = [
    "CODES",
    "FORMATS",
    "ImageError",
    "ImageInfo",
    "Limits",
    "Preprocessing",
    "decode",
    "encode",
    "is_only_resized",
    "prepare",
    "prepare_with",
]

Admission = Callable[[int], AbstractContextManager[object]]


def decode(
    data: bytes,
    limits: Limits = Limits(),
    shorter_side: int | None = None,
    *,
    isolated: bool = False,
) -> tuple[Image.Image, ImageInfo]:
    """The first frame of `data` as an upright RGB picture, transparency on white.

    shorter_side: pixels that the caller will shrink the shorter side to. It lets a large JPEG be
        shrunk while it is decoded, to no less than twice that size.
    isolated: not in this process, however plain it is.

    Raises ImageError for anything that is not a whole picture within `limits`.
    """
    structure = _checked(data, limits)
    if isolated or not structure.plain:
        return sandbox.decode(structure, limits, shorter_side)
    with decoding.decoder_errors_as_image_errors(), decoding.opened(structure, limits) as picture:
        return decoding.decoded(picture, structure, shorter_side)


def prepare(
    data: bytes,
    preprocessing: Preprocessing,
    limits: Limits = Limits(),
    admit: Admission = nullcontext,
    *,
    isolated: bool = False,
) -> tuple[bytes, ImageInfo]:
    """`data` as the JPEG that a record stores and an endpoint is asked with.

    The shorter side is brought to exactly `preprocessing.shorter_side` by Lanczos, up or down. An
    upright baseline JPEG that has that size already passes through byte for byte but for its
    metadata, once it has been decoded whole, so that what was prepared once is not encoded a
    second time.

    admit: given the number of the picture's pixels, as `weight` counts them, lets it in to be
        decoded once there is admit.
    isolated: as in `decode`.

    Raises ImageError as `decode` does.
    """
    jpeg, info, _ = prepare_with(data, preprocessing, limits, lanczos, admit, isolated=isolated)
    return jpeg, info


def prepare_with(
    data: bytes,
    preprocessing: Preprocessing,
    limits: Limits,
    resize: Resize,
    admit: Admission = nullcontext,
    *,
    isolated: bool = False,
) -> tuple[bytes, ImageInfo, Image.Image]:
    """As `prepare`, resizing by `resize`; third come the pixels before they are encoded, RGB or L.

    resize: an RGB picture to (width, height) pixels, called only where that is a change.
    """
    structure = _checked(data, limits)
    with admit(structure.weight or limits.max_pixels), decoding.decoder_errors_as_image_errors():
        if isolated or not structure.plain:
            decoded, info = sandbox.decode(structure, limits, preprocessing.shorter_side)
            if structure.plain and _is_upright_and_prepared(structure, preprocessing, limits):
                return structure.data, info, decoded
        else:
            with decoding.opened(structure, limits) as picture:
                if is_prepared(picture, preprocessing) and decoding.loaded(picture, structure) == 1:
                    decoding.check_not_cut(picture, structure, None)
                    return structure.data, ImageInfo("JPEG", *picture.size), picture.copy()
                decoded, info = decoding.decoded(picture, structure, preprocessing.shorter_side)
        jpeg, prepared = encode(decoded, preprocessing, resize)
    return jpeg, info, prepared


def _is_upright_and_prepared(
    structure: Structure, preprocessing: Preprocessing, limits: Limits
) -> bool:
    """By its header alone, which Pillow reads without decoding anything."""
    with decoding.opened(structure, limits) as picture:
        return structure.orientation == UPRIGHT and is_prepared(picture, preprocessing)


def _checked(data: bytes, limits: Limits) -> Structure:
    """What the file's bytes and its header say, once that is within the limits."""
    if not data:
        raise ImageError("image.empty", "the file is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageError(
            "image.too_large",
            f"the file has {len(data):,} bytes, the limit is {limits.max_bytes:,}",
        )
    structure = structure_of(data)
    if structure.width and structure.height:
        heavy = structure.weight > structure.width * structure.height
        decoding.check_size(structure.width, structure.height, limits, heavy=heavy)
    return structure
