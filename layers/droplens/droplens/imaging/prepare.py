"""Preparation of untrusted image files: bytes in, an upright RGB image within limits out.

Packing, evaluation and classification all use this module, so that a model sees the same pixels
in training and inference. The structure of a file is scanned first; a plain one is decoded in this
process, any other in a process of its own (`imaging.sandbox`). No file of at most 25 MiB takes more
than 3 s of CPU time or 1 GiB of memory.
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
    resized,
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
    "prepare_pixels",
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
    """The first frame of `data` as an upright RGB image, transparency on white.

    shorter_side: pixels of the shorter side to which the caller will resize. A large JPEG is then
        scaled down while it is decoded, to no less than twice that size.
    isolated: decode in the sandbox even a plain file.

    Raises ImageError for anything that is not a complete image within `limits`.
    """
    return _decoded(_checked(data, limits), limits, shorter_side, isolated)


def prepare(
    data: bytes,
    preprocessing: Preprocessing,
    limits: Limits = Limits(),
    admit: Admission = nullcontext,
    *,
    isolated: bool = False,
) -> tuple[bytes, ImageInfo]:
    """`data` as the JPEG that a record stores and an endpoint receives.

    The shorter side is resized to exactly `preprocessing.shorter_side` by Lanczos, up or down. An
    upright baseline JPEG of that size is returned as it is, without its metadata, after it has been
    decoded completely: a prepared image is not encoded a second time.

    admit: called with the image's pixels as `limits.weight` counts them; returns a context that is
        entered once the image may be decoded, and held until it is encoded.
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
    """As `prepare`, resizing by `resize`; also returns the pixels before the encoding, RGB or L.

    resize: an RGB image to (width, height) pixels; not called for an image of that size.
    """
    structure = _checked(data, limits)
    with admit(structure.weight or limits.max_pixels), decoding.decoder_errors_as_image_errors():
        if isolated or not structure.plain:
            decoded, info = sandbox.decode(structure, limits, preprocessing.shorter_side)
            if structure.plain and _is_upright_and_prepared(structure, preprocessing, limits):
                return structure.data, info, decoded
        else:
            with decoding.opened(structure, limits) as image:
                if is_prepared(image, preprocessing) and decoding.loaded(image, structure) == 1:
                    decoding.check_not_cut(image, structure, None)
                    return structure.data, ImageInfo("JPEG", *image.size), image.copy()
                decoded, info = decoding.decoded(image, structure, preprocessing.shorter_side)
        jpeg, prepared = encode(decoded, preprocessing, resize)
    return jpeg, info, prepared


def prepare_pixels(
    data: bytes,
    preprocessing: Preprocessing,
    longer_side: int,
    limits: Limits,
    resize: Resize,
    admit: Admission = nullcontext,
    *,
    isolated: bool = False,
) -> tuple[Image.Image, ImageInfo]:
    """The pixels that `prepare_with` encodes, RGB, for a caller that resizes them once more.

    longer_side: in pixels, of what the caller makes of them. A prepared JPEG is decoded as `decode`
    does it for that size, as in training, so that it gives the very same pixels.
    """
    structure = _checked(data, limits)
    with admit(structure.weight or limits.max_pixels), decoding.decoder_errors_as_image_errors():
        prepared = structure.format == "JPEG" and _is_upright_and_prepared(
            structure, preprocessing, limits
        )
        side = longer_side if prepared else preprocessing.shorter_side
        decoded, info = _decoded(structure, limits, side, isolated)
        return decoded if prepared else resized(decoded, preprocessing, resize), info


def _decoded(
    structure: Structure, limits: Limits, shorter_side: int | None, isolated: bool
) -> tuple[Image.Image, ImageInfo]:
    if isolated or not structure.plain:
        return sandbox.decode(structure, limits, shorter_side)
    with decoding.decoder_errors_as_image_errors(), decoding.opened(structure, limits) as image:
        return decoding.decoded(image, structure, shorter_side)


def _is_upright_and_prepared(
    structure: Structure, preprocessing: Preprocessing, limits: Limits
) -> bool:
    """From the header alone, which Pillow reads without decoding anything."""
    with decoding.opened(structure, limits) as image:
        return structure.orientation == UPRIGHT and is_prepared(image, preprocessing)


def _checked(data: bytes, limits: Limits) -> Structure:
    """The file's structure. Raises ImageError where it is beyond the limits."""
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
