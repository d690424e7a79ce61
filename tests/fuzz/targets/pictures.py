"""Pictures: through `prepare` as packing and answering call it, and each decoder by itself.

What ends a decoder is that picture's and no find where it is decoded apart. So the decoders are
also run here without their sandbox, in the fuzzer's own child, which tells of every signal.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import Image, ImageCms

from batch_prep.image.prepare import prepare as pack
from droplens.imaging import decode as decoding
from droplens.imaging.prepare import ImageError, Limits, Preprocessing, prepare
from droplens.imaging.structure import structure_of
from tests.fuzz.engine import Target
from tests.support import hostile_images
from tests.support.photos import HEIC, heic

PREPROCESSING = Preprocessing(shorter_side=96)
# A mutant whose header declares a hundred megapixels is decoded like one of four, only for longer.
LIMITS = Limits(max_pixels=4_000_000)


def seeds() -> Mapping[str, bytes]:
    """Every format, each with what metadata it may have."""
    photo = Image.effect_mandelbrot((64, 48), (-2, -1.2, 0.6, 1.2), 60).convert("RGB")
    found = {**hostile_images.sound(), **{f"heic {name}": heic(name) for name in HEIC}}
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "Maker", 72.0
    exif[0x8769] = {0x9003: "2026", 0x829A: (1, 50), 0x927C: b"Nikon\0" + bytes(40)}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"sRGB", b"mine")
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        if kind != "TIFF":  # whose EXIF is its own directory
            found[f"{kind} turned"] = _encoded(photo, kind, exif=exif)
        found[f"{kind} with a profile"] = _encoded(photo, kind, icc_profile=profile)
    for compression in ("jpeg", "tiff_adobe_deflate", "packbits"):
        found[f"tiff {compression}"] = _encoded(photo, "TIFF", compression=compression)
    found["tiff group4"] = _encoded(photo.convert("1"), "TIFF", compression="group4")
    return found


def _prepared(data: bytes) -> None:
    pack(data, PREPROCESSING, LIMITS)
    prepare(data, PREPROCESSING, LIMITS)


def _decoded(data: bytes) -> None:
    if not data:
        return
    structure = structure_of(data)
    with decoding.decoder_errors_as_image_errors(), decoding.opened(structure, LIMITS) as picture:
        decoding.decoded(picture, structure, None)


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


TARGETS = (
    Target("pictures", seeds, _prepared, (ImageError,)),
    Target("decoders", seeds, _decoded, (ImageError,)),
    Target("image-structure", seeds, structure_of, (ImageError,)),
)
